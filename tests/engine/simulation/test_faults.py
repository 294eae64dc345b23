"""Failures to order: each does what its flag says, when it says."""

import asyncio
from collections.abc import Callable

import pytest

from tests.engine.simulation.conftest import Simulated


async def test_a_share_of_requests_fails(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--fail-rate", "0.3")
    answers = [await engine.ask("POST", "/v1/completions", {"prompt": "One", "max_tokens": 1}) for _ in range(200)]
    failed = [answer for answer in answers if answer.status == 500]
    assert 40 < len(failed) < 80
    assert set(failed[0].json()["error"]) == {"message", "type", "param", "code"}


async def test_streams_break_off_without_a_last_word(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--abort-rate", "1")
    body = b'{"prompt": "One", "max_tokens": 50, "stream": true}'
    start, *parts = await engine.exchange("POST", "/v1/completions", body, {})
    assert start["status"] == 200
    assert all(part["more_body"] for part in parts)
    assert 1 <= b"".join(part["body"] for part in parts).count(b"data: ") <= 50
    assert b"[DONE]" not in parts[-1]["body"]
    assert not engine.scheduler.busy


async def test_whole_answers_are_not_cut(simulate: Callable[..., Simulated]) -> None:
    answer = await simulate("--abort-rate", "1").complete(prompt="One", max_tokens=50)
    assert answer["usage"]["completion_tokens"] == 50


async def test_it_crashes_with_the_request_after_the_last_one_allowed(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--crash-after-requests", "2")
    for _ in range(2):
        await engine.complete(prompt="One", max_tokens=1)
    assert not engine.crashes
    await engine.complete(prompt="One", max_tokens=1)
    assert len(engine.crashes) == 1


async def test_it_crashes_in_time(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--crash-after", "30")
    assert not engine.faults.crashes()
    engine.clock.now += 30
    assert engine.faults.crashes()


async def test_a_hung_engine_is_healthy_and_gives_no_token(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--hang-after", "5")
    await engine.complete(prompt="One", max_tokens=1)
    engine.clock.now += 5
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.complete(prompt="One", max_tokens=1), 0.05)
    assert (await engine.ask("GET", "/health")).status == 200


async def test_an_unhealthy_engine_says_so(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--unhealthy-after", "5")
    assert (await engine.ask("GET", "/health")).status == 200
    engine.clock.now += 5
    assert (await engine.ask("GET", "/health")).status == 503


async def test_it_becomes_slow(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--ttft-ms", "100", "--itl-ms", "10", "--slow-after", "60", "--slow-factor", "5")
    times = []
    for wait in (0, 60):
        engine.clock.now += wait
        began = engine.clock.now
        await engine.complete(prompt="One", max_tokens=10)
        times.append(engine.clock.now - began)
    assert times[1] == pytest.approx(5 * times[0])
