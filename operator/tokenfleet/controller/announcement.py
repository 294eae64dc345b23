"""Kubernetes Events: what a person who looks at `kubectl describe` should hear of, and nothing else. Pure.

Only turns of the Ready condition are told, read off the old status and the new one, so that neither a restart nor the next
reconcile repeats them. That pods are being made and models loaded is the ordinary course, and is in the status anyway.
"""

from typing import Final

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.controller.observed import Json

_ORDINARY: Final = frozenset(
    {
        conditions.CREATING,
        conditions.FETCHING_MODEL,
        conditions.LOADING_MODEL,
        conditions.ROUTER_STARTING,
        conditions.SCALED_TO_ZERO,
        conditions.UPDATING,
    }
)
_MESSAGE_LENGTH: Final = 1000
"""The API server takes 1024 bytes."""


def announcement(owner: Json, *, before: Json | None, after: Json, now: str, reporter: str) -> Json | None:
    """The Event about the change of an owner's status, or None where there is nothing to tell."""
    old, new = _ready(before or {}), _ready(after)
    was_ready, is_ready = old.get("status") == "True", new.get("status") == "True"
    if is_ready:
        if was_ready:
            return None
        kind, reason = "Normal", conditions.READY
    else:
        reason = new.get("reason", "")
        if not was_ready and (reason in _ORDINARY or reason == old.get("reason")):
            return None
        kind = "Normal" if reason in _ORDINARY else "Warning"
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
        "type": kind,
        "reason": reason,
        "message": _shortened(new.get("message", "")),
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
