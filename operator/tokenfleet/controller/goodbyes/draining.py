"""Who of one Deployment's pods leaves, and how many are to remain: the goodbye of a scale-down, and of pods under notice. Pure.

The pods carry all that has been decided, so that any controller goes on from there. A ReplicaSet that becomes smaller takes
pods that are not ready first, and then by deletion cost; so who leaves is chosen in that order too, and the count falls only by
pods that are done and that it would take before all others. While a rollout replaces pods, the Deployment chooses by neither
requests nor readiness: then the count may rise, and falls to nothing but 0.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenfleet.controller import moments
from tokenfleet.controller.goodbyes import marks
from tokenfleet.controller.goodbyes.marks import HAS_LEFT, LEAVES, Mark
from tokenfleet.controller.goodbyes.replicas import Hearing, Replica, Standing

NOTICE_SECONDS: Final = 20.0
"""So long a pod under notice still gets requests where nobody can take its place: the least notice is 30 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """What to do about the pods of one Deployment."""

    count: int
    """spec.replicas from now on."""
    marks: tuple[Mark, ...] = ()
    """To set before the count changes."""
    releases: tuple[Mark, ...] = ()
    """To take away after that."""
    leaving: tuple[Replica, ...] = ()
    """Those whose goodbye takes time."""
    again_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """The pods of one Deployment, and what is wanted of it."""

    replicas: Sequence[Replica]
    live: int | None
    """Its spec.replicas; None: there is no such Deployment."""
    wanted: int
    surge: int
    """Pods that a rollout may have above that."""
    timeout: float
    """Seconds of a drain."""

    @property
    def doomed(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.doomed]

    @property
    def sound(self) -> list[Replica]:
        return [replica for replica in self.replicas if not replica.doomed]

    @property
    def rolling(self) -> bool:
        return len({replica.template for replica in self.replicas}) > 1

    @property
    def base(self) -> int:
        """The count if nobody left: each one under notice gets somebody in its place, but never more than are wanted."""
        live = len(self.replicas) if self.live is None else self.live
        return max(live, self.wanted + min(len(self.doomed), self.wanted))

    @property
    def unmade(self) -> int:
        return max(0, self.base - len(self.replicas))

    @property
    def surplus(self) -> int:
        """Pods beyond what is wanted, those under notice left out. What the ReplicaSet has yet to delete counts."""
        present = max(self.base, len(self.replicas) - (self.surge if self.rolling else 0))
        return max(0, present - len(self.doomed) - self.wanted)

    @property
    def cancelled(self) -> int:
        """Pods beyond what is wanted that nobody has made yet."""
        return 0 if self.rolling else min(self.unmade, self.surplus)


def say_goodbye(company: Company, hearing: Hearing) -> Goodbye:
    """Who leaves now, who is done, and what the count becomes by that."""
    victims = _victims(company)
    leaving = [*victims, *_doomed_leaving(company, victims, hearing)]
    done = frozenset(replica for replica in leaving if replica.is_done(hearing, timeout=company.timeout))
    waiting = [replica for replica in leaving if replica not in done]
    costs = {one.name: min(one.cost, HAS_LEFT if waiting and one in done else LEAVES) for one in leaving}
    return Goodbye(
        count=_count(company, done, costs),
        marks=tuple(_marks(company, costs, hearing)),
        releases=tuple(_releases(company, frozenset(leaving))),
        leaving=tuple(replica for replica in leaving if replica.begun),
        again_after=_again_after(company, waiting, frozenset(leaving), hearing),
    )


def _victims(company: Company) -> list[Replica]:
    """Of those who are not under notice: in the ReplicaSet's order, then those marked before, the least busy, the youngest."""
    if company.wanted == 0:
        return company.sound
    pool = [replica for replica in company.sound if replica.marked] if company.rolling else company.sound
    return sorted(pool, key=_dispensable)[: company.surplus - company.cancelled]


def _dispensable(replica: Replica) -> tuple[Standing, bool, int, int, float, str]:
    youth = -moments.seconds(replica.created) if replica.created else 0.0
    return replica.standing, not replica.marked, replica.cost, replica.in_flight or 0, youth, replica.name


def _doomed_leaving(company: Company, victims: Sequence[Replica], hearing: Hearing) -> list[Replica]:
    """Under notice, one drains as soon as as many as are wanted serve without it, or where it has waited long enough for that.

    But the last one that routers can use is not taken from them: it serves until it is taken away.
    """
    taken = frozenset(victims)
    ready = sorted((one for one in company.doomed if one.routable and not one.marked), key=_dispensable)
    serving = len(ready) + sum(one.routable and not one.marked and one not in taken for one in company.sound)
    spare = max(0, serving - company.wanted)
    overdue = [one for one in ready[spare:] if _notice_left(one, hearing) <= 0]
    leaving = frozenset([*ready[:spare], *overdue][: max(0, serving - min(1, company.wanted))])
    return [one for one in company.doomed if one not in ready or one in leaving]


def _notice_left(replica: Replica, hearing: Hearing) -> float:
    return NOTICE_SECONDS if replica.noticed is None else replica.noticed + NOTICE_SECONDS - hearing.now


def _count(company: Company, done: Collection[Replica], costs: Mapping[str, int]) -> int:
    """Smaller by what was not made yet, and by those done whom the ReplicaSet would take first."""
    if company.rolling:
        over = company.wanted == 0 and len(done) == len(company.replicas)
        return 0 if over else company.base
    base, unmade = company.base - company.cancelled, company.unmade - company.cancelled
    gone = 0 if unmade else _leading(company, done, costs)
    return max(company.wanted, min(base, len(company.replicas) + unmade - gone))


def _leading(company: Company, done: Collection[Replica], costs: Mapping[str, int]) -> int:
    """How many of those done come before all others in the ReplicaSet's order."""

    def order(replica: Replica) -> tuple[Standing, int]:
        return replica.standing, costs.get(replica.name, replica.cost)

    first = min((order(replica) for replica in company.replicas if replica not in done), default=None)
    return sum(first is None or order(replica) < first for replica in done)


def _marks(company: Company, costs: Mapping[str, int], hearing: Hearing) -> Iterator[Mark]:
    for replica in company.replicas:
        annotations: dict[str, str | None] = {}
        if replica.doomed and replica.noticed is None:
            annotations |= marks.noticed(at=hearing.now)
        cost = costs.get(replica.name)
        if cost is not None and (replica.deadline is None or replica.cost != cost):
            deadline = hearing.now + company.timeout if replica.deadline is None else replica.deadline
            annotations |= marks.leaving(deadline=deadline, cost=cost)
        if annotations:
            yield Mark(pod=replica.name, uid=replica.uid, annotations=annotations)


def _releases(company: Company, leaving: Collection[Replica]) -> Iterator[Mark]:
    """Of those who stay, or whose notice was taken back."""
    for replica in company.replicas:
        annotations: dict[str, str | None] = {}
        if replica.marked and replica not in leaving:
            annotations |= marks.STAYS
        if replica.noticed is not None and not replica.doomed:
            annotations |= marks.NOT_NOTICED
        if annotations:
            yield Mark(pod=replica.name, uid=replica.uid, annotations=annotations)


def _again_after(company: Company, waiting: Sequence[Replica], leaving: Collection[Replica], hearing: Hearing) -> float | None:
    deadline = hearing.now + company.timeout
    marked = [one if one.marked else replace(one, deadline=deadline) for one in waiting]
    drains = [one.wait(hearing, timeout=company.timeout) for one in marked]
    notices = [_notice_left(one, hearing) for one in company.doomed if one not in leaving]
    return min((max(1.0, left) for left in (*drains, *notices)), default=None)
