"""What asynchronous requests look like over HTTP, as far as it takes no Redis; the rest is in tests/integration."""

import msgspec
import pytest

from tests.router.harness import answer, fleet, get, post
from tokenfleet.router.durable.answers import shown
from tokenfleet.router.durable.requests import State, Stored

ENDED = Stored(
    id="async_1",
    state=State.SUCCEEDED,
    owner="alice",
    model="llama",
    path="/v1/completions",
    created=10.9,
    started=11.2,
    ended=12.0,
    expires=99.0,
    tries=1,
    status=200,
    request_id="r",
    body=b'{"big": 123456789012345678901234567890,  "nan": "\\u00e9"}',
    code="",
    message="",
)


def test_an_answer_stands_in_it_byte_by_byte() -> None:
    assert ENDED.body is not None
    text = shown(ENDED)
    assert b'"response":{"status_code":200,"request_id":"r","body":' + ENDED.body + b"}" in text
    found = msgspec.json.decode(text)
    assert (found["created_at"], found["started_at"], found["completed_at"], found["expires_at"]) == (10, 11, 12, 99)
    assert found["error"] is None


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        pytest.param(b"<html>", "<html>", id="what is no JSON is a string"),
        pytest.param(b"\xff", "\ufffd", id="and what is no text either is readable all the same"),
        pytest.param(b"", "", id="nothing is nothing"),
    ],
)
def test_answers_that_are_not_json(body: bytes, seen: str) -> None:
    assert msgspec.json.decode(shown(msgspec.structs.replace(ENDED, body=body)))["response"]["body"] == seen


def test_one_that_has_not_ended_has_neither_response_nor_error() -> None:
    running = msgspec.structs.replace(ENDED, state=State.RUNNING, ended=None, status=None, body=None)
    found = msgspec.json.decode(shown(running))
    assert (found["status"], found["completed_at"], found["response"], found["error"]) == ("running", None, None, None)


def test_a_dead_one_says_why() -> None:
    dead = msgspec.structs.replace(ENDED, state=State.DEAD, status=None, body=None, code="expired", message="Too late.")
    found = msgspec.json.decode(shown(dead))
    assert (found["response"], found["error"]) == (None, {"code": "expired", "message": "Too late."})


async def test_without_a_durable_queue_its_paths_are_not_served() -> None:
    async with fleet(answer) as (front, (engine,)):
        ask = get(f"/v1/async/requests/async_{'0' * 32}")
        for request in (post(path="/v1/async/chat/completions"), ask, ask.replace(b"GET", b"DELETE", 1)):
            reply = await front.ask(request)
            assert (reply.status, reply.error["code"]) == (404, "unknown_path")
            assert "enables no `async`" in str(reply.error["message"])
        assert engine.calls == []
