"""Limits that several routers share, on a real Redis: exact together, and served without it when it is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.integration.redis_server import RedisServer
from tokenfleet.router.callers.rates import LocalRates, Reservation
from tokenfleet.router.callers.rates_redis import SharedRates, connect
from tokenfleet.router.rejections import REQUESTS_LIMITED, TOKENS_LIMITED, Rejected
from tokenfleet.router.terms import Rate

_PATIENCE_SECONDS = 20.0
_SLOW_MACHINE_SECONDS = 5.0
"""The deadline where a test is not about it: two busy cores may take a while."""


class Routers:
    """The limiters of several routers."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._made: list[SharedRates] = []

    async def start(self, *, deadline: float = _SLOW_MACHINE_SECONDS, scope: str = "default/chat") -> SharedRates:
        clock = asyncio.get_running_loop().time
        rates = SharedRates(lambda: connect(self._server.url), LocalRates(clock), scope=scope, deadline=deadline)
        await rates.start()
        self._made.append(rates)
        return rates

    async def close(self) -> None:
        for rates in self._made:
            await rates.close()


@pytest.fixture
async def routers(redis_server: RedisServer) -> AsyncIterator[Routers]:
    made = Routers(redis_server)
    yield made
    await made.close()


async def ask(rates: SharedRates, rate: Rate, *, who: str = "alice", tokens: int = 0) -> Reservation | Rejected:
    answer: asyncio.Future[Reservation | Rejected] = asyncio.get_running_loop().create_future()
    rates.reserve(who, rate, tokens, answer.set_result)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return await answer


async def reserve(rates: SharedRates, rate: Rate, *, who: str = "alice", tokens: int = 0) -> Reservation:
    answer = await ask(rates, rate, who=who, tokens=tokens)
    assert not isinstance(answer, Rejected), answer.message
    return answer


async def refused(rates: SharedRates, rate: Rate, *, who: str = "alice", tokens: int = 0) -> Rejected:
    answer = await ask(rates, rate, who=who, tokens=tokens)
    assert isinstance(answer, Rejected)
    return answer


def headers(lines: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.decode().splitlines())


async def test_routers_together_let_in_exactly_the_limit(routers: Routers) -> None:
    limit = 600
    four = [await routers.start() for _ in range(4)]
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(rates, Rate(limit)) for _ in range(300) for rates in four))
    refilled = (time.monotonic() - began) * limit / 60
    let_in = sum(not isinstance(answer, Rejected) for answer in answers)
    assert limit <= let_in <= limit + refilled + 1
    assert all(rates.fallbacks == 0 for rates in four)


async def test_tokens_are_shared_too_and_come_back_with_time(routers: Routers) -> None:
    one, other = await routers.start(), await routers.start()
    rate = Rate(None, 60_000)
    await reserve(one, rate, tokens=59_900)
    rejected = await refused(other, rate, tokens=5_000)
    assert rejected.kind is TOKENS_LIMITED
    assert rejected.retry_after is not None and 3 <= rejected.retry_after <= 5
    assert headers(rejected.lines)["x-ratelimit-limit-tokens"] == "60000"
    await asyncio.sleep(0.5)  # Redis' own clock, which no test can move: 500 tokens
    await reserve(other, rate, tokens=500)


async def test_settling_corrects_both_ways_on_all_routers(routers: Routers) -> None:
    one, other = await routers.start(), await routers.start()
    rate = Rate(None, 1_000)
    first = await reserve(one, rate, tokens=900)
    assert (await refused(other, rate, tokens=500)).kind is TOKENS_LIMITED
    first.settle(100)
    first.settle(100)
    first.cancel()
    assert await tokens_left(one, other, rate) >= 900
    second = await reserve(other, rate, tokens=100)
    second.settle(1_700)
    assert await tokens_left(other, one, rate) == 0
    assert (await refused(one, rate, tokens=10)).retry_after in range(40, 62)


async def test_a_cancelled_request_does_not_count(routers: Routers) -> None:
    one, other = await routers.start(), await routers.start()
    reservation = await reserve(one, Rate(1, 100), tokens=100)
    assert (await refused(other, Rate(1, 100), tokens=100)).kind in (REQUESTS_LIMITED, TOKENS_LIMITED)
    reservation.cancel()
    reservation.cancel()
    await flushed(one)
    await reserve(other, Rate(1, 100), tokens=100)
    assert (await refused(one, Rate(1, 100), tokens=1)).kind is REQUESTS_LIMITED


async def test_callers_and_scopes_have_buckets_of_their_own(routers: Routers) -> None:
    one, elsewhere = await routers.start(), await routers.start(scope="default/other")
    await reserve(one, Rate(1))
    await reserve(one, Rate(1), who="bob")
    await reserve(elsewhere, Rate(1))
    assert (await refused(one, Rate(1))).kind is REQUESTS_LIMITED


async def test_what_was_used_stays_used_when_a_limit_changes(routers: Routers) -> None:
    rates = await routers.start()
    for _ in range(8):
        await reserve(rates, Rate(10))
    answer = await reserve(rates, Rate(20))
    assert headers(answer.lines)["x-ratelimit-remaining-requests"] == "11"
    assert (await refused(rates, Rate(5))).kind is REQUESTS_LIMITED


async def test_nothing_is_kept_of_those_who_have_not_asked_for_a_while(routers: Routers, redis_server: RedisServer) -> None:
    rates = await routers.start()
    await reserve(rates, Rate(6_000, 600_000), tokens=1)
    key = "tokenfleet:{default/chat}:rates:alice"
    assert 0 < int(redis_server.command("PTTL", key).removeprefix(b":")) <= 1_100


async def test_more_tokens_than_the_limit_are_refused_without_a_time_to_come_back(routers: Routers) -> None:
    rejected = await refused(await routers.start(), Rate(None, 100), tokens=101)
    assert rejected.retry_after is None
    assert "never be let in" in rejected.message


async def test_redis_killed_in_the_middle_costs_no_request_and_it_is_used_again(
    routers: Routers, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    rates, rate = await routers.start(), Rate(1_000)
    await reserve(rates, rate)
    redis_server.kill()
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(rates, rate) for _ in range(100)))
    assert time.monotonic() - began < _SLOW_MACHINE_SECONDS
    assert not any(isinstance(answer, Rejected) for answer in answers)
    assert not rates.redis_available
    assert rates.fallbacks == 100
    redis_server.start()
    await until(lambda: rates.redis_available)
    answer = await reserve(rates, rate)
    assert rates.fallbacks == 100
    assert int(headers(answer.lines)["x-ratelimit-remaining-requests"]) >= 998, "its own count goes on, without the hundred"
    told = [record.message for record in caplog.records if record.name == "tokenfleet.router.callers.rates_redis"]
    assert [message.split(" (")[0].split(":")[0] for message in told] == ["Redis is away", "Redis is back"]


async def test_without_redis_from_the_start_limits_hold_here_alone(routers: Routers, redis_server: RedisServer) -> None:
    redis_server.stop()
    one, other = await routers.start(), await routers.start()
    for rates in (one, other):
        await reserve(rates, Rate(1))
        assert (await refused(rates, Rate(1))).kind is REQUESTS_LIMITED
        assert rates.fallbacks == 2


async def test_a_slow_redis_holds_nobody_up_longer_than_the_deadline(routers: Routers, redis_server: RedisServer) -> None:
    rates, rate = await routers.start(deadline=0.2), Rate(1_000)
    redis_server.pause()
    began = time.monotonic()
    await asyncio.gather(*(ask(rates, rate) for _ in range(50)))
    waited = time.monotonic() - began
    began = time.monotonic()
    await asyncio.gather(*(ask(rates, rate) for _ in range(50)))
    assert 0.1 < waited < 1.0
    assert time.monotonic() - began < 0.1, "once it counts as away, nobody waits"
    assert rates.fallbacks == 100
    redis_server.resume()
    await until(lambda: rates.redis_available)


async def test_a_dead_redis_is_not_hammered(routers: Routers, redis_server: RedisServer) -> None:
    tries = 0

    def counting() -> Redis:
        nonlocal tries
        tries += 1
        return connect(redis_server.url)

    redis_server.stop()
    clock = asyncio.get_running_loop().time
    rates = SharedRates(counting, LocalRates(clock), scope="x", uniform=lambda low, high: high)
    await rates.start()
    for _ in range(200):
        await ask(rates, Rate(1_000_000))
        await asyncio.sleep(0.005)
    await rates.close()
    assert 1 <= tries <= 4, "at 0, 0.25, 0.75 and 1.75 seconds"


async def test_a_script_that_redis_has_forgotten_is_sent_again(routers: Routers, redis_server: RedisServer) -> None:
    rates = await routers.start()
    redis_server.command("SCRIPT", "FLUSH")
    await reserve(rates, Rate(10))
    assert rates.redis_available
    assert rates.fallbacks == 0


async def test_an_address_that_comes_later_is_followed(redis_server: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "url"
    rates = SharedRates(lambda: connect(file.read_text()), LocalRates(asyncio.get_running_loop().time), scope="x", deadline=5.0)
    following = asyncio.create_task(rates.follow())
    await ask(rates, Rate(1))
    file.write_text("not an address")
    await asyncio.sleep(0.3)
    assert not rates.redis_available
    file.write_text(redis_server.url)
    await until(lambda: rates.redis_available)
    reservation = await reserve(rates, Rate(1))
    reservation.cancel()
    following.cancel()
    await asyncio.wait((following,))
    assert redis_server.command("GET", "tokenfleet:{x}:rates:alice").split()[2] == b"1", "cancelled at the end"


async def test_what_is_left_to_settle_is_sent_at_the_end(routers: Routers) -> None:
    one, other = await routers.start(), await routers.start()
    reservation = await reserve(one, Rate(1))
    reservation.cancel()
    await one.close()
    await reserve(other, Rate(1))


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def flushed(rates: SharedRates) -> None:
    """Corrections go along with the next request."""
    await reserve(rates, Rate(1_000_000), who="nobody")


async def tokens_left(writer: SharedRates, reader: SharedRates, rate: Rate) -> int:
    """What one router sees of what another has settled."""
    await flushed(writer)
    return int(headers((await ask(reader, rate)).lines)["x-ratelimit-remaining-tokens"])
