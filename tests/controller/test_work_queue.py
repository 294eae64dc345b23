"""Whose turn it is."""

import asyncio
from collections.abc import Callable

import pytest

from tokenfleet import contract
from tokenfleet.controller.work_queue import HOLD_CAP_SECONDS, RETRY_CAP_SECONDS, UNSETTLED_TURNS, WorkQueue

A, B = (contract.KIND, "ns", "a"), (contract.ROUTER_KIND, "ns", "b")


class Clock:
    """Timers that go off when told."""

    def __init__(self) -> None:
        self.timers: list[Alarm] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> "Alarm":
        alarm = Alarm(seconds, call)
        self.timers.append(alarm)
        return alarm

    @property
    def pending(self) -> list[float]:
        return [alarm.seconds for alarm in self.timers if not alarm.over]

    def ring(self) -> None:
        for alarm in [alarm for alarm in self.timers if not alarm.over]:
            alarm.over = True
            alarm.call()


class Alarm:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.call, self.over = seconds, call, False

    def cancel(self) -> None:
        self.over = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(call_later=clock.call_later, jitter=lambda: 0.5)


async def test_a_key_stands_in_line_once_and_in_order(queue: WorkQueue) -> None:
    for key in (A, B, A):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == [A, B]


async def test_a_worker_waits_until_there_is_something(queue: WorkQueue) -> None:
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    assert await waiting == A


async def test_a_key_is_never_worked_on_twice_at_a_time_and_misses_no_change(queue: WorkQueue) -> None:
    queue.add(A)
    key = await queue.get()
    queue.add(A)
    queue.add(A)
    assert len(queue) == 0 and not queue.idle
    queue.done(key)
    assert len(queue) == 1
    queue.done(await queue.get())
    assert queue.idle


async def test_a_failed_key_comes_back_later_and_later_up_to_a_cap(queue: WorkQueue, clock: Clock) -> None:
    waits = []
    for _ in range(14):
        queue.add(A)
        queue.failed(await queue.get())
        waits.append(clock.pending[-1])
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == RETRY_CAP_SECONDS
    assert len(clock.pending) == 1, "one timer a key"
    clock.ring()
    queue.done(await queue.get())
    queue.add(A)
    queue.failed(await queue.get())
    assert clock.pending == [0.1], "a success makes it begin anew"


async def test_an_event_does_not_wait_for_the_retry(queue: WorkQueue) -> None:
    queue.add(A)
    queue.failed(await queue.get())
    queue.add(A)
    assert len(queue) == 1


async def test_a_key_may_ask_to_come_back(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A)
    queue.done(await queue.get(), again_after=30.0)
    assert clock.pending == [30.0]
    clock.ring()
    assert len(queue) == 1


async def test_one_that_never_settles_is_slowed_down_whatever_comes_in(queue: WorkQueue, clock: Clock) -> None:
    for _ in range(UNSETTLED_TURNS):
        queue.add(A)
        queue.done(await queue.get(), wrote=True)
        assert clock.pending == []
    waits = []
    for _ in range(8):
        queue.add(A)
        queue.done(await queue.get(), wrote=True)
        queue.add(A)
        queue.add_later(A, 0.0)
        assert len(queue) == 0, "held back"
        waits.append(clock.pending[-1])
        clock.ring()
        assert len(queue) == 1
    assert waits[:3] == [2.0, 4.0, 8.0] and waits[-1] == HOLD_CAP_SECONDS
    queue.done(await queue.get())
    for _ in range(UNSETTLED_TURNS):
        queue.add(A)
        queue.done(await queue.get(), wrote=True)
    queue.add(A)
    assert len(queue) == 1, "a turn without writes settles it"


async def test_a_key_that_is_gone_rings_no_more(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A)
    queue.failed(await queue.get())
    queue.forget(A)
    assert clock.pending == []
    queue.add(A)
    for _ in range(UNSETTLED_TURNS + 1):
        queue.done(await queue.get(), wrote=True)
        queue.add(A)
    queue.forget(A)
    queue.add(A)
    assert len(queue) == 1, "one of the same name begins anew"
