"""Who is refused, with which words, and before anything of the request is read."""

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.engine.serving.stand_ins import LOOPBACK, Answer, Body, Client, Server, StandInEngine, begin
from tokenfleet import contract

MakeClient = Callable[..., Client]


async def test_the_last_place_is_taken_and_the_next_one_refused(server: Server, make_client: MakeClient) -> None:
    client = make_client(**{contract.ENV_ENGINE_MAX_IN_FLIGHT: "2"})
    running = [await begin(client("POST", "/v1/completions")) for _ in range(2)]
    refused = await client("POST", "/v1/completions")
    assert refused.status == 503
    assert refused.headers == {"content-type": "application/json", "content-length": refused.headers["content-length"],
                               "retry-after": "5"}  # fmt: skip
    assert refused.json() == {
        "error": {
            "message": "This replica has 2 requests in flight and takes 2. Try again in 5 s, or another replica.",
            "type": "service_unavailable", "param": None, "code": 503,
        }
    }  # fmt: skip
    assert server.entered == ["POST /v1/completions"] * 2
    assert (await client.load())["load"] == 1.0
    server.release.set()
    await asyncio.gather(*running)
    assert (await client("POST", "/v1/completions")).status == 200


async def test_the_default_is_four_times_what_the_engine_runs_at_once(engine: StandInEngine, make_client: MakeClient) -> None:
    engine.max_sequences = 1
    client = make_client()
    running = [await begin(client("POST", "/v1/completions")) for _ in range(4)]
    assert (await client("POST", "/v1/completions")).status == 503
    for each in running:
        each.cancel()


async def test_a_long_queue_is_a_reason_too(make_client: MakeClient, registry: CollectorRegistry, now: list[float]) -> None:
    waiting = Gauge("vllm:num_requests_waiting", "Waiting.", ["model_name", "engine"], registry=registry).labels("demo", "0")
    client = make_client(**{contract.ENV_ENGINE_MAX_WAITING: "5"})
    running = await begin(client("POST", "/v1/completions"))
    waiting.set(5)
    now[0] += 1
    refused = await client("POST", "/v1/completions")
    assert "5 requests wait in this replica's queue and 5 may" in refused.json()["error"]["message"]
    waiting.set(4)
    now[0] += 1
    second = await begin(client("POST", "/v1/completions"))
    assert not second.done()
    running.cancel()
    second.cancel()


async def test_when_to_try_again_follows_from_how_fast_requests_end(
    server: Server, make_client: MakeClient, now: list[float]
) -> None:
    client = make_client(**{contract.ENV_ENGINE_MAX_IN_FLIGHT: "1"})
    server.release.set()
    for _ in range(20):
        now[0] += 4
        await client("POST", "/v1/completions")
    server.release.clear()
    running = await begin(client("POST", "/v1/completions"))
    assert 3 <= int((await client("POST", "/v1/completions")).headers["retry-after"]) <= 5
    running.cancel()


@pytest.mark.parametrize(
    ("path", "method"),
    [("/health", "GET"), ("/v1/models", "GET"), ("/metrics", "GET"), ("/tokenize", "POST"), (contract.PATH_ENGINE_LOAD, "GET")],
)
async def test_load_blocks_nothing_but_work(server: Server, make_client: MakeClient, path: str, method: str) -> None:
    client = make_client(**{contract.ENV_ENGINE_MAX_IN_FLIGHT: "1"})
    running = await begin(client("POST", "/v1/completions"))
    other = await begin(client(method, path))
    server.release.set()
    assert (await other).status == 200
    await running


async def test_a_refused_request_is_not_in_flight(make_client: MakeClient) -> None:
    client = make_client(**{contract.ENV_ENGINE_MAX_IN_FLIGHT: "1"})
    running = await begin(client("POST", "/v1/completions"))
    body = Body(parts=[b"x", b"y", b"z"])
    lingering = await begin(client("POST", "/v1/completions", body=Body(parts=[b"x"], left=asyncio.Event())))
    await client("POST", "/v1/completions", body=body)
    assert (await client.load())["in_flight"] == 1
    assert body.parts == [], "what still comes is taken and thrown away"
    running.cancel()
    lingering.cancel()


async def test_the_answer_is_whole_before_the_rest_of_the_body_is_awaited(client: Client) -> None:
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    body, answer = Body(parts=[]), Answer()  # nothing comes: the client is slow
    request = await begin(client("POST", "/v1/completions", body=body, answer=answer))
    assert not request.done()
    assert [message["type"] for message in answer.messages] == ["http.response.start", "http.response.body"]
    assert len(answer.body) == int(answer.headers["content-length"])
    body.left.set()
    await request
    assert answer.messages[-1] == {"type": "http.response.body", "body": b""}


async def test_a_client_that_waits_for_our_100_is_not_waited_for(client: Client) -> None:
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    refused = await client("POST", "/v1/completions", headers=((b"expect", b"100-continue"),), body=Body(parts=[]))
    assert refused.status == 503
    assert refused.headers["connection"] == "close"


async def test_a_websocket_is_told_to_try_again_later(make_client: MakeClient, server: Server) -> None:
    client = make_client(**{contract.ENV_ENGINE_MAX_IN_FLIGHT: "1"})
    running = await begin(client("POST", "/v1/completions"))
    refused = await client("", "/v1/realtime", kind="websocket")
    assert refused.messages == [{"type": "websocket.close", "code": 1013}]
    running.cancel()


async def test_refusals_count_by_their_reason(make_client: MakeClient, registry: CollectorRegistry) -> None:
    client = make_client(**{contract.ENV_ENGINE_MAX_IN_FLIGHT: "1"})
    running = await begin(client("POST", "/v1/completions"))
    await client("POST", "/v1/completions")
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    await client("POST", "/v1/completions")
    for reason in ("in_flight", "draining"):
        assert registry.get_sample_value("llm_requests_refused_total", {"reason": reason}) == 1
    assert registry.get_sample_value("llm_requests_total", {"model": "demo", "status": "503"}) == 2
    running.cancel()
