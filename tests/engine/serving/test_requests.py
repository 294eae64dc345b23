"""What became of a request, and for which model."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from tests.engine.serving.stand_ins import Body, Client, Server, StandInEngine, begin
from tokenfleet_engine.serving.admission import Admission
from tokenfleet_engine.serving.asgi import Receive, Scope, Send

CHAT = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"%b","choices":[{"delta":{}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def _counts(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["model"], sample.labels["status"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "llm_requests_total"
    }


@pytest.mark.parametrize(
    ("parts", "status", "counted"),
    [
        pytest.param([CHAT % b"demo", DONE], 200, "200", id="a whole stream"),
        pytest.param([b'{"id":"1","model":"demo"}'], 200, "200", id="a whole answer"),
        pytest.param([b'{"error":{"message":"no","code":400}}'], 400, "400", id="what vLLM refuses"),
        pytest.param(
            [CHAT % b"demo", b'data: {"error": {"message": "lost", "type": "InternalServerError", "code": 500}}\n\n', DONE],
            200, "500", id="a stream that ended with an error",
        ),
        pytest.param(
            [CHAT % b"demo", b'data: {"error": {"message": "bad", "code": 400}}\n\n', DONE], 200, "400",
            id="a stream that ended with an error of the client's",
        ),
        pytest.param(
            [b'event: message_start\ndata: {"message":{"model":"demo"}}\n\n', b'event: error\ndata: {"type":"error"}\n\n'],
            200, "500", id="an error in Anthropic's words",
        ),
    ],
)  # fmt: skip
async def test_status(
    server: Server, client: Client, registry: CollectorRegistry, parts: list[bytes], status: int, counted: str
) -> None:
    server.parts, server.status = parts, status
    server.release.set()
    await client("POST", "/v1/chat/completions")
    assert _counts(registry) == {("demo", counted): 1}


async def test_a_client_that_leaves_counts_as_499(server: Server, client: Client, registry: CollectorRegistry) -> None:
    body = Body()
    stream = await begin(client("POST", "/v1/completions", body=body))
    body.left.set()
    await stream
    assert _counts(registry) == {("demo", "499"): 1}


async def test_a_client_that_left_before_its_answer_came_counts_as_499(
    engine: StandInEngine, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """As vLLM: its handler is cancelled, and what it returned then is sent to nobody."""
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"null"})

    body = Body()
    body.left.set()
    await Client(Admission(app, engine=engine, environment={}, registry=registry))("POST", "/v1/completions", body=body)
    assert _counts(registry) == {("demo", "499"): 1}


async def test_a_request_that_is_cut_off_counts_as_499(client: Client, registry: CollectorRegistry) -> None:
    stream = await begin(client("POST", "/v1/completions"))
    stream.cancel()
    await asyncio.gather(stream, return_exceptions=True)
    assert _counts(registry) == {("demo", "499"): 1}


async def test_a_client_that_leaves_after_the_last_byte_has_not_left(
    server: Server, client: Client, registry: CollectorRegistry
) -> None:
    server.parts = [b'{"model":"demo"}']
    body = Body()
    body.left.set()
    await client("POST", "/v1/completions", body=body)
    assert _counts(registry) == {("demo", "200"): 1}


async def test_a_stream_that_breaks_counts_as_500(server: Server, client: Client, registry: CollectorRegistry) -> None:
    server.failure = RuntimeError("engine died")
    server.release.set()
    with pytest.raises(RuntimeError):
        await client("POST", "/v1/completions")
    assert _counts(registry) == {("demo", "500"): 1}


@pytest.mark.parametrize(
    ("served", "named", "status", "label"),
    [
        pytest.param(("demo", "sql"), b"sql", 200, "sql", id="an adapter has its own count"),
        pytest.param(("demo", "sql"), b"evil", 200, "other", id="a name that is not served is no label"),
        pytest.param(("demo", "sql"), None, 400, "other", id="an answer that does not tell, of several models"),
        pytest.param(("demo",), None, 400, "demo", id="an answer that does not tell, of the only model"),
        pytest.param(("demo",), None, 404, "other", id="another model was asked for"),
        pytest.param((), b"demo", 200, "other", id="an engine that is not known"),
    ],
)
async def test_model(
    server: Server, engine: StandInEngine, client: Client, registry: CollectorRegistry,
    served: tuple[str, ...], named: bytes | None, status: int, label: str,
) -> None:  # fmt: skip
    engine.names = served
    server.parts, server.status = [b"{}" if named is None else b'{"id":"1","model":"%b"}' % named], status
    await client("POST", "/v1/completions")
    assert _counts(registry) == {(label, str(status)): 1}


async def test_a_model_that_the_text_speaks_of_is_not_taken_for_the_answers(
    server: Server, engine: StandInEngine, client: Client, registry: CollectorRegistry
) -> None:
    engine.names = ("demo", "sql")
    server.parts = [b'{"text":"say \\"model\\":\\"sql\\"","model":"demo"}']
    await client("POST", "/v1/completions")
    assert _counts(registry) == {("demo", "200"): 1}


async def test_latency_is_that_of_whole_answers_without_error(
    server: Server, client: Client, registry: CollectorRegistry, now: list[float]
) -> None:
    stream = await begin(client("POST", "/v1/completions"))
    now[0] += 2.5
    server.release.set()
    await stream
    server.parts, server.status = [b"{}"], 400
    await client("POST", "/v1/completions")
    assert registry.get_sample_value("llm_latency_seconds_count", {"model": "demo"}) == 1
    assert registry.get_sample_value("llm_latency_seconds_sum", {"model": "demo"}) == 2.5


async def test_a_websocket_is_in_flight_and_has_no_status(client: Client, registry: CollectorRegistry) -> None:
    await client("", "/v1/realtime", kind="websocket")
    assert _counts(registry) == {}
    assert (await client.load())["in_flight"] == 0
