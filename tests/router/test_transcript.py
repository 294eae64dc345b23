"""What a stream has said so far, from the bytes that passed: the same however they were cut into parts, and what is a flaw."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.router.continuing.transcript import TEXT_CHARACTERS, Heading, Transcript

DONE = b"data: [DONE]\n\n"
HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 17, "model": "llama"}


def event(**fields: object) -> bytes:
    return b"data: " + msgspec.json.encode({**HEAD, **fields}) + b"\n\n"


def said(text: str, **more: object) -> bytes:
    """A completion's."""
    return event(choices=[{"index": 0, "text": text, "logprobs": None, "finish_reason": None, "stop_reason": None, **more}])


def delta(finish: str | None = None, **fields: Any) -> bytes:
    """A chat's."""
    return event(choices=[{"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}])


def transcript(*parts: bytes) -> Transcript:
    made = Transcript()
    for part in parts:
        made.add(part)
    made.text()
    return made


def test_a_chat_is_its_contents_and_its_role_is_said_once() -> None:
    found = transcript(delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), delta(content=None))
    assert (found.text(), found.role, found.finished, found.flaw) == ("Hello", True, False, "")
    assert found.heading == Heading(id="cmpl-1", object="text_completion", created=17, model="llama")


def test_before_the_first_event_there_is_nothing() -> None:
    found = transcript()
    assert (found.text(), found.heading, found.role, found.done, found.flaw) == ("", None, False, False, "")


@pytest.mark.parametrize(
    ("last", "stop", "ended"),
    [
        pytest.param({"finish_reason": "length"}, "", False, id="as long as it may be"),
        pytest.param({"finish_reason": "stop"}, "", True, id="by the model's own last token, which is not in the text"),
        pytest.param({"finish_reason": "stop", "stop_reason": 7}, "", True, id="by a stop token"),
        pytest.param({"finish_reason": "stop", "stop_reason": "END"}, "END", False, id="by a stop string"),
    ],
)
def test_how_it_ended(last: dict[str, object], stop: str, ended: bool) -> None:
    found = transcript(said("a"), said("b", **last))
    assert (found.text(), found.finished, found.stop, found.ended) == ("ab", True, stop, ended)


def test_usage_on_its_own_at_the_end_counts_and_usage_beside_a_text_does_not() -> None:
    usage = {"prompt_tokens": 3, "total_tokens": 4, "completion_tokens": 1}
    beside = event(choices=[{"index": 0, "text": "a"}], usage=usage)
    assert not transcript(beside).counted
    assert transcript(beside, event(choices=[], usage=usage)).counted


def test_comments_and_line_feeds_of_other_servers_are_understood() -> None:
    found = transcript(b": ping\n\n", said("a"), said("b").replace(b"\n\n", b"\r\n\r\n"), b": ping\r\n\r\n", said("c"), DONE)
    assert (found.text(), found.done, found.flaw) == ("abc", True, "")


@pytest.mark.parametrize(
    ("parts", "flaw"),
    [
        pytest.param([delta(tool_calls=[{"index": 0}])], "tool_call", id="a tool call"),
        pytest.param([delta(function_call={"name": "f"})], "tool_call", id="a function call, as it was before"),
        pytest.param([delta(reasoning="Hm")], "reasoning", id="reasoning"),
        pytest.param([delta(reasoning_content="Hm")], "reasoning", id="reasoning, as it was called before"),
        pytest.param([event(choices=[{"index": 1, "text": "b"}])], "unsuited", id="a second choice"),
        pytest.param([b"data: {\n\n"], "unreadable", id="what is no JSON"),
        pytest.param([said("x" * (TEXT_CHARACTERS + 1))], "too_long", id="a text that is too long"),
        pytest.param([said("x" * 1000)] * (TEXT_CHARACTERS // 1000 + 1), "too_long", id="a text that grows too long"),
    ],
)
def test_what_is_a_flaw(parts: list[bytes], flaw: str) -> None:
    found = transcript(said("a"), *parts, said("b"))
    assert (found.flaw, found.text()) == (flaw, "")


@pytest.mark.parametrize("empty", [{"tool_calls": []}, {"reasoning": None}, {"reasoning": ""}, {"tool_calls": None}])
def test_what_says_nothing_is_none(empty: dict[str, Any]) -> None:
    assert transcript(delta(content="a", **empty)).flaw == ""


TEXTS = st.lists(st.text(max_size=20), max_size=40)


@given(TEXTS, st.integers(1, 7), st.booleans())
def test_however_events_come_together_the_text_is_the_same(texts: list[str], size: int, chat: bool) -> None:
    events = [delta(content=text) if chat else said(text) for text in texts]
    parts = [b"".join(events[at : at + size]) for at in range(0, len(events), size)]
    assert transcript(*parts, DONE).text() == "".join(texts)
