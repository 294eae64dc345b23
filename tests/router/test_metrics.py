"""What is counted of a request, and that the text of it is what Prometheus reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.router.harness import MODEL, Call, Client, Router, answer, fleet, get, post, until
from tests.router.records import record
from tokenfleet import contract
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.reporting.metrics import GAP_SECONDS, MAX_KEYS, Histogram, Metrics
from tokenfleet.router.terms import QueueTerms, Terms


def test_a_request_is_counted_for_all_and_for_its_model() -> None:
    metrics = Metrics()
    metrics.ended(record())
    metrics.ended(
        record(code=503, reason="queue_timeout", queued=60.0, first_byte=None, prompt_tokens=None, completion_tokens=None)
    )
    metrics.ended(record(model="", code=404, reason="model_not_found"))
    llama = metrics.models["llama"]
    assert metrics.requests == {(200, "relayed"): 1, (503, "queue_timeout"): 1, (404, "model_not_found"): 1}
    assert llama.requests == {(200, "relayed"): 1, (503, "queue_timeout"): 1}
    assert (sum(llama.seconds.counts), llama.seconds.sum) == (2, 3.0)
    track = llama.tracks["llama", "stable"]
    assert (sum(track.first_token.counts), track.first_token.sum) == (1, 0.25)
    assert (sum(llama.queued.counts), llama.queued.sum) == (1, 60.0)
    tokens = metrics.tokens["llama", "ann"]
    assert (tokens.prompt, tokens.completion) == (12, 34) == (track.prompt_tokens, track.completion_tokens)
    assert list(metrics.models) == ["llama"]


def test_keys_beyond_the_bound_are_counted_as_one() -> None:
    metrics = Metrics()
    for number in range(MAX_KEYS + 5):
        metrics.ended(record(key=f"key-{number}"))
    metrics.ended(record(key="key-0"))
    metrics.ended(record(key="key-late"))
    metrics.ended(record(key="key-late", model="small"))
    assert len(metrics.tokens) == MAX_KEYS + 2
    assert metrics.tokens["llama", "key-0"].prompt == 24
    assert metrics.tokens["llama", "other"].completion == 6 * 34
    assert metrics.tokens["small", "other"].completion == 34


@pytest.mark.parametrize(
    ("seconds", "edge"),
    [
        pytest.param(0.0, "0.001", id="nothing"),
        pytest.param(0.01, "0.01", id="an edge belongs to its bucket"),
        pytest.param(0.0101, "0.015", id="a little more to the next"),
        pytest.param(99.0, "+Inf", id="and what is beyond all edges to the last"),
    ],
)
def test_a_duration_falls_into_its_bucket(seconds: float, edge: str) -> None:
    histogram = Histogram(GAP_SECONDS)
    histogram.observe(seconds)
    assert next(name for name, count in histogram.buckets() if count) == edge
    assert histogram.buckets()[-1] == ("+Inf", 1.0)


# --- The text


async def scrape(front: Router) -> dict[str, Metric]:
    """All families, by their names as the text has them."""
    async with Client(*await asyncio.open_connection("127.0.0.1", front.admin)) as client:
        client.write(get("/metrics"))
        reply = await client.reply()
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {family.name: family for family in text_string_to_metric_families(reply.body.decode())}


def value(families: dict[str, Metric], family: str, suffix: str = "", **labels: str) -> float:
    (found,) = [
        sample.value
        for sample in families[family].samples
        if sample.name == family + suffix and labels.items() <= sample.labels.items()
    ]
    return found


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'


@asynccontextmanager
async def busy() -> AsyncIterator[Router]:
    """A router that has done something of everything."""

    async def engine(call: Call) -> None:
        if b"hold" in call.body:
            await call.gone()
        elif b'"stream":true' in call.body:
            call.begin_stream()
            for _ in range(4):
                call.event()
                await call.writer.drain()
                await asyncio.sleep(0.002)
            call.event(USAGE)
            call.end_stream()
        else:
            await answer(call)

    async with fleet(engine, terms=Terms(max_in_flight=1, queue=QueueTerms(max_depth=2))) as (front, _):
        assert (await front.ask(post(stream=True))).status == 200
        assert (await front.ask(post({"model": "nobody"}))).status == 404
        async with await front.connect() as holding, await front.connect() as waiting:
            holding.write(post({"model": MODEL, "hold": True}))
            await until(lambda: front.in_flight == 1)
            waiting.write(post())
            await until(lambda: front.shared.catalog.models()[0].queue.depth == 1)
            yield front


async def test_the_text_says_what_happened() -> None:
    async with busy() as front:
        families = await scrape(front)
        labels = {"model": MODEL}
        assert value(families, "llm_router_requests", "_total", code="200", reason="relayed", **labels) == 1
        assert value(families, "llm_router_requests", "_total", code="404", reason="model_not_found", model="") == 1
        assert value(families, "llm_router_prompt_tokens", "_total", key="anonymous", **labels) == 7
        assert value(families, "llm_router_completion_tokens", "_total", key="anonymous", **labels) == 3
        assert value(families, "llm_router_time_to_first_byte_seconds", "_count", **labels) == 1
        assert value(families, "llm_router_inter_token_seconds", "_count", **labels) >= 3
        assert value(families, "llm_router_inter_token_seconds", "_sum", **labels) >= 0.005
        assert value(families, "llm_router_queue_depth", priority="normal", **labels) == 1
        assert value(families, "llm_router_load", **labels) == 0.5
        assert value(families, "llm_router_in_flight", replica="engine-0") == 1
        assert value(families, "llm_router_foreign_load", replica="engine-0") == 0
        assert value(families, "llm_router_ejected_replicas") == 0
        assert "llm_router_redis_up" not in families


async def test_a_wait_that_has_ended_is_a_wait_of_some_length() -> None:
    async with busy() as front:
        await asyncio.sleep(0.002)
        front.advance(60)
        families = await scrape(front)
        assert value(families, "llm_router_requests", "_total", code="503", reason="queue_timeout") == 1
        assert value(families, "llm_router_queue_seconds", "_count", model=MODEL) == 1
        assert value(families, "llm_router_queue_seconds", "_sum", model=MODEL) > 0


async def test_sheds_and_ejections_are_counted_by_whom_and_why() -> None:
    async with busy() as front:
        front.shared.shedder.shed[Priority.LOW] += 2
        front.replicas.ejections["connect"] += 1
        families = await scrape(front)
        assert value(families, "llm_router_shed", "_total", priority="low") == 2
        assert value(families, "llm_router_ejections", "_total", kind="connect") == 1


async def test_every_family_has_a_name_of_the_contract_a_help_and_a_type() -> None:
    names = {value for name, value in vars(contract).items() if name.startswith("METRIC_")}
    async with busy() as front:
        families = await scrape(front)
        ours = {name: family for name, family in families.items() if not name.startswith("process_")}
        assert ours.keys() <= names
        for name, family in ours.items():
            assert family.documentation, name
            assert family.type in ("counter", "gauge", "histogram"), name
            assert (family.type == "histogram") == name.endswith("_seconds"), "durations are histograms, in seconds"


async def test_a_histogram_is_whole() -> None:
    async with busy() as front:
        for family in (await scrape(front)).values():
            if family.type == "histogram":
                for model in {sample.labels["model"] for sample in family.samples}:
                    buckets = [s for s in family.samples if s.name.endswith("_bucket") and s.labels["model"] == model]
                    assert [s.value for s in buckets] == sorted(s.value for s in buckets)
                    assert buckets[-1].labels["le"] == "+Inf"
                    assert buckets[-1].value == value({family.name: family}, family.name, "_count", model=model)
