"""A streamed answer, however it is cut into pieces."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.bench.events import Answer, Lines, message_of


def chunk(text: str = " a", **more: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text}], **more}).encode() + b"\n\n"


def delta(**fields: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": fields}]}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = chunk(" a") + chunk(' "usage" and "error"') + b": ping\n\n" + chunk(" ü") + USAGE + DONE


def read(*pieces: bytes, keep_text: bool = False) -> Answer:
    lines, answer = Lines(), Answer(keep_text=keep_text)
    for piece in pieces:
        for event in lines.feed(piece):
            answer.take(event)
    return answer


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans())
def test_pieces_may_end_anywhere(cuts: list[int], crlf: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    places = [0, *sorted(cuts), len(stream)]
    answer = read(*(stream[low:high] for low, high in pairwise(places)), keep_text=True)
    assert (answer.chunks, answer.usage, answer.done, answer.error) == (3, (7, 3), True, None)
    assert answer.text() == ' a "usage" and "error" ü'


@pytest.mark.parametrize(
    ("stream", "chunks", "error"),
    [
        pytest.param(chunk() + b'data: {"error":{"message":"full","code":500}}\n\n', 1, "500: full", id="error as data"),
        pytest.param(chunk() + b'event: error\ndata: {"message":"gone"}\n\n', 1, "gone", id="an error event"),
        pytest.param(chunk() + b"data: nonsense\n\n", 1, "an event is no JSON object: nonsense", id="no JSON"),
        pytest.param(chunk(finish_reason="error"), 1, None, id="a value called error is none"),
        pytest.param(chunk(usage={"prompt_tokens": 1, "completion_tokens": 1}), 1, None, id="usage beside a token"),
        pytest.param(b'data: {"choices":[],"prompt_filter_results":[]}\n\n', 0, None, id="no choice, no token"),
        pytest.param(b"event: message\nid: 3\n" + chunk(), 1, None, id="other fields of an event"),
        pytest.param(delta(role="assistant", content="") + delta(content="Hi"), 1, None, id="a role is no token"),
        pytest.param(delta(role="assistant", content="Hi") + delta(content=""), 2, None, id="a role with a token is one"),
        pytest.param(delta(role="assistant", reasoning_content="Hm"), 1, None, id="thought is tokens too"),
    ],
)  # fmt: skip
def test_what_an_event_is(stream: bytes, chunks: int, error: str | None) -> None:
    answer = read(stream)
    assert (answer.chunks, answer.error) == (chunks, error)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'{"error":{"message":"No such key.","type":"invalid_request_error","code":"invalid_api_key"}}',
            ("invalid_api_key", "No such key."),
            id="as OpenAI says it",
        ),
        pytest.param(b'{"object":"error","message":"too long","code":400}', ("400", "too long"), id="as older servers do"),
        pytest.param(b"<html>Bad Gateway</html>", (None, "<html>Bad Gateway</html>"), id="a proxy's page"),
        pytest.param(b"", (None, "no reason given"), id="nothing"),
    ],
)
def test_a_refusals_words(body: bytes, expected: tuple[str | None, str]) -> None:
    assert message_of(body) == expected
