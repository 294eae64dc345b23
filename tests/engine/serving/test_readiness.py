"""Ready once a token was generated, and why not before."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.engine.serving.stand_ins import LOOPBACK, Client, Server, begin
from tokenfleet import contract
from tokenfleet_engine.serving.readiness import Patience, Readiness, Verdict

SCOPE = {"type": "http", "method": "GET", "path": contract.PATH_ENGINE_READY, "headers": []}
PATIENCE = Patience(probe=60)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(server: Server, now: list[float], said: list[str]) -> Callable[..., Readiness]:
    """As patient as it is told to be, and otherwise as it is."""

    def make(**patience: float) -> Readiness:
        return Readiness(
            server, model=lambda: "demo", clock=lambda: now[0], say=said.append, patience=replace(PATIENCE, **patience)
        )

    return make


@pytest.fixture
def readiness(make: Callable[..., Readiness]) -> Readiness:
    return make()


async def test_ready_means_that_a_token_was_generated(server: Server, readiness: Readiness, said: list[str]) -> None:
    assert await readiness.ask(SCOPE) == Verdict(True)
    assert server.entered == [f"GET {contract.PATH_ENGINE_LIVE}", "POST /v1/completions"]
    assert server.asked == [{"model": "demo", "prompt": [0], "max_tokens": 1, "temperature": 0}]
    assert "the first token took" in said[0]


async def test_one_token_is_enough(server: Server, readiness: Readiness) -> None:
    assert [(await readiness.ask(SCOPE)).ready for _ in range(3)] == [True] * 3
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param((500, {"error": {"message": "EngineCore died"}}), "500: EngineCore died", id="vLLM fails"),
        pytest.param((503, {"detail": "no"}), "503: no", id="an error in another shape"),
        pytest.param((500, "broken"), '500: "broken"', id="an error without a shape"),
        pytest.param(
            (200, {"usage": {"completion_tokens": 0}}), "the answer has no token in it", id="an answer without a token"
        ),
        pytest.param((200, ["odd"]), "the answer has no token in it", id="an answer that is none"),
    ],
)
async def test_a_warm_up_that_fails_keeps_it_unready_and_is_tried_again(
    server: Server, readiness: Readiness, now: list[float], said: list[str], answer: tuple[int, object], message: str
) -> None:
    ready, server.first_token = server.first_token, answer
    assert await readiness.ask(SCOPE) == Verdict(False, "WarmUpFailed", (("message", message),))
    assert f"tried again in 5 s: {message}" in said[0]
    server.first_token = ready
    now[0] += 4
    assert (await readiness.ask(SCOPE)).reason == "WarmUpFailed"
    now[0] += 1
    assert await readiness.ask(SCOPE) == Verdict(True)


async def test_what_vllm_raises_is_told(server: Server, said: list[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            raise RuntimeError("CUDA error")
        await server(scope, receive, send)

    readiness = Readiness(app, model=lambda: None, clock=lambda: 0.0, say=said.append, patience=PATIENCE)
    assert (await readiness.ask(SCOPE)).details == (("message", "RuntimeError: CUDA error"),)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        pytest.param(404, {"detail": "Not Found"}, id="an embedding model has no completions"),
        pytest.param(400, {"error": {"message": "this prompt is odd"}}, id="a model that takes no such prompt"),
        pytest.param(401, {"error": "Unauthorized"}, id="vLLM wants an API key of its own"),
    ],
)
async def test_where_no_token_can_be_asked_for_health_decides(
    server: Server, readiness: Readiness, said: list[str], status: int, content: object
) -> None:
    server.first_token = (status, content)
    assert await readiness.ask(SCOPE) == Verdict(True)
    assert f"by health alone, since /v1/completions answers {status}" in said[0]


async def test_a_first_token_that_takes_long_is_waited_for_behind_the_probes(
    server: Server, make: Callable[..., Readiness]
) -> None:
    readiness = make(probe=0.001)
    server.token.clear()
    assert [(await readiness.ask(SCOPE)).reason for _ in range(3)] == ["WarmingUp"] * 3
    assert readiness.warming_up
    server.token.set()
    while not (verdict := await readiness.ask(SCOPE)).ready:
        assert verdict.reason == "WarmingUp"
    assert len(server.asked) == 1


async def test_a_first_token_that_never_comes_is_given_up(server: Server, make: Callable[..., Readiness]) -> None:
    server.token.clear()
    verdict = await make(first_token=0.001).ask(SCOPE)
    assert verdict == Verdict(False, "WarmUpFailed", (("message", "there was no token within 0 s"),))


async def test_health_comes_first(server: Server, readiness: Readiness) -> None:
    server.health = 503
    assert await readiness.ask(SCOPE) == Verdict(False, "EngineUnhealthy", (("status", 503),))
    assert server.asked == []


async def test_ill_health_takes_a_new_token(server: Server, readiness: Readiness) -> None:
    await readiness.ask(SCOPE)
    server.health = 503
    await readiness.ask(SCOPE)
    server.health = 200
    assert await readiness.ask(SCOPE) == Verdict(True)
    assert len(server.asked) == 2


async def test_health_that_does_not_come_is_not_waited_for(server: Server, make: Callable[..., Readiness]) -> None:
    readiness = make(health=0.5)
    await readiness.ask(SCOPE)
    server.health_delay = 3600
    assert await readiness.ask(SCOPE) == Verdict(False, "HealthTimeout")
    server.health_delay = 0
    assert await readiness.ask(SCOPE) == Verdict(True)
    assert len(server.asked) == 1, "a busy loop is no reason for a new token"


async def test_the_warm_up_is_nobodys_request(client: Client, registry: Any) -> None:
    answer = await client("GET", contract.PATH_ENGINE_READY)
    assert (answer.status, answer.json()) == (200, {"ready": True})
    assert registry.get_sample_value("llm_requests_total", {"model": "demo", "status": "200"}) is None
    assert (await client.load())["in_flight"] == 0


async def test_the_warm_up_passes_a_full_engine(server: Server, make_client: Callable[..., Client]) -> None:
    client = make_client(**{contract.ENV_ENGINE_MAX_IN_FLIGHT: "1"})
    stream = await begin(client("POST", "/v1/completions"))
    assert (await client("POST", "/v1/completions")).status == 503
    assert (await client("GET", contract.PATH_ENGINE_READY)).status == 200
    server.release.set()
    await stream


async def test_a_draining_engine_is_not_ready(server: Server, client: Client) -> None:
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    answer = await client("GET", contract.PATH_ENGINE_READY)
    assert (answer.status, answer.json()) == (503, {"ready": False, "reason": "Draining"})
    assert server.entered == []
