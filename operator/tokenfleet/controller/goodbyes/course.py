"""How many engines are to run right now, and which of them say goodbye: between what is wanted and what is there. Pure.

What is wanted may fall at once; the engines' Deployments follow only as their pods have drained. Suspension, autoscaling,
`kubectl scale` and a node that is taken away all come to a count and to marks on pods here, and nowhere else. Where prompts
have pods of their own, those and the others drain each by their own requests.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.controller import moments, pods
from tokenfleet.controller.actuators import handover
from tokenfleet.controller.goodbyes.draining import Company, Goodbye, say_goodbye
from tokenfleet.controller.goodbyes.gates import gates
from tokenfleet.controller.goodbyes.marks import Mark
from tokenfleet.controller.goodbyes.replicas import Hearing, Replica, in_flight, replicas_of
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.resources.disaggregation import DECODE, PREFILL, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What to do about the engine pods of one LLMDeployment."""

    replicas: Mapping[str, int]
    """By role: the count of that Deployment from now on."""
    marks: tuple[Mark, ...] = ()
    """To set before the counts change."""
    releases: tuple[Mark, ...] = ()
    """To take away after that: meanwhile a ReplicaSet that still has pods to take must take no other."""
    in_use: tuple[str, ...] = ()
    """Pods whose readiness gate is to be opened: routers use them."""
    draining: tuple[Json, ...] = ()
    """As status.draining."""
    watches_load: bool = False
    """Something here goes on as soon as the routers tell of another load."""
    again_after: float | None = None
    """Seconds after which time alone makes a difference."""


NONE: Final = Course(replicas={})


def wanted_replicas(observed: Observed, spec: LLMDeploymentSpec) -> int:
    """Engines that are to answer, once all goodbyes are said."""
    if spec.suspend:
        return 0
    if spec.autoscaling is None:
        return spec.replicas
    if handover.external(spec) is not None:
        return handover.wanted(observed, spec, decides=handover.decides(observed))
    if observed.wanted is not None:
        return observed.wanted
    before = ((observed.owner.get("status") or {}).get("scaling") or {}).get("desired")
    return spec.replicas if before is None else int(before)


def settle(observed: Observed, spec: Spec, *, now: str) -> Course:
    """The course of an LLMDeployment; of an LLMRouter there is none. now: RFC 3339 in UTC."""
    if not isinstance(spec, LLMDeploymentSpec):
        return NONE
    hearing = Hearing.of(observed, now=moments.seconds(now))
    engines = _engines(observed)
    wanted = wanted_replicas(observed, spec)
    goodbyes = {part: _goodbye(observed, spec, part, part.replicas(spec, wanted), hearing) for part in (DECODE, PREFILL)}
    opening = gates(observed, engines, hearing)
    rows = _rows(observed, engines, (one for goodbye in goodbyes.values() for one in goodbye.leaving), spec, hearing)
    waits = [opening.again_after, *(goodbye.again_after for goodbye in goodbyes.values())]
    return Course(
        replicas={part.role: goodbye.count for part, goodbye in goodbyes.items()},
        marks=tuple(mark for goodbye in goodbyes.values() for mark in goodbye.marks),
        releases=tuple(mark for goodbye in goodbyes.values() for mark in goodbye.releases),
        in_use=opening.to_open,
        draining=tuple(sorted(rows, key=lambda row: str(row["pod"]))),
        watches_load=opening.waiting or any(wait is not None for wait in waits) or bool(rows),
        again_after=min((wait for wait in waits if wait is not None), default=None),
    )


def keep(observed: Observed, *, now: str) -> Course:
    """Where the spec cannot be run: all stays as it is, and a pod that came in another's place counts as ever."""
    opening = gates(observed, _engines(observed), Hearing.of(observed, now=moments.seconds(now)))
    return Course(replicas={}, in_use=opening.to_open, watches_load=opening.waiting, again_after=opening.again_after)


def _engines(observed: Observed) -> list[Json]:
    return [pod for pod in observed.pods if pods.is_engine(pod)]


def _goodbye(observed: Observed, spec: LLMDeploymentSpec, part: Part, wanted: int, hearing: Hearing) -> Goodbye:
    """Of one part. Pods of a Deployment that is not ours, or is being deleted, are left alone."""
    live = observed.children.get(("Deployment", part.child(observed.name)))
    if live is not None and not _is_ours(live, observed):
        return Goodbye(count=wanted)
    own = (pod for pod in observed.pods if (pods.role(pod), pods.track(pod)) == (part.role, contract.TRACK_STABLE))
    company = Company(
        replicas=replicas_of(observed, own),
        live=None if live is None else int((live.get("spec") or {}).get("replicas") or 0),
        wanted=wanted,
        surge=spec.rollout.max_surge,
        timeout=spec.drain.timeout_seconds,
    )
    return say_goodbye(company, hearing)


def _is_ours(live: Json, observed: Observed) -> bool:
    """Or orphaned, and about to be taken back."""
    metadata = live["metadata"]
    controllers = {one.get("uid") for one in metadata.get("ownerReferences") or () if one.get("controller")}
    return controllers <= {observed.uid} and "deletionTimestamp" not in metadata


def _rows(
    observed: Observed, engines: Iterable[Json], leaving: Iterable[Replica], spec: LLMDeploymentSpec, hearing: Hearing
) -> list[Json]:
    """status.draining: those that are marked, and those that are being deleted and may have requests."""
    deadline = moments.rfc3339(hearing.now + spec.drain.timeout_seconds)
    marked = [
        _row(one.name, one.in_flight, deadline if one.deadline is None else moments.rfc3339(one.deadline)) for one in leaving
    ]
    return [*marked, *_going(observed, engines)]


def _going(observed: Observed, engines: Iterable[Json]) -> Iterator[Json]:
    for pod in engines:
        running = in_flight(observed, str(pod["metadata"]["name"]))
        if pods.is_going(pod) and pods.has_begun(pod) and running != 0:
            yield _row(str(pod["metadata"]["name"]), running, str(pod["metadata"]["deletionTimestamp"]))


def _row(name: str, running: int | None, deadline: str) -> Json:
    return {"pod": name, **({} if running is None else {"inFlight": running}), "deadline": deadline}
