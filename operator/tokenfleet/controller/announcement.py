"""Kubernetes Events: what a person who looks at `kubectl describe` should hear of, and nothing else. Pure.

Only turns are told, of the Ready condition, of a canary and of the wanted count, read off the old status and the new one, so
that neither a restart nor the next reconcile repeats them. That pods are being made and models loaded is the ordinary course,
and is in the status anyway.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.controller.observed import Json
from tokenfleet.controller.rollouts.canary import PROGRESSING, PROMOTING, ROLLED_BACK

CANARY_STARTED: Final = "CanaryStarted"
CANARY_STEP: Final = "CanaryStep"
CANARY_PROMOTING: Final = "CanaryPromoting"
CANARY_PROMOTED: Final = "CanaryPromoted"
CANARY_WITHDRAWN: Final = "CanaryWithdrawn"
WAKING: Final = "Waking"
AWAKE: Final = "Awake"
ASLEEP: Final = "Asleep"
SCALED_UP: Final = "ScaledUp"
SCALED_DOWN: Final = "ScaledDown"

_ORDINARY: Final = frozenset(
    {
        conditions.CREATING,
        conditions.FETCHING_MODEL,
        conditions.INSPECTING_MODEL,
        conditions.LOADING_MODEL,
        conditions.ROUTER_STARTING,
        conditions.SCALED_TO_ZERO,
        conditions.UPDATING,
    }
)
_MESSAGE_LENGTH: Final = 1000
"""The API server takes 1024 bytes."""


@dataclass(frozen=True, slots=True)
class News:
    """One turn."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def announcements(owner: Json, *, before: Json | None, after: Json, now: str, reporter: str) -> list[Json]:
    """The Events about the change of an owner's status."""
    was = before or {}
    told = [
        *_of_ready(was, after),
        *_of_rollout(was.get("rollout"), after.get("rollout")),
        *_of_scaling(was.get("scaling") or {}, after.get("scaling") or {}),
    ]
    return [event(owner, news, now=now, reporter=reporter) for news in told]


def _of_ready(before: Json, after: Json) -> Iterator[News]:
    old, new = _ready(before), _ready(after)
    was_ready, is_ready = old.get("status") == "True", new.get("status") == "True"
    message = new.get("message", "")
    if is_ready:
        if not was_ready:
            yield News("Normal", conditions.READY, message)
        return
    reason = new.get("reason", "")
    if was_ready or (reason not in _ORDINARY and reason != old.get("reason")):
        yield News("Normal" if reason in _ORDINARY else "Warning", reason, message)


def _of_rollout(before: Json | None, after: Json | None) -> Iterator[News]:
    """Of a canary: its begin, each step, and its end."""
    if after is None:
        if before is not None and before["phase"] == PROMOTING:
            yield News("Normal", CANARY_PROMOTED, f"All engines are of revision {before['revision']}.")
        elif before is not None and before["phase"] == PROGRESSING:
            yield News("Normal", CANARY_WITHDRAWN, f"Revision {before['revision']} is on trial no more. Its pod goes.")
        return
    place = (after["phase"], after["revision"], after["step"])
    if before is not None and place == (before["phase"], before["revision"], before["step"]):
        return
    message = f"Revision {after['revision']}: {after['message']}"
    if after["phase"] == ROLLED_BACK:
        yield News("Warning", conditions.CANARY_ROLLED_BACK, message)
    elif after["phase"] == PROMOTING:
        yield News("Normal", CANARY_PROMOTING, message)
    else:
        yield News("Normal", CANARY_STEP if after["step"] else CANARY_STARTED, message)


def _of_scaling(before: Json, after: Json) -> Iterator[News]:
    """Of each decision that is new, the oldest first."""
    known = before.get("history") or []
    for item in reversed([item for item in after.get("history") or [] if item not in known]):
        was, count = item["before"], item["after"]
        if not count:
            reason = ASLEEP
        elif not was:
            reason = WAKING
        else:
            reason = SCALED_UP if count > was else SCALED_DOWN
        yield News("Normal", reason, f"From {was} to {count} replicas: {item['message']} ({item['reason']})")


def event(owner: Json, news: News, *, now: str, reporter: str) -> Json:
    """As the API server takes it."""
    metadata = owner["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": contract.API_VERSION,
            "kind": owner["kind"],
            **{name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
        },
        "type": news.type,
        "reason": news.reason,
        "message": _shortened(news.message),
        "source": {"component": contract.FIELD_MANAGER},
        "reportingComponent": contract.FIELD_MANAGER,
        "reportingInstance": reporter,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _ready(status: Json) -> Json:
    return next((each for each in status.get("conditions") or () if each["type"] == conditions.READY), {})


def _shortened(message: str) -> str:
    data = message.encode()
    return message if len(data) <= _MESSAGE_LENGTH else f"{data[: _MESSAGE_LENGTH - 4].decode(errors='ignore')} ..."
