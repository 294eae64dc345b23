"""A small model of what goodbyes meet: a Deployment and its ReplicaSet, routers that hear of things late, and requests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tokenfleet import contract
from tokenfleet.controller import moments
from tokenfleet.controller.goodbyes.draining import Company, Goodbye, say_goodbye
from tokenfleet.controller.goodbyes.marks import Mark
from tokenfleet.controller.goodbyes.replicas import Hearing, Replica

START: Final = moments.seconds("2026-03-01T12:00:00Z")
TIMEOUT: Final = 60


@dataclass(slots=True, kw_only=True, eq=False)
class Pod:
    """One of the Deployment's."""

    name: str
    created: float
    up: bool = False
    requests: int = 0
    doomed: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    said_draining: bool = False
    """The routers know of its mark, and act on it."""

    @property
    def deadline(self) -> float | None:
        text = self.annotations.get(contract.ANNOTATION_DRAINING)
        return moments.seconds(text) if text is not None else None

    @property
    def cost(self) -> int:
        return int(self.annotations.get(contract.ANNOTATION_DELETION_COST, "0"))

    @property
    def serves(self) -> bool:
        return self.up and self.deadline is None

    def replica(self) -> Replica:
        noticed = self.annotations.get(contract.ANNOTATION_NOTICED)
        return Replica(
            name=self.name,
            uid=self.name,
            created=moments.rfc3339(self.created),
            template="t1",
            standing=(True, 2, self.up),
            routable=self.up,
            begun=self.up or self.requests > 0,
            in_flight=self.requests,
            drained=self.said_draining and not self.requests,
            doomed=self.doomed,
            deadline=self.deadline,
            noticed=moments.seconds(noticed) if noticed is not None else None,
            cost=self.cost,
        )


class Killed(Exception):
    """The controller ended here."""


@dataclass(slots=True, kw_only=True)
class Model:
    """`wanted` is what the user wants; all else follows."""

    wanted: int
    count: int
    pods: list[Pod]
    now: float = START
    taken: list[tuple[Pod, float]] = field(default_factory=list)
    """By the ReplicaSet, and when."""
    made: int = 0

    @classmethod
    def of(cls, *requests: int, wanted: int | None = None) -> "Model":
        """Pods that are up and have so many requests; the later the younger."""
        pods = [Pod(name=f"p{number}", created=START - 1000 + number, up=True, requests=n) for number, n in enumerate(requests)]
        return cls(wanted=len(pods) if wanted is None else wanted, count=len(pods), pods=pods)

    def pod(self, name: str) -> Pod:
        return next(pod for pod in self.pods if pod.name == name)

    def names(self, chosen: Callable[[Pod], bool]) -> set[str]:
        return {pod.name for pod in self.pods if chosen(pod)}

    def decide(self) -> Goodbye:
        replicas = [pod.replica() for pod in self.pods]
        company = Company(replicas=replicas, live=self.count, wanted=self.wanted, surge=1, timeout=TIMEOUT)
        return say_goodbye(company, Hearing(now=self.now, complete=True, unheard_since=0))

    def control(self, *, writes: int = 1000) -> Goodbye:
        """One turn of the controller, that ends after so many writes."""
        goodbye = self.decide()
        left = iter(range(writes))
        for mark in goodbye.marks:
            self._write(mark, left)
        if goodbye.count != self.count and next(left, None) is not None:
            self.count = goodbye.count
        for mark in goodbye.releases:
            self._write(mark, left)
        return goodbye

    def _write(self, mark: Mark, left: "object") -> None:
        if next(left, None) is None:  # type: ignore[call-overload]
            return
        for pod in self.pods:
            if pod.name == mark.pod:
                kept = {key: value for key, value in pod.annotations.items() if key not in mark.annotations}
                pod.annotations = kept | {key: value for key, value in mark.annotations.items() if value is not None}

    def replicate(self) -> None:
        """The ReplicaSet's turn."""
        while len(self.pods) > self.count:
            gone = min(self.pods, key=lambda pod: (pod.up, pod.cost, -pod.created))
            self.pods.remove(gone)
            self.taken.append((gone, self.now))
        while len(self.pods) < self.count:
            self.made += 1
            self.pods.append(Pod(name=f"n{self.made}", created=self.now))

    def route(self) -> None:
        """The routers hear of marks."""
        for pod in self.pods:
            pod.said_draining = pod.deadline is not None

    def settle(self, *, rounds: int = 12) -> None:
        """Everything goes its way: pods come up, requests end, time passes."""
        for _ in range(rounds):
            self.route()
            self.control()
            self.replicate()
            self.now += 15
            for pod in self.pods:
                pod.up, pod.requests = True, max(0, pod.requests - 1)
