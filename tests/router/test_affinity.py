"""What requests have in common as the router sees it: equal keys for what an engine's cache can share, others for what not."""

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from tokenfleet.router import fields
from tokenfleet.router.balancing import affinity
from tokenfleet.router.terms import Terms
from tokenfleet.router.wire import request
from tokenfleet.router.wire.limits import Limits

SYSTEM = {"role": "system", "content": 'You are a "helpful" assistant. {Always} answer in [JSON].'}
HELLO = {"role": "user", "content": 'Hello! Who are "you"? {name}'}
ANSWER = {"content": "I am a model.", "refusal": None, "role": "assistant"}
"""With its members as the openai package writes a message that it has read."""
MORE = {"role": "user", "content": "What else?"}
PICTURE = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What } is { this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
    ],
}
LONG = {"role": "user", "content": "Once upon a time, " * 1000}


def conversation(*messages: dict[str, Any], **dumps: Any) -> int | None:
    return affinity.of_conversation(msgspec.Raw(json.dumps(messages, **dumps).encode()))


def prompt(value: object) -> int | None:
    return affinity.of_prompt(msgspec.Raw(msgspec.json.encode(value)))


@pytest.mark.parametrize(
    "first",
    [
        pytest.param([HELLO], id="a user's message"),
        pytest.param([SYSTEM, HELLO], id="after a system prompt"),
        pytest.param([SYSTEM, {"content": "Hello!", "role": "user"}], id="with its role behind its content"),
        pytest.param([SYSTEM, {"content": "Hello!", "role": "user", "name": "bob"}], id="with its role in the middle"),
        pytest.param([SYSTEM, PICTURE], id="with parts"),
        pytest.param([SYSTEM, LONG], id="longer than what counts"),
        pytest.param([{"role": "system", "content": "Be brief. " * 1000}, HELLO], id="after a long system prompt"),
        pytest.param([SYSTEM, {"role": "user", "content": "ends in \\"}], id="that ends in a backslash"),
        pytest.param([SYSTEM, {"role": "user", "content": 'he is a "user"'}], id="that has the word in quotes"),
    ],
)
@pytest.mark.parametrize("spacing", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
def test_a_conversation_keeps_its_key_while_it_grows(first: list[dict[str, Any]], spacing: tuple[str, str]) -> None:
    turns = [
        first,
        [*first, ANSWER, MORE],
        [*first, ANSWER, MORE, ANSWER, HELLO],
        [*first, {"role": "assistant", "content": ""}],
    ]
    assert len({conversation(*turn, separators=spacing) for turn in turns}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([SYSTEM, HELLO], [SYSTEM, MORE], id="another first message"),
        pytest.param([SYSTEM, HELLO], [HELLO], id="another system prompt"),
        pytest.param([LONG], [{**LONG, "content": "Twice " + str(LONG["content"])}], id="long ones that begin otherwise"),
        pytest.param(
            [{"content": "a" * 400 + "x", "role": "user"}],
            [{"content": "a" * 400 + "y", "role": "user"}],
            id="another end, with the role behind it",
        ),
        pytest.param([PICTURE], [{**PICTURE, "content": [{"type": "text", "text": "What } is {"}]}], id="other parts"),
    ],
)
def test_other_conversations_have_other_keys(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert conversation(*one) != conversation(*other)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(b"[]", id="empty"),
        pytest.param(b'[{"role":"system"}]', id="short, without a user"),
        pytest.param(b'{"role":"tool"}', id="no list"),
    ],
)
def test_what_no_cache_has_has_no_key(messages: bytes) -> None:
    assert affinity.of_conversation(msgspec.Raw(messages)) is None


def test_messages_without_a_user_are_kept_together_by_their_beginning() -> None:
    assert conversation(SYSTEM, ANSWER) is not None
    assert conversation({**SYSTEM, "content": "a" * 300}) == conversation({**SYSTEM, "content": "a" * 300 + "b"})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("a" * 300 + "x", "a" * 300 + "y", True, id="the same first blocks"),
        pytest.param("a" * 200 + "x", "a" * 200 + "y", False, id="a difference in the first blocks"),
        pytest.param(list(range(1000)), [*range(999), 5], True, id="token ids with the same first blocks"),
        pytest.param(list(range(1000)), [5, *range(999)], False, id="other token ids"),
    ],
)
def test_prompts(one: object, other: object, same: bool) -> None:
    assert prompt(one) is not None
    assert (prompt(one) == prompt(other)) is same


def test_a_prompt_shorter_than_a_block_has_no_key() -> None:
    assert prompt("Hi") is None


def test_a_key_is_the_same_in_every_process() -> None:
    code = (
        "import msgspec; from tokenfleet.router.balancing import affinity; print(affinity.of_prompt(msgspec.Raw(b'a' * 300)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(printed) == affinity.of_prompt(msgspec.Raw(b"a" * 300))


CHAT = {"model": "m", "messages": [HELLO]}


@pytest.mark.parametrize(
    ("policy", "headers", "body", "same_as"),
    [
        pytest.param("PrefixAffinity", "", CHAT, conversation(HELLO, separators=(",", ":")), id="chat"),
        pytest.param("PrefixAffinity", "", {"model": "m", "prompt": "a" * 99}, prompt("a" * 99), id="completion"),
        pytest.param("PrefixAffinity", "", {"model": "m", "input": "a" * 99}, None, id="embeddings have no cache"),
        pytest.param("PrefixAffinity", "X-Session-Id: 7\r\n", {"model": "m"}, None, id="a session does not count for prefixes"),
        pytest.param("SessionAffinity", "", CHAT, None, id="no session"),
        pytest.param("SessionAffinity", "X-Session-Id:\r\n", CHAT, None, id="an empty session"),
    ],
)
def test_which_key_a_policy_asks_for(policy: Any, headers: str, body: object, same_as: int | None) -> None:
    assert _of(policy, headers, body) == same_as


def test_a_session_is_its_header_alone() -> None:
    one = _of("SessionAffinity", "X-Session-Id: 7\r\n", CHAT)
    assert one is not None
    assert one == _of("SessionAffinity", "x-session-id:7 \r\n", {"model": "m", "prompt": "Else"})
    assert one != _of("SessionAffinity", "X-Session-Id: 8\r\n", CHAT)
    assert _of("SessionAffinity", "X-User: 7\r\n", CHAT, header="X-User") == one


def _of(policy: Any, headers: str, body: object, header: str = "x-session-id") -> int | None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 2\r\n\r\n".encode()
    read = fields.read(msgspec.json.encode(body))
    return affinity.of(read, request.parse(head, Limits()), Terms(policy=policy, session_header=header))
