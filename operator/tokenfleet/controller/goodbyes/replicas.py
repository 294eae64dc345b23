"""An engine pod as its goodbye looks at it: where a ReplicaSet would take it, what it carries, and what routers say of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenfleet.controller import moments, pods
from tokenfleet.controller.goodbyes import marks, notices
from tokenfleet.controller.observed import Json, Observed

NO_WORD_SECONDS = 15.0
"""So long without the word of all routers, and a goodbye goes on by what is known: the engine itself waits for its requests."""

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}

Standing = tuple[bool, int, bool]
"""By this a ReplicaSet chooses first, the lowest to go: on a node, how far its phase is, ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """What the routers let know at a moment, in seconds since 1970."""

    now: float
    complete: bool
    unheard_since: float
    """Since when it is not complete."""

    @classmethod
    def of(cls, observed: Observed, *, now: float) -> "Hearing":
        complete = observed.load is not None and observed.load.complete
        since = moments.seconds(observed.unheard_since) if observed.unheard_since is not None else 0.0
        return cls(now=now, complete=complete, unheard_since=since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One that is active."""

    name: str
    uid: str
    created: str
    template: str
    standing: Standing
    routable: bool
    """Routers give it new requests, or would, were it not marked."""
    begun: bool
    """Its engine came through its start: before that it has no request."""
    in_flight: int | None
    """None: not known."""
    drained: bool
    """All routers know that it drains, and have nothing in flight there."""
    doomed: bool
    deadline: float | None
    """It is marked as draining until then."""
    noticed: float | None
    cost: int

    @property
    def marked(self) -> bool:
        return self.deadline is not None

    def is_done(self, hearing: Hearing, *, timeout: float) -> bool:
        """Whether it may be taken away: nothing is in flight there, or its time is over."""
        if not self.begun:
            return True
        if self.deadline is None:
            return False
        if hearing.now >= self.deadline:
            return True
        if hearing.complete:
            return self.drained
        return not self.in_flight and self.wait(hearing, timeout=timeout) <= 0

    def wait(self, hearing: Hearing, *, timeout: float) -> float:
        """Seconds until something changes though nobody tells anything. `timeout`: what its deadline was given."""
        assert self.deadline is not None
        left = self.deadline - hearing.now
        if hearing.complete or self.in_flight:
            return left
        return min(left, max(self.deadline - timeout, hearing.unheard_since) + NO_WORD_SECONDS - hearing.now)


def replicas_of(observed: Observed, candidates: Iterable[Json]) -> list[Replica]:
    return [_replica(observed, pod) for pod in candidates if pods.is_active(pod)]


def in_flight(observed: Observed, name: str) -> int | None:
    """Requests on a pod; None: not known."""
    load = observed.load
    if load is None:
        return None
    return load.in_flight.get(name, 0 if load.complete else None)


def _replica(observed: Observed, pod: Json) -> Replica:
    metadata, name = pod["metadata"], str(pod["metadata"]["name"])
    spec, running = pod.get("spec") or {}, in_flight(observed, name)
    said = observed.load.states.get(name) if observed.load is not None else None
    return Replica(
        name=name,
        uid=str(metadata.get("uid", "")),
        created=str(metadata.get("creationTimestamp") or ""),
        template=pods.template_hash(pod),
        standing=(bool(spec.get("nodeName")), _PHASES.get(pods.phase(pod), 0), pods.is_ready(pod)),
        routable=pods.phase(pod) == "Running" and pods.is_up(pod),
        begun=pods.has_begun(pod),
        in_flight=running,
        drained=said == "draining" and not running,
        doomed=notices.is_doomed(pod, observed.doomed_nodes),
        deadline=marks.deadline_of(pod),
        noticed=marks.noticed_at(pod),
        cost=marks.cost_of(pod),
    )
