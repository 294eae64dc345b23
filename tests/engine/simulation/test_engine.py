"""The engine in time: when tokens come, who pays for a client that leaves, and what the metrics say of it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.simulation.conftest import Simulated, metric_kinds
from tokenfleet_engine.serving.asgi import Message

SIMPLE = ("--ttft-ms", "110", "--itl-ms", "10")
"""A step takes 10 ms, and each token of a prompt 0.1 ms more."""


async def _begin(engine: Simulated, **body: Any) -> "tuple[asyncio.Task[None], asyncio.Event, list[Message]]":
    """A request whose client can leave."""
    left, sent, unread = asyncio.Event(), list[Message](), [json.dumps(body).encode()]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    task = asyncio.ensure_future(engine.api(scope, receive, send))
    for _ in range(20):
        await asyncio.sleep(0)
    assert engine.scheduler.running
    return task, left, sent


async def test_a_lone_request_takes_the_time_that_the_model_says(simulate: Callable[..., Simulated]) -> None:
    engine = simulate(*SIMPLE)
    began = engine.clock.now
    await engine.complete(prompt=" word" * 200, max_tokens=6)
    assert engine.clock.now - began == pytest.approx(0.03 + 5 * 0.01)
    assert engine.sample("vllm:time_to_first_token_seconds_sum") == pytest.approx(0.03)
    assert engine.sample("vllm:inter_token_latency_seconds_sum") == pytest.approx(0.05)
    assert engine.sample("vllm:inter_token_latency_seconds_count") == 5
    assert engine.sample("vllm:e2e_request_latency_seconds_sum") == pytest.approx(0.08)
    assert engine.sample("vllm:request_time_per_output_token_seconds_sum") == pytest.approx(0.01)


async def test_requests_at_once_share_their_steps(simulate: Callable[..., Simulated]) -> None:
    engine = simulate(*SIMPLE)
    began = engine.clock.now
    await asyncio.gather(*(engine.complete(prompt=f"word {number}", max_tokens=10) for number in range(20)))
    assert engine.clock.now - began < 0.16


async def test_a_request_without_a_place_waits(simulate: Callable[..., Simulated]) -> None:
    engine = simulate(*SIMPLE, "--max-num-seqs", "1")
    began = engine.clock.now
    await asyncio.gather(*(engine.complete(prompt="word", max_tokens=10) for _ in range(2)))
    assert engine.clock.now - began == pytest.approx(2 * (10 * 0.01 + 0.0001), rel=0.02)
    assert engine.sample("vllm:request_queue_time_seconds_sum") == pytest.approx(0.1, rel=0.05)


async def test_a_shared_beginning_is_quicker_the_second_time(simulate: Callable[..., Simulated]) -> None:
    engine = simulate(*SIMPLE)
    times = []
    for end in (" one", " two"):
        began = engine.clock.now
        await engine.complete(prompt=" word" * 800 + end, max_tokens=1)
        times.append(engine.clock.now - began)
    assert times == [pytest.approx(0.09, rel=0.01), pytest.approx(0.01, rel=0.05)]
    assert engine.sample("vllm:prefix_cache_queries_total") == 2 * 801
    assert engine.sample("vllm:prefix_cache_hits_total") == 800


async def test_the_next_turn_of_a_chat_finds_the_one_before(simulate: Callable[..., Simulated]) -> None:
    engine = simulate()
    first = [{"role": "user", "content": " word" * 100}]
    answer = (await engine.chat(messages=first, max_tokens=61))["choices"][0]["message"]
    await engine.chat(messages=[*first, answer, {"role": "user", "content": "more"}], max_tokens=1)
    assert engine.sample("vllm:prefix_cache_hits_total") == 160 // 16 * 16


@pytest.mark.parametrize("stream", [pytest.param(True, id="streamed"), pytest.param(False, id="whole")])
async def test_a_client_that_leaves_frees_its_blocks_at_once(simulate: Callable[..., Simulated], stream: bool) -> None:
    engine = simulate("--itl-ms", "10", "--ttft-ms", "110")
    task, left, _ = await _begin(engine, prompt="word", max_tokens=2000, stream=stream, n=3)
    assert engine.scheduler.pool.free < engine.settings.limits.blocks
    left.set()
    await task
    assert engine.scheduler.pool.free == engine.settings.limits.blocks
    assert not engine.scheduler.busy
    aborted = {"model_name": "demo", "engine": "0", "finished_reason": "abort"}
    assert engine.registry.get_sample_value("vllm:request_success_total", aborted) == 3


async def test_a_request_that_is_cancelled_frees_its_blocks(simulate: Callable[..., Simulated]) -> None:
    engine = simulate()
    task, _, _ = await _begin(engine, prompt="word", max_tokens=2000)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert engine.scheduler.pool.free == engine.settings.limits.blocks


async def test_an_idle_engine_does_nothing(simulate: Callable[..., Simulated]) -> None:
    engine = simulate()
    await engine.complete(prompt="word", max_tokens=3)
    slept = len(engine.clock.slept)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(engine.clock.slept) == slept
    assert engine.sample("vllm:num_requests_running") == engine.sample("vllm:kv_cache_usage_perc") == 0


async def test_a_small_cache_preempts_and_all_requests_end(simulate: Callable[..., Simulated]) -> None:
    engine = simulate("--kv-tokens", "2048", "--no-enable-prefix-caching")
    answers = await asyncio.gather(*(engine.complete(prompt=f"word {number}", max_tokens=700) for number in range(5)))
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [700] * 5
    assert (engine.sample("vllm:num_preemptions_total") or 0) > 0
    assert engine.sample("vllm:generation_tokens_total") == 3500


async def test_a_process_that_is_late_catches_up(simulate: Callable[..., Simulated]) -> None:
    """A timer that fires late shortens the next wait."""
    engine = simulate(*SIMPLE)
    engine.clock.late = 0.002
    began = engine.clock.now
    await engine.complete(prompt="word", max_tokens=50)
    assert engine.clock.now - began == pytest.approx(0.5, abs=0.005)


async def test_names_and_kinds_of_metrics_are_vllms(simulate: Callable[..., Simulated]) -> None:
    engine = simulate()
    await engine.complete(prompt="word", max_tokens=3)
    kinds = metric_kinds()
    ours = {metric.name: metric.type for metric in engine.registry.collect() if metric.name.startswith("vllm:")}
    assert len(ours) > 20
    assert {name: kinds.get(name) for name in ours} == ours
