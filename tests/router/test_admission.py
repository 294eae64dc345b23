"""Keys, bounds and limits in a real router: in their order, before any engine hears of a request, and back after its end."""

import json
from hashlib import sha256
from typing import Any

import pytest

from tests.router.harness import MODEL, NO_QUEUE, Call, Reply, Router, answer, fleet, get, post, until
from tokenfleet.router.callers.keys import Keyring
from tokenfleet.router.terms import Bounds, Rate, Terms

_ALICE, _BOB = "tf-alice", "tf-bob"


def keyring(**entries: dict[str, object]) -> Keyring:
    """One key an entry: tf- and the entry's name."""
    made = Keyring()
    made.load(
        {
            name: json.dumps({"sha256": sha256(f"tf-{name}".encode()).hexdigest(), "lastFour": name[-4:], **more}).encode()
            for name, more in entries.items()
        }
    )
    return made


def terms(*, rate: Rate | None = None, bounds: Bounds | None = None) -> Terms:
    return Terms(queue=NO_QUEUE.queue, limits=rate or Rate(), bounds=bounds or Bounds())


async def ask(front: Router, key: str | None = None, *, headers: str = "", **body: object) -> Reply:
    authorization = f"Authorization: Bearer {key}\r\n" if key is not None else ""
    request = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **body}
    return await front.ask(post(request, headers=authorization + headers))


class Used:
    """The script of an engine that says what it has used."""

    def __init__(self, prompt: int, completion: int) -> None:
        self.usage = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}

    async def __call__(self, call: Call) -> None:
        call.json({"choices": [], "usage": self.usage})


async def failing(call: Call) -> None:
    call.json({"error": "no"}, status=400)


@pytest.mark.parametrize(
    ("headers", "code", "reason"),
    [
        pytest.param("", 401, "invalid_api_key", id="no key"),
        pytest.param("Authorization: Bearer tf-mallory\r\n", 401, "invalid_api_key", id="an unknown key"),
        pytest.param("Authorization: Basic dGYtYWxpY2U6\r\n", 401, "invalid_api_key", id="another scheme"),
        pytest.param("Authorization: Bearer tf-old\r\n", 401, "api_key_expired", id="an expired key"),
        pytest.param("Authorization: Bearer tf-alice\r\n", 200, "", id="a key"),
        pytest.param("authorization: bearer tf-alice\r\n", 200, "", id="a key, spelled otherwise"),
        pytest.param("X-Api-Key: tf-alice\r\n", 200, "", id="a key in the other header"),
    ],
)
async def test_who_may_come_in(headers: str, code: int, reason: str) -> None:
    async with fleet(answer) as (front, (engine,)):
        front.shared.keyring = keyring(alice={}, old={"expires": "2020-01-01T00:00:00Z"})
        reply = await ask(front, headers=headers)
        assert reply.status == code
        assert len(engine.calls) == (code == 200)
        if code == 401:
            assert reply.error["code"] == reason
            assert reply.headers["www-authenticate"] == "Bearer"
            assert front.counted(401, reason) == 1
        else:
            assert not {"authorization", "x-api-key"} & set(engine.calls[0].names)


async def test_models_are_not_listed_for_strangers() -> None:
    async with fleet(answer) as (front, _):
        front.shared.keyring = keyring(alice={}, bob={"models": ["other"]})
        assert (await front.ask(get("/v1/models"))).status == 401
        listed = await front.ask(get("/v1/models", headers=f"Authorization: Bearer {_ALICE}\r\n"))
        assert [model["id"] for model in json.loads(listed.body)["data"]] == [MODEL]
        hidden = await front.ask(get("/v1/models", headers=f"Authorization: Bearer {_BOB}\r\n"))
        assert json.loads(hidden.body)["data"] == []


async def test_a_key_is_for_its_models_alone() -> None:
    async with fleet(answer) as (front, (engine,)):
        front.shared.keyring = keyring(alice={"models": ["other"]}, bob={"models": [MODEL]})
        reply = await ask(front, _ALICE)
        assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")
        assert (await ask(front, _BOB)).status == 200
        assert len(engine.calls) == 1


async def test_without_keys_nobody_is_let_in_and_revoking_takes_effect_at_once() -> None:
    async with fleet(answer) as (front, _):
        ring = front.shared.keyring = Keyring()
        reply = await ask(front, _ALICE)
        assert (reply.status, reply.error["code"]) == (503, "keys_unavailable")
        assert "retry-after" in reply.headers
        ring.load({"alice": json.dumps({"sha256": sha256(_ALICE.encode()).hexdigest()}).encode()})
        async with await front.connect() as client:
            for status in (200, 401):
                client.write(post(headers=f"Authorization: Bearer {_ALICE}\r\n"))
                assert (await client.reply()).status == status
                ring.load({"bob": json.dumps({"sha256": sha256(_BOB.encode()).hexdigest()}).encode()})


async def test_what_is_out_of_bounds_reaches_no_engine() -> None:
    async with fleet(answer, terms=terms(bounds=Bounds(max_choices=2, max_tokens=100))) as (front, (engine,)):
        for body, param in (
            ({"n": 3}, "n"),
            ({"max_tokens": 101}, "max_tokens"),
            ({"kv_transfer_params": {}}, "kv_transfer_params"),
        ):
            reply = await ask(front, **body)
            assert (reply.status, reply.error["param"], reply.error["code"]) == (400, param, "out_of_bounds")
        picture = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}
        reply = await ask(front, messages=[{"role": "user", "content": [picture]}])
        assert (reply.status, reply.error["param"]) == (400, "messages[0].content[0].image_url")
        assert not engine.calls


@pytest.mark.parametrize(
    ("bound", "context", "body", "sent"),
    [
        pytest.param(100, None, {}, 100, id="the bound"),
        pytest.param(100, 4096, {}, 100, id="the bound, where it is less than the engine's context"),
        pytest.param(4096, 100, {}, None, id="nothing, where the context is less: vLLM clamps, and refuses more than that"),
        pytest.param(100, None, {"max_tokens": 7}, 7, id="what the client says"),
        pytest.param(None, 100, {}, None, id="nothing without a bound"),
    ],
)
async def test_what_an_engine_is_told_of_an_answers_length(
    bound: int | None, context: int | None, body: dict[str, Any], sent: int | None
) -> None:
    said = terms(bounds=Bounds(max_tokens=bound))
    async with fleet(answer, terms=said) as (front, (engine,)):
        (model,) = front.shared.catalog.models()
        model.pools[0].max_model_len = context
        model.update(said, model.pools, created=0)
        assert (await ask(front, **body)).status == 200
        assert json.loads(engine.calls[0].body).get("max_tokens") == sent


async def test_requests_are_limited_by_key_and_come_back_with_time() -> None:
    async with fleet(answer, terms=terms(rate=Rate(2))) as (front, (engine,)):
        front.shared.keyring = keyring(alice={}, bob={"requestsPerMinute": 1})
        replies = [await ask(front, _ALICE) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
        assert replies[2].headers["retry-after"] == "30"
        assert replies[2].error["type"] == "requests"
        assert replies[2].error["code"] == "rate_limit_exceeded"
        assert [(await ask(front, _BOB)).status for _ in range(2)] == [200, 429]
        assert len(engine.calls) == 3
        front.advance(30.0)
        assert (await ask(front, _ALICE)).status == 200


async def test_two_keys_of_one_name_share_their_limits() -> None:
    async with fleet(answer, terms=terms(rate=Rate(1))) as (front, _):
        front.shared.keyring = keyring(alice={}, bob={"name": "alice"})
        assert (await ask(front, _ALICE)).status == 200
        assert (await ask(front, _BOB)).status == 429


async def test_without_keys_everybody_shares_the_limits() -> None:
    async with fleet(answer, terms=terms(rate=Rate(1))) as (front, _):
        assert (await ask(front)).status == 200
        assert (await ask(front)).status == 429


async def test_tokens_are_settled_by_the_answer_s_usage() -> None:
    async with fleet(Used(5, 15), terms=terms(rate=Rate(None, 1_000))) as (front, _):
        first = await ask(front, max_tokens=900)
        assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
        second = await ask(front, max_tokens=900)
        assert second.status == 200, "the first one used 20 of its 900"
        assert int(second.headers["x-ratelimit-remaining-tokens"]) < 80
        assert front.in_flight == 0


async def test_more_than_was_estimated_is_a_debt() -> None:
    async with fleet(Used(500, 1_000), terms=terms(rate=Rate(None, 1_000))) as (front, _):
        assert (await ask(front, max_tokens=10)).status == 200
        reply = await ask(front, max_tokens=10)
        assert (reply.status, reply.error["type"]) == (429, "tokens")
        assert int(reply.headers["retry-after"]) >= 30


async def test_a_request_that_no_engine_has_done_costs_nothing() -> None:
    async with fleet(failing, terms=terms(rate=Rate(2, 1_000))) as (front, _):
        for _ in range(5):
            reply = await ask(front, max_tokens=900)
            assert reply.status == 400
        assert reply.headers["x-ratelimit-remaining-requests"] == "1"


async def test_a_client_that_leaves_is_charged_as_estimated() -> None:
    async def streaming(call: Call) -> None:
        call.begin_stream()
        call.event()
        await call.gone()

    async with fleet(streaming, terms=terms(rate=Rate(None, 1_000))) as (front, _):
        async with await front.connect() as client:
            client.write(post({"model": MODEL, "messages": [], "stream": True, "max_tokens": 900}))
            await client.head()
        await until(lambda: front.in_flight == 0)
        assert (await ask(front, max_tokens=900)).status == 429


async def test_no_limits_no_headers() -> None:
    async with fleet(answer) as (front, _):
        assert not [name for name in (await ask(front)).headers if name.startswith("x-ratelimit")]
