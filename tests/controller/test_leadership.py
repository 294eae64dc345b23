"""Who leads, with clocks that tests turn by hand."""

import asyncio
import copy

import pytest

from tokenfleet.controller.cluster import Stale, Unavailable
from tokenfleet.controller.heartbeat import Heartbeat
from tokenfleet.controller.kinds import Kind
from tokenfleet.controller.leadership import Leadership, LostLeadership
from tokenfleet.controller.observed import Json

SECONDS = 15


class Leases:
    """One Lease with optimistic locking, and an API that can be away."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.away = False
        self.writes = 0

    @property
    def holder(self) -> str | None:
        return self.lease["spec"]["holderIdentity"] if self.lease else None

    async def get(self, kind: Kind, namespace: str, name: str, *, seconds: float) -> Json | None:
        self._answer()
        return copy.deepcopy(self.lease)

    async def write_lease(self, lease: Json, *, create: bool, seconds: float) -> Json:
        self._answer()
        current = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if create != (self.lease is None) or lease["metadata"].get("resourceVersion") != current:
            raise Stale("conflict")
        self.writes += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = str(self.writes)
        return copy.deepcopy(self.lease)

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("away")


class Time:
    """Sleepers wake when the time has come, in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    async def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        await _settle()
        while due := sorted((each for each in self._sleepers if each[0] <= end), key=lambda each: each[0]):
            self.now, future = due[0]
            self._sleepers.remove(due[0])
            if not future.done():
                future.set_result(None)
            await _settle()
        self.now = end


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def time() -> Time:
    return Time()


def candidate(leases: Leases, time: Time, identity: str) -> Leadership:
    leadership = Leadership(
        namespace="system",
        name="lease",
        identity=identity,
        seconds=SECONDS,
        clock=lambda: time.now,
        sleep=time.sleep,
        jitter=lambda: 0.5,
    )
    leadership.use(leases)
    return leadership


async def test_the_first_one_leads_and_the_second_stands_by(leases: Leases, time: Time) -> None:
    first, second = candidate(leases, time, "first"), candidate(leases, time, "second")
    await first.acquire()
    waiting, keeping = asyncio.create_task(second.acquire()), asyncio.create_task(first.keep())
    await time.pass_by(600)
    assert (leases.holder, first.may_write(), second.may_write()) == ("first", True, False)
    assert not waiting.done() and not keeping.done()
    assert leases.writes <= 600 / (SECONDS / 3) + 2, "renewals are rare"
    waiting.cancel()
    keeping.cancel()


async def test_another_one_leads_soon_after_the_leader_was_killed(leases: Leases, time: Time) -> None:
    await candidate(leases, time, "killed").acquire()
    second = candidate(leases, time, "second")
    waiting = asyncio.create_task(second.acquire())
    await time.pass_by(SECONDS - 1)
    assert not waiting.done()
    await time.pass_by(SECONDS / 2)
    assert waiting.done() and second.may_write()
    assert leases.lease is not None and leases.lease["spec"]["leaseTransitions"] == 2


async def test_another_one_leads_at_once_after_a_goodbye(leases: Leases, time: Time) -> None:
    first, second = candidate(leases, time, "first"), candidate(leases, time, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await time.pass_by(1)
    await first.release()
    assert not first.may_write()
    await time.pass_by(SECONDS / 5)
    assert waiting.done() and leases.holder == "second"


async def test_the_same_process_started_anew_goes_on_at_once(leases: Leases, time: Time) -> None:
    await candidate(leases, time, "pod").acquire()
    await candidate(leases, time, "pod").acquire()
    assert leases.holder == "pod"


async def test_a_leader_that_was_frozen_while_another_took_over_has_lost(leases: Leases, time: Time) -> None:
    first, second = candidate(leases, time, "first"), candidate(leases, time, "second")
    await first.acquire()
    taking = asyncio.create_task(second.acquire())
    await time.pass_by(3 * SECONDS)
    assert taking.done() and leases.holder == "second"
    assert not first.may_write(), "even before it has looked"
    keeping = asyncio.create_task(first.keep())
    await time.pass_by(SECONDS)
    with pytest.raises(LostLeadership, match="second leads now"):
        await keeping


async def test_while_the_api_is_away_the_leader_writes_no_more_and_then_goes_on(leases: Leases, time: Time) -> None:
    first = candidate(leases, time, "first")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    await time.pass_by(SECONDS)
    leases.away = True
    await time.pass_by(SECONDS)
    assert not first.may_write(), "another one might have been heard"
    await time.pass_by(600)
    assert not keeping.done(), "that is no reason to end"
    leases.away = False
    await time.pass_by(SECONDS / 2)
    assert first.may_write()
    keeping.cancel()


async def test_a_lease_that_was_deleted_is_made_again(leases: Leases, time: Time) -> None:
    first = candidate(leases, time, "first")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    leases.lease = None
    await time.pass_by(SECONDS)
    assert leases.holder == "first" and not keeping.done()
    keeping.cancel()


async def test_a_goodbye_without_the_api_is_no_error(leases: Leases, time: Time) -> None:
    first = candidate(leases, time, "first")
    await first.release()
    await first.acquire()
    leases.away = True
    await first.release()
    assert not first.may_write()


def test_a_heartbeat_is_alive_while_beats_are_heard() -> None:
    heart = Heartbeat(patience=2)
    for version in range(10):
        heart.beat(version)
    assert heart.alive, "nobody listens yet"
    heart.listen()
    for version in range(10, 13):
        heart.beat(version)
    assert not heart.alive
    heart.heard(12)
    assert heart.alive
    for version in range(13, 16):
        heart.heard(version)  # the watch is faster than the answer to the write
        heart.beat(version)
    assert heart.alive
    heart.beat(16)
    heart.beat(17)
    assert not heart.alive
    heart.heard(15)
    assert heart.alive, "two unheard are within its patience"
