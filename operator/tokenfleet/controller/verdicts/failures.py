"""Why a container of ours ended, as a reason and words; and `status.lastFailure`, which outlives the pod.

The engine leaves {"reason", "message"} as its termination message where it knows why; the kernel's kill is known by its name
or signal; anything else is quoted by its last lines. A pod that is being deleted ends on request, so its end is no failure.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.controller import pods
from tokenfleet.controller.observed import Json
from tokenfleet.controller.wording import tail

_TOLD = frozenset(
    {
        contract.REASON_MODEL_NOT_FOUND,
        contract.REASON_MODEL_INVALID,
        contract.REASON_MODEL_ACCESS_DENIED,
        contract.REASON_MODEL_STORE_UNREACHABLE,
        contract.REASON_DISK_FULL,
        contract.REASON_ENGINE_CONFIG_INVALID,
        contract.REASON_ENGINE_START_FAILED,
        contract.REASON_ENGINE_CRASHED,
        contract.REASON_OUT_OF_MEMORY,
    }
)
"""Reasons that an engine, or what fetches its model, may give for its own end."""
_NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
_KILLED = 137
_CUT_NOTE = re.compile(r'\{"reason": "(?P<reason>\w+)", "message": "')
_LONGEST_ESCAPE = 6
"""Characters of \\uffff, of which the cut may have left some."""
_NOUN = {
    contract.CONTAINER_ENGINE: "engine",
    contract.CONTAINER_ROUTER: "router",
    contract.CONTAINER_FETCH: "download of the model",
    contract.CONTAINER_INSPECTION: "inspection of the model",
}
"""What our own containers are called; others are named."""
_MORE_MEMORY = {
    contract.CONTAINER_ENGINE: "give it more by spec.engine.resources.limits.memory, or lower spec.engine.maxModelLen "
    "or spec.engine.batching",
    contract.CONTAINER_FETCH: "give it more by spec.podTemplate (initContainers: name fetch, resources.limits.memory)",
    contract.CONTAINER_INSPECTION: "raise the default that a LimitRange of the namespace gives it",
    contract.CONTAINER_ROUTER: "share its load by a larger spec.router.replicas",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One end of one container, or of a whole pod."""

    pod: str
    reason: str
    message: str
    exit_code: int | None = None
    time: str = ""
    """RFC 3339, in UTC, so that later is greater; empty where unknown."""

    def as_status(self) -> Json:
        """As status.lastFailure."""
        status: Json = {"pod": self.pod, "reason": self.reason, "message": self.message}
        if self.exit_code is not None:
            status["exitCode"] = self.exit_code
        if self.time:
            status["time"] = self.time
        return status


def last_failure(observed_pods: Iterable[Json], *, previous: Json | None) -> Json | None:
    """The newest failure of these pods and of the one that the status had before."""
    known = max((failure for pod in observed_pods for failure in failures_of(pod)), key=lambda f: (f.time, f.pod), default=None)
    if known is None or (previous is not None and previous.get("time", "") > known.time):
        return previous
    return known.as_status()


def failures_of(pod: Json) -> Iterator[Failure]:
    """Every failure that the pod's status tells of: of each container the last two ends at most, and the pod's own."""
    for status in pods.containers(pod):
        ends = [(status.get("lastState") or {}).get("terminated")]
        if not pods.is_going(pod):
            ends.append((status.get("state") or {}).get("terminated"))
        yield from (explain(pod, status, end) for end in ends if end is not None and not is_done(pod, status, end))
    if (failure := _pod_failure(pod)) is not None:
        yield failure


def end_of(status: Json) -> Json | None:
    """How the container ended last."""
    now = (status.get("state") or {}).get("terminated")
    return now or (status.get("lastState") or {}).get("terminated")


def explain(pod: Json, status: Json, end: Json) -> Failure:
    """`end` is the `terminated` of a container's status."""
    name, exit_code = status["name"], end.get("exitCode")
    reason, message = _explain(name, end)
    return Failure(
        pod=pod["metadata"]["name"],
        reason=reason,
        message=message if name in _NOUN else f"Container {name}: {message}",
        exit_code=exit_code,
        time=end.get("finishedAt") or "",
    )


def _explain(name: str, end: Json) -> tuple[str, str]:
    word, text, exit_code = end.get("reason") or "", (end.get("message") or "").strip(), end.get("exitCode")
    note, memory = _note(text), _MORE_MEMORY.get(name, "give it more by spec.podTemplate")
    noun = _NOUN.get(name, name)
    if word == "OOMKilled" or (word in _NOT_STARTED and "OOM-killed" in text):
        return conditions.OUT_OF_MEMORY, f"The kernel killed the {noun} at its memory limit: {memory}."
    if note is not None:
        return note
    if exit_code == _KILLED and word in ("", "Error"):
        return conditions.OUT_OF_MEMORY, (
            f"The {noun} was killed by signal 9, which is how a node short of memory ends a process: {memory}."
        )
    if word in _NOT_STARTED:
        return conditions.CONTAINER_CONFIG_INVALID, f"The {noun} could not be started: {tail(text) or word}"
    lines = f"Its last lines: {tail(text)}" if text else "It left no log."
    return conditions.ENGINE_CRASHED, f"The {noun} ended with exit code {exit_code}. {lines}"


def _note(text: str) -> tuple[str, str] | None:
    """Its own word for its end, if it left one that we know."""
    if not text.startswith("{"):
        return None
    try:
        note = json.loads(text)
    except ValueError:
        note = _mended(text)
    if note.get("reason") not in _TOLD or not isinstance(note.get("message"), str):
        return None
    return note["reason"], note["message"]


def _mended(text: str) -> Json:
    """A note that was cut: where a pod has many containers, the kubelet keeps less of what each one leaves."""
    if (cut := _CUT_NOTE.match(text)) is None:
        return {}
    for end in range(len(text), max(cut.end(), len(text) - _LONGEST_ESCAPE), -1):
        with suppress(ValueError):
            return {"reason": cut["reason"], "message": json.loads(f'"{text[cut.end() : end]}…"')}
    return {}


def is_done(pod: Json, status: Json, end: Json) -> bool:
    """An init container's end without an error is what it is for."""
    init = (pod.get("status") or {}).get("initContainerStatuses") or []
    return end.get("exitCode") == 0 and any(item["name"] == status["name"] for item in init)


def _pod_failure(pod: Json) -> Failure | None:
    """Of a pod that the kubelet gave up as a whole: evicted, or refused when it came to the node."""
    status = pod.get("status") or {}
    if pods.phase(pod) != "Failed" or not status.get("reason") or pods.is_going(pod):
        return None
    changes = [item.get("lastTransitionTime") or "" for item in status.get("conditions") or []]
    return Failure(
        pod=pod["metadata"]["name"],
        reason=status["reason"],
        message=status.get("message") or f"The kubelet ended the pod: {status['reason']}",
        time=max([*changes, status.get("startTime") or ""]),
    )
