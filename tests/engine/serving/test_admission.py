"""Admission, driven as a server drives it: messages in, messages out, no server."""

import asyncio
from typing import Any

import pytest

from tests.engine.serving.stand_ins import LOOPBACK, ROUTER, Body, Client, Server, begin
from tokenfleet import contract

IDLE = {"draining": False, "in_flight": 0, "waiting": 0, "queue_seconds": 0.0, "load": 0.0, "sleeping": False}


async def test_a_stream_counts_from_its_first_byte_to_its_last(server: Server, client: Client) -> None:
    stream = await begin(client("POST", "/v1/chat/completions"))
    assert await client.load() == {**IDLE, "in_flight": 1}
    server.release.set()
    assert (await stream).body == b"data: a\n\ndata: [DONE]\n\n"
    assert await client.load() == IDLE


async def test_an_answer_says_how_many_are_in_flight_as_it_begins(server: Server, client: Client) -> None:
    first = await begin(client("POST", "/v1/chat/completions"))
    second = await begin(client("POST", "/v1/completions"))
    uncounted = await begin(client("POST", "/tokenize"))
    server.release.set()
    answers = [await first, await second, await uncounted]
    assert [answer.headers.get(contract.HEADER_IN_FLIGHT) for answer in answers] == ["1", "2", None]
    again = await client("POST", "/v1/completions")
    assert again.headers == {"content-type": "text/event-stream", contract.HEADER_IN_FLIGHT: "1"}


async def test_a_request_that_is_cancelled_is_no_longer_counted(client: Client) -> None:
    stream = await begin(client("POST", "/v1/completions"))
    stream.cancel()  # as a server that ends does
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert (await client.load())["in_flight"] == 0


async def test_a_client_that_goes_away_ends_its_request_at_once(server: Server, client: Client) -> None:
    body = Body()
    stream = await begin(client("POST", "/v1/completions", body=body))
    body.left.set()
    await stream
    assert server.disconnected
    assert (await client.load())["in_flight"] == 0


async def test_a_request_that_fails_is_no_longer_counted(server: Server, client: Client) -> None:
    server.failure = RuntimeError("engine died")
    server.release.set()
    with pytest.raises(RuntimeError, match="engine died"):
        await client("POST", "/v1/completions")
    assert (await client.load())["in_flight"] == 0


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        pytest.param("POST", "/v1/chat/completions", True, id="chat"),
        pytest.param("POST", "/v1/embeddings", True, id="embeddings"),
        pytest.param("POST", "/pooling", True, id="pooling stands outside of /v1"),
        pytest.param("POST", "/v2/new", True, id="a path that nobody here knows counts, so that no drain cuts it"),
        pytest.param("GET", "/v1/models", False, id="a list of models costs nothing"),
        pytest.param("POST", "/tokenize", False, id="tokenizing is no generation"),
        pytest.param("POST", "/v1/load_lora_adapter", False, id="administration is no generation"),
    ],
)
async def test_what_counts(client: Client, method: str, path: str, counted: bool) -> None:
    request = await begin(client(method, path))
    assert (await client.load())["in_flight"] == int(counted)
    request.cancel()


async def test_a_drain_refuses_new_requests_and_lets_running_ones_finish(server: Server, client: Client) -> None:
    stream = await begin(client("POST", "/v1/chat/completions"))
    drained = await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    assert drained.status == 200
    assert drained.json() == {**IDLE, "draining": True, "in_flight": 1, "draining_seconds": 0.0}

    refused = await client("POST", "/v1/chat/completions")
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers[contract.HEADER_DRAINING] == "true"
    assert refused.headers["connection"] == "close"
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
    assert server.entered.count("POST /v1/chat/completions") == 1

    server.release.set()
    assert (await stream).body.endswith(b"[DONE]\n\n")


async def test_a_drain_counts_from_its_first_call(client: Client, now: list[float]) -> None:
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    now[0] += 7
    again = await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    assert again.json()["draining_seconds"] == 7.0


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        pytest.param(LOOPBACK, 200, id="the pod itself"),
        pytest.param(("127.8.9.1", 1), 200, id="any address of the loopback net"),
        pytest.param(("::1", 1), 200, id="loopback of IPv6"),
        pytest.param(ROUTER, 403, id="another pod"),
        pytest.param(("testclient", 1), 403, id="a peer that is no address"),
        pytest.param(None, 403, id="a peer that is unknown"),
    ],
)
async def test_only_the_pod_itself_may_drain(client: Client, peer: Any, status: int) -> None:
    assert (await client("POST", contract.PATH_ENGINE_DRAIN, peer=peer)).status == status
    assert (await client.load())["draining"] is (status == 200)


async def test_a_forwarded_address_does_not_make_a_peer_local(client: Client) -> None:
    headers = ((b"x-forwarded-for", b"127.0.0.1"), (b"host", b"127.0.0.1"))
    assert (await client("POST", contract.PATH_ENGINE_DRAIN, peer=ROUTER, headers=headers)).status == 403


async def test_lifespan_passes_through(server: Server, client: Client) -> None:
    await client("", "", kind="lifespan")
    assert server.entered == ["lifespan"]


async def test_a_websocket_is_refused_while_draining(server: Server, client: Client) -> None:
    await client("", "/v1/realtime", kind="websocket")
    assert server.entered == ["websocket"]
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    refused = await client("", "/v1/realtime", kind="websocket")
    assert refused.messages == [{"type": "websocket.close", "code": 1012}]


async def test_many_at_once_come_out_even(server: Server, client: Client) -> None:
    requests = [await begin(client("POST", "/v1/completions")) for _ in range(50)]
    assert (await client.load())["in_flight"] == 50
    for request in requests[::2]:
        request.cancel()
    server.release.set()
    await asyncio.gather(*requests, return_exceptions=True)
    assert (await client.load())["in_flight"] == 0
