"""How long a store may be away, on a clock of the test's own."""

import asyncio

import pytest

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.patience import LONGEST_WAIT, Patience
from tokenfleet_engine.store.remote import Transient


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def patience(time: Time, *, seconds: float, chance: float = 1.0) -> Patience:
    return Patience(host="store.example", seconds=seconds, clock=lambda: time.now, chance=lambda: chance, sleep=time.sleep)


async def gone() -> None:
    raise Transient("refused")


def test_waits_grow_up_to_a_limit_and_end() -> None:
    time = Time()
    with pytest.raises(EngineFailure, match=r"store\.example is out of reach: refused \(no progress for 52 s\)") as caught:
        asyncio.run(patience(time, seconds=60).insist(gone))
    assert time.waits == [0.5, 1, 2, 4, 8, 16, LONGEST_WAIT]
    assert caught.value.reason == contract.REASON_MODEL_STORE_UNREACHABLE


def test_pods_do_not_all_come_back_at_the_same_moment() -> None:
    early, late = Time(), Time()
    for time, chance in ((early, 0.0), (late, 1.0)):
        with pytest.raises(EngineFailure):
            asyncio.run(patience(time, seconds=10, chance=chance).insist(gone))
    assert early.waits[:3] == [0.25, 0.5, 1]
    assert late.waits[:3] == [0.5, 1, 2]


def test_a_store_says_itself_when_to_come_back() -> None:
    time = Time()
    asyncio.run(patience(time, seconds=60, chance=0.5).wait(Transient("429", retry_after=30), tries=0))
    assert time.waits == [30.5]


def test_who_is_asked_to_wait_for_too_long_gives_up_at_once() -> None:
    time = Time()
    with pytest.raises(EngineFailure, match="no progress for 0 s"):
        asyncio.run(patience(time, seconds=60).wait(Transient("429", retry_after=3600), tries=0))
    assert time.waits == []


def test_with_progress_it_may_break_for_ever() -> None:
    async def breaking() -> None:
        time = Time()
        calm = patience(time, seconds=3)
        for _ in range(1000):
            await calm.wait(Transient("reset"), tries=0)
            calm.progressed()
        assert time.now == 500

    asyncio.run(breaking())
