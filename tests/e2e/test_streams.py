"""The stories' stream checker itself: each way in which a stream can go wrong is seen as what it is."""

import asyncio
import json

import httpx
import pytest

from e2e import streams

TOKENS = 3


def _event(**fields: object) -> str:
    return f"data: {json.dumps(fields)}\n\n"


TOKEN = _event(choices=[{"text": "x", "finish_reason": None}])
END = _event(choices=[{"text": "x", "finish_reason": "length"}])
USAGE = _event(choices=[], usage={"completion_tokens": TOKENS})
DONE = "data: [DONE]\n\n"
WHOLE = TOKEN + TOKEN + END + USAGE + DONE


async def _outcome(answer: httpx.Response | Exception, *, stream: bool = True) -> streams.Tally:
    """The tally after one request that is answered so."""

    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # as a network would
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content)

    load = streams.Load(url="http://router", model="m", streams=1, tokens=TOKENS, stream=stream)
    async with streams.running(load, httpx.MockTransport(handle)) as tally:
        await streams.until(lambda: tally.outcomes.total() > 0)
    return tally


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param(WHOLE, "whole", id="all tokens, a finish reason, usage and [DONE]"),
        pytest.param(TOKEN + TOKEN + END + USAGE, "truncated", id="no [DONE]"),
        pytest.param(TOKEN + DONE, "truncated", id="[DONE] too early"),
        pytest.param(TOKEN + END + _event(choices=[], usage={"completion_tokens": 2}) + DONE, "truncated", id="a token less"),
        pytest.param(TOKEN + _event(error={"message": "engine died"}), "announced", id="an error event"),
    ],
)
async def test_a_stream_is_seen_as_what_it_is(text: str, outcome: str) -> None:
    tally = await _outcome(httpx.Response(200, text=text))
    assert set(tally.outcomes) == {outcome}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(httpx.Response(503, text="no replica"), "announced", id="a status"),
        pytest.param(httpx.ReadError("reset"), "lost", id="a broken connection"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_is_announced_or_lost(answer: httpx.Response | Exception, outcome: str, stream: bool) -> None:
    tally = await _outcome(answer, stream=stream)
    assert set(tally.outcomes) == {outcome}
    assert tally.problems[0].startswith(outcome)


@pytest.mark.parametrize(("tokens", "outcome"), [(TOKENS, "whole"), (TOKENS - 1, "truncated")])
async def test_an_answer_in_one_piece_is_counted_too(tokens: int, outcome: str) -> None:
    answer = httpx.Response(200, json={"usage": {"completion_tokens": tokens}})
    assert set((await _outcome(answer, stream=False)).outcomes) == {outcome}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [pytest.param("xxx", "whole", id="the text that was learnt"), pytest.param("xxy", "truncated", id="another text")],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "not streamed"])
async def test_another_text_of_the_right_length_is_no_whole_answer(text: str, outcome: str, stream: bool) -> None:
    body = WHOLE if stream else json.dumps({"choices": [{"text": "xxx"}], "usage": {"completion_tokens": TOKENS}})

    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(200, text=body)

    load = streams.Load(url="http://router", model="m", streams=1, tokens=TOKENS, stream=stream, texts={0: text})
    async with streams.running(load, httpx.MockTransport(handle)) as tally:
        await streams.until(lambda: tally.outcomes.total() > 0)
    assert set(tally.outcomes) == {outcome}
