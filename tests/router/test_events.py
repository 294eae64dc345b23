"""Event streams on their way: what passes, what is taken out, and that cutting the bytes anywhere changes nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.router.events import EventStream
from tokenfleet.router.usage import Usage

TOKEN = b'data: {"id":"1","choices":[{"delta":{"content":"a"}}]}\n\n'
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"total_tokens":10,"completion_tokens":7}}\n\n'
RUNNING = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":3,"total_tokens":4,"completion_tokens":1}}\n\n'
ERROR = b'data: {"error":{"message":"EngineCore encountered an issue","code":500}}\n\n'
DONE = b"data: [DONE]\n\n"


def relay(*payloads: bytes, quiet: bool = True) -> tuple[bytes, EventStream]:
    stream = EventStream(quiet=quiet)
    passed = b"".join(stream.feed(payload) for payload in payloads)
    return passed + stream.end(), stream


@pytest.mark.parametrize(
    ("sent", "quiet", "passed", "usage"),
    [
        pytest.param([TOKEN, TOKEN, DONE], True, TOKEN * 2 + DONE, None, id="a stream without anything to do passes as it is"),
        pytest.param(
            [TOKEN, USAGE, DONE], True, TOKEN + DONE, Usage(3, 7), id="usage that the client did not ask for is taken out"
        ),
        pytest.param([TOKEN, USAGE, DONE], False, TOKEN + USAGE + DONE, Usage(3, 7), id="usage that it asked for passes"),
        pytest.param([TOKEN + USAGE + DONE], True, TOKEN + DONE, Usage(3, 7), id="several events in one payload"),
        pytest.param([TOKEN[:9], TOKEN[9:] + DONE], True, TOKEN + DONE, None, id="an event in two parts"),
        pytest.param([RUNNING, DONE], True, RUNNING + DONE, Usage(3, 1), id="usage beside a choice is read, and passes"),
        pytest.param(
            [b'data: {"text":"no end'], True, b'data: {"text":"no end', None, id="a rest without an end passes at the end"
        ),
        pytest.param([b": ping\r\n\r\n", TOKEN], True, b": ping\r\n\r\n" + TOKEN, None, id="events that end in CR LF"),
    ],
)
def test_what_passes(sent: list[bytes], quiet: bool, passed: bytes, usage: Usage | None) -> None:
    found, stream = relay(*sent, quiet=quiet)
    assert (found, stream.usage, stream.failed) == (passed, usage, False)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([TOKEN, ERROR, DONE], id="in payloads of their own"),
        pytest.param([TOKEN, ERROR + DONE], id="in one payload"),
        pytest.param([TOKEN + ERROR[:20], ERROR[20:] + DONE[:4], DONE[4:]], id="cut in the middle"),
    ],
)
def test_after_an_error_event_no_done_passes(sent: list[bytes]) -> None:
    passed, stream = relay(*sent)
    assert (passed, stream.failed) == (TOKEN + ERROR, True)


def test_a_text_that_looks_like_an_error_or_usage_is_neither() -> None:
    text = rb'data: {"choices":[{"text":"\"error\": \"usage\":{\"prompt_tokens\":1} {\"error\""}]}' + b"\n\n"
    passed, stream = relay(text, DONE)
    assert (passed, stream.usage, stream.failed) == (text + DONE, None, False)


def test_a_part_of_an_event_is_never_passed_on_alone() -> None:
    stream = EventStream(quiet=True)
    assert stream.feed(TOKEN + TOKEN[:10]) == TOKEN
    assert stream.feed(TOKEN[10:]) == TOKEN


def test_an_event_larger_than_what_is_held_passes_in_parts() -> None:
    stream, part = EventStream(quiet=True), b"x" * 300_000
    assert stream.feed(b"data: " + part) == b"data: " + part


@given(st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_where_the_bytes_are_cut_changes_nothing(cuts: list[int], quiet: bool) -> None:
    whole = TOKEN * 2 + RUNNING + USAGE + DONE
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    parts = [whole[start:end] for start, end in pairwise(places)]
    assert relay(*parts, quiet=quiet)[0] == relay(whole, quiet=quiet)[0]
