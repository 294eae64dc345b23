"""The engine's benchmark: its client against answers of every kind, and its work, which must be the same for both sides."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from e2e.bench import engine_work as work
from e2e.bench.completions import Answer, BadAnswer, Request, ask, closed_loop, in_batches
from e2e.bench.engine_figures import Ratio, p99

TOKEN = 'data: {"choices":[{"text":"a"}]}\n\n'
USAGE = 'data: {"choices":[],"usage":{"completion_tokens":2}}\n\n'
DONE = "data: [DONE]\n\n"
WHOLE = (TOKEN, TOKEN, USAGE, DONE)
REQUEST = Request(prompt="p", tokens=2)


def _chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


@asynccontextmanager
async def _serving(*events: str, status: str = "200 OK", end: bytes = b"0\r\n\r\n") -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for event in events:
            writer.write(_chunk(event))
            await writer.drain()
        writer.write(end)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_answer_is_timed_token_by_token() -> None:
    async with _serving(*WHOLE) as url:
        answer = await ask(url, "m", REQUEST)
    assert (answer.tokens, len(answer.times), len(answer.gaps)) == (2, 2, 1)
    assert 0 < answer.ttft <= answer.seconds


async def test_an_event_that_comes_in_pieces_is_one() -> None:
    text = "".join(WHOLE)
    async with _serving(text[:10], text[10:50], text[50:]) as url:
        assert len((await ask(url, "m", REQUEST)).times) == 2


@pytest.mark.parametrize(
    ("events", "more", "why"),
    [
        pytest.param(("{}",), {"status": "503 Service Unavailable"}, "503", id="a refusal"),
        pytest.param((TOKEN, TOKEN, USAGE), {}, "DONE", id="an end without [DONE]"),
        pytest.param((TOKEN,), {"end": b""}, "connection", id="a connection that breaks"),
        pytest.param((TOKEN, 'data: {"error":{"message":"boom"}}\n\n'), {}, "boom", id="an error event"),
        pytest.param((TOKEN, USAGE.replace("2", "1"), DONE), {}, "1 tokens of 2", id="too few tokens"),
    ],
)
async def test_what_is_not_the_answer_gives_no_figure(events: tuple[str, ...], more: dict[str, object], why: str) -> None:
    async with _serving(*events, **more) as url:  # type: ignore[arg-type]
        with pytest.raises(BadAnswer, match=why):
            await ask(url, "m", REQUEST)


async def _counting(log: list[int], running: list[int], request: Request) -> Answer:
    running.append(1)
    log.append(len(running))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.pop()
    return Answer((0.1,), request.tokens, 0.1)


@pytest.mark.parametrize(
    ("way", "most"),
    [
        pytest.param(partial(closed_loop, clients=3), 3, id="a closed loop has as many in flight as it has clients"),
        pytest.param(partial(in_batches, size=4), 4, id="batches have as many as their size"),
    ],
)
async def test_every_request_is_sent_once(way: Callable[..., object], most: int) -> None:
    log: list[int] = []
    requests = work.mixed(10, seed=1)
    answers = await way(requests, send=partial(_counting, log, []))  # type: ignore[misc]
    assert (len(answers), max(log)) == (10, most)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(partial(work.mixed, 20), id="mixed"),
        pytest.param(partial(work.even, 20, prompt=64, tokens=8), id="even"),
        pytest.param(partial(work.repeating, 5), id="repeating"),
    ],
)
def test_work_is_the_same_for_all_and_no_prompt_begins_as_another(make: Callable[..., list[Request]]) -> None:
    assert make(seed=3) == make(seed=3) != make(seed=4)
    beginnings = {request.prompt[:16] for request in [*make(seed=3), *make(seed=4)]}
    assert len(beginnings) == 2 * len(make(seed=3))


def test_sharing_prompts_share_all_but_their_end() -> None:
    first, second, *_ = work.sharing(4, prefix=500, seed=1)
    assert first.prompt[:500] == second.prompt[:500] != first.prompt


def test_figures() -> None:
    assert str(Ratio.of([(1, 2), (3, 2), (2, 2)])) == "1.00 (0.50–1.50)"
    assert p99(range(1000)) == 990
