"""Where an LLMDeployment stands between an unknown model and a verdict, and so what of its children may be applied. Pure.

A change of the engines waits for the inspection of its model while that goes on as it should, and not for long; it waits for
good where the model does not fit. Whatever keeps the inspection from its end holds nothing up: then the engine will say.
Figures are estimates, so engines of this very spec that serve are believed instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.controller import moments
from tokenfleet.controller.inspections import engines, progress, subject
from tokenfleet.controller.inspections.judgement import judge, unknown
from tokenfleet.controller.observed import ChildKey, Json, Observed
from tokenfleet.controller.resources.inspection import build_inspection
from tokenfleet.controller.wording import sentence
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.settings import ControllerSettings

_SOON: Final = 2 / 3
"""Of the seconds that are left: the queue spreads what it is told by up to half, and engines are to wait no longer."""
_AGAIN_SECONDS: Final = 0.5
"""At least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a model fits, for the status."""

    verdict: Verdict
    """ModelFits."""
    memory: Json | None = None
    """As status.memory."""
    waits: tuple[str, str] | None = None
    """What engines wait for that are to be made or changed: reason and message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What `assess` came to."""

    children: tuple[Json, ...]
    """To apply."""
    fit: Fit | None = None
    """None: nobody asks."""
    again_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    verdict: Verdict
    memory: Json | None = None
    job: Json | None = None
    """The inspection's, where it is to be there."""
    holds: bool = False
    again_after: float | None = None


def assess(
    observed: Observed,
    spec: Spec,
    wanted: Sequence[Json],
    settings: ControllerSettings,
    *,
    ours: frozenset[ChildKey],
    now: str,
) -> Assessment:
    """wanted: the children as the spec makes them. ours: those that are there and this owner's. now: RFC 3339 in UTC."""
    if not isinstance(spec, LLMDeploymentSpec) or not settings.inspect_seconds or find_accelerator(spec.accelerator).simulated:
        return Assessment(children=tuple(wanted))
    standing = _standing(observed, spec, settings, ours=ours, now=now)
    if standing.verdict.status == "False" and engines.serve(observed, wanted, ours=ours):
        standing = replace(standing, verdict=_believed(standing.verdict), holds=False)
    held = engines.hold(observed, wanted, ours=ours) if standing.holds else engines.Held(children=tuple(wanted), changes=False)
    waits = _waits(standing.verdict) if held.changes else None
    return Assessment(
        children=held.children if standing.job is None else (standing.job, *held.children),
        fit=Fit(verdict=standing.verdict, memory=standing.memory, waits=waits),
        again_after=standing.again_after,
    )


def _standing(
    observed: Observed, spec: LLMDeploymentSpec, settings: ControllerSettings, *, ours: frozenset[ChildKey], now: str
) -> _Standing:
    of, accelerator = subject.digest_of(observed.owner), find_accelerator(spec.accelerator)
    known = subject.known(observed)
    judged = None if known is None else judge(spec, accelerator, known)
    if judged is not None and subject.is_kept(observed):
        return _Standing(verdict=judged.verdict, memory=judged.memory, holds=not judged.fits)
    job = build_inspection(observed.owner, spec, settings, accelerator, of=of)
    if judged is not None:  # The status comes before the engines. Until it holds what was read, the Job's log is all there is.
        return _Standing(verdict=judged.verdict, memory=judged.memory, job=job, holds=True, again_after=0.0)
    return _unknown(observed, job, settings, of=of, ours=ours, now=now)


def _unknown(
    observed: Observed, job: Json, settings: ControllerSettings, *, of: str, ours: frozenset[ChildKey], now: str
) -> _Standing:
    """While an inspection is under way, or came to nothing."""
    key = (job["kind"], job["metadata"]["name"])
    live, told = observed.children.get(key), _told_before(observed)
    going_on = _Standing(verdict=told or _under_way(job), job=job, holds=told is None)
    if live is None:  # It is about to be made.
        return going_on
    if key not in ours:
        return _Standing(verdict=not_inspected(f"The name of its Job, {key[1]}, is not free."), job=job)
    trouble = observed.unread or progress.trouble(live, progress.pods_of(observed, of=of))
    at = moments.seconds(now)
    over = progress.over_since(live)
    if over is not None and (rest := over + progress.AGAIN_SECONDS - at) <= 0:
        return _Standing(verdict=not_inspected(trouble or "Its log cannot be read."))
    if trouble:
        return _Standing(
            verdict=not_inspected(trouble), job=job, again_after=None if over is None else max(_AGAIN_SECONDS, rest)
        )
    left = moments.seconds(live["metadata"]["creationTimestamp"]) + settings.inspect_seconds - at
    if left <= 0:
        return _Standing(verdict=told or not_inspected(f"It takes longer than {settings.inspect_seconds} s."), job=job)
    return replace(going_on, again_after=max(_AGAIN_SECONDS, left * _SOON) if going_on.holds else None)


def not_inspected(why: str) -> Verdict:
    """The inspection came to nothing, or not yet to anything; why: sentences."""
    return unknown(
        conditions.MODEL_NOT_INSPECTED,
        f"Whether the model fits is not known, since its files were not inspected. {sentence(why)} "
        "The engine is started, and will say; the inspection is tried again.",
    )


def _under_way(job: Json) -> Verdict:
    metadata = job["metadata"]
    return unknown(
        conditions.INSPECTING_MODEL,
        "A pod reads what the model is, to tell whether it fits, before an engine is made. "
        f"kubectl -n {metadata['namespace']} describe job {metadata['name']} shows how far it is.",
    )


def _told_before(observed: Observed) -> Verdict | None:
    """ModelFits as it stands, where it says of this very spec that its model is not inspected: nothing waits for that again.

    By this a Job that the API server refuses, and one that is made anew, hold nothing up.
    """
    found = (observed.owner.get("status") or {}).get("conditions") or ()
    told: Json = next((each for each in found if each.get("type") == conditions.MODEL_FITS), {})
    same = told.get("observedGeneration") == observed.owner["metadata"].get("generation")
    if not same or told.get("reason") != conditions.MODEL_NOT_INSPECTED:
        return None
    return unknown(conditions.MODEL_NOT_INSPECTED, str(told.get("message")))


def _believed(verdict: Verdict) -> Verdict:
    message = f"Engines of this very spec serve, so it does, although planning comes to another end. {verdict.message}"
    return Verdict(status="True", reason=conditions.AS_EXPECTED, message=message)


def _waits(verdict: Verdict) -> tuple[str, str]:
    if verdict.status == "False":
        return verdict.reason, "No engine is made or changed by this spec, since the model does not fit; see ModelFits."
    if verdict.reason == conditions.INSPECTING_MODEL:
        return verdict.reason, verdict.message
    return conditions.INSPECTING_MODEL, "What the model is was read just now, so engines are made or changed next."
