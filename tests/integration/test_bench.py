"""Load tests of servers on loopback: a simulated engine, and servers that do not do as they should."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest

import tokenfleet
import tokenfleet_engine
from tests.bench.servers import DONE, Answer, Body, answer_well, chunk, head, piece, serving, stream, usage, whole
from tokenfleet.bench.arrivals import Closed, Open, Trace
from tokenfleet.bench.client import BadTarget, Client, Endpoint
from tokenfleet.bench.figures import summarize
from tokenfleet.bench.load import Leaving, Progress, Stop, drive
from tokenfleet.bench.prompts import Lengths, Numbers, Prompt, Synthetic, Wording
from tokenfleet.bench.record import Exchange
from tokenfleet.bench.wording import Words, choose_wording

ASK = Prompt(text="One", output_tokens=3)


def prompts(wording: Wording | None = None, turns: int = 1, output: int = 4) -> Synthetic:
    return Synthetic(
        input=Lengths("fixed", 8), output=Lengths("fixed", output), wording=wording or Numbers(), turns=turns
    )  # fmt: skip


async def ask(
    answer: Answer,
    prompt: Prompt = ASK,
    *,
    endpoint: Endpoint = "completions",
    patience: float = 5.0,
    leave: float | None = None,
) -> Exchange:
    async with serving(answer) as (url, _), Client(url, model="demo", endpoint=endpoint, timeout=patience) as client:
        return await client.send(prompt, leave_after=leave)


async def test_a_whole_answer() -> None:
    async def spaced(writer: asyncio.StreamWriter, _: Body) -> None:
        await stream(writer, chunk(), chunk(), chunk(), usage(5, 6), DONE, every=0.02)

    got = await ask(spaced)
    assert (got.outcome, got.error, got.status, got.counted) == ("ok", None, 200, True)
    assert (got.prompt_tokens, got.output_tokens, len(got.times)) == (5, 6, 3)
    assert got.first == got.times[0]
    assert got.sent <= got.times[0] < got.times[1] < got.times[2] < got.ended


async def test_without_usage_chunks_are_counted() -> None:
    got = await ask(lambda writer, _: stream(writer, chunk(), chunk(), DONE))
    assert (got.outcome, got.output_tokens, got.counted) == ("ok", 2, False)


async def _broken(writer: asyncio.StreamWriter, _: Body) -> None:
    writer.write(head() + piece(chunk()))
    await writer.drain()
    writer.transport.abort()


async def _silent(writer: asyncio.StreamWriter, _: Body) -> None:
    writer.write(head() + piece(chunk()))
    await asyncio.sleep(60)


async def _mute(_: asyncio.StreamWriter, __: Body) -> None:
    await asyncio.sleep(60)


async def _gone(writer: asyncio.StreamWriter, _: Body) -> None:
    writer.close()


async def _full(writer: asyncio.StreamWriter, _: Body) -> None:
    writer.write(whole("503 Service Unavailable", {"error": {"message": "Try later.", "code": "queue_full"}}))


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        pytest.param(_broken, "cut", "the connection broke amid the answer", id="a connection that breaks amid the answer"),
        pytest.param(_silent, "cut", "no whole answer within 0.3 s", id="a server that falls silent"),
        pytest.param(_mute, "error", "no whole answer within 0.3 s", id="a server that says nothing"),
        pytest.param(_gone, "error", "the server closed the connection", id="a server that closes at once"),
        pytest.param(_full, "error", "HTTP 503 queue_full: Try later.", id="a refusal"),
        pytest.param(
            lambda writer, _: stream(writer, chunk(), usage(1, 1)), "cut", "the stream ended without [DONE]", id="no [DONE]"
        ),
        pytest.param(lambda writer, _: stream(writer, DONE), "error", "no token came", id="no token"),
        pytest.param(
            lambda writer, _: stream(writer, chunk(), b'data: {"error":{"message":"OOM"}}\n\n', DONE), "cut", "OOM", id="error"
        ),
    ],
)  # fmt: skip
async def test_what_is_no_whole_answer(answer: Answer, outcome: str, error: str) -> None:
    got = await ask(answer, patience=0.3)
    assert (got.outcome, got.error) == (outcome, error)


async def test_a_client_that_leaves() -> None:
    assert (await ask(_silent, leave=0.1)).outcome == "aborted"
    assert (await ask(answer_well, leave=2.0)).outcome == "ok"


async def test_nobody_there() -> None:
    async with Client("http://127.0.0.1:1", model="demo") as client:
        got = await client.send(ASK)
        assert (got.outcome, got.error, got.status) == ("error", "127.0.0.1:1 refuses connections", None)
        with pytest.raises(BadTarget, match=r"http://127.0.0.1:1/v1 cannot be reached: 127.0.0.1:1 refuses connections\."):
            await client.fetch("/models")


async def test_what_is_asked() -> None:
    async with serving() as (url, asked):
        async with Client(url, model="demo", extra={"ignore_eos": True}) as client:
            await client.send(Prompt(token_ids=(101, 102), output_tokens=2))
        async with Client(f"{url}/v1/chat/completions", model="demo", endpoint="chat") as client:
            await client.send(ASK)
    common = {"model": "demo", "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    assert asked == [
        {**common, "prompt": [101, 102], "max_tokens": 2, "ignore_eos": True},
        {**common, "messages": [{"role": "user", "content": "One"}], "max_tokens": 3},
    ]


async def test_a_closed_loop_has_so_many_at_once_and_ends_with_its_count() -> None:
    under_way, most = 0, 0

    async def slow(writer: asyncio.StreamWriter, body: Body) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        await answer_well(writer, body)

    seen: list[Exchange] = []
    async with serving(slow) as (url, asked), Client(url, model="demo") as client:
        run = await drive(
            client, prompts().prompts(Random(1)), Closed(3), stop=Stop(requests=20), on_exchange=seen.append, meta={"a": 1}
        )  # fmt: skip
    assert most == 3
    assert len(asked) == 20
    assert sorted(each.index for each in run.exchanges) == list(range(20))
    assert tuple(seen) == run.exchanges
    assert (run.meta["a"], run.meta["ending"]) == (1, "complete")
    assert summarize(run).ok == 20
    assert 2.0 < summarize(run).concurrency <= 3.0


async def test_an_open_loop_counts_from_the_moments_that_were_meant() -> None:
    """The server takes one at a time and 0.1 s for each, and five come at once: the last one waits for four others."""
    turn = asyncio.Lock()

    async def one_by_one(writer: asyncio.StreamWriter, body: Body) -> None:
        async with turn:
            await asyncio.sleep(0.1)
            await answer_well(writer, body)

    async with serving(one_by_one) as (url, _), Client(url, model="demo") as client:
        open_loop = await drive(client, prompts().prompts(Random(1)), Trace((0.0,) * 5), stop=Stop())
        bounded = await drive(client, prompts().prompts(Random(1)), Trace((0.0,) * 5), stop=Stop(), at_once=1)
        closed = await drive(client, prompts().prompts(Random(1)), Closed(1), stop=Stop(requests=5))
    waits = [summarize(run).ttft for run in (open_loop, bounded, closed)]
    assert all(wait is not None for wait in waits)
    means = [wait.mean for wait in waits if wait is not None]
    assert means == pytest.approx([0.3, 0.3, 0.1], abs=0.08)
    lateness = summarize(bounded).lateness
    assert lateness is not None
    assert lateness.max == pytest.approx(0.4, abs=0.1)


async def test_a_duration_sends_nothing_after_its_end_and_waits_for_what_is_under_way() -> None:
    async def slow(writer: asyncio.StreamWriter, body: Body) -> None:
        await asyncio.sleep(0.2)
        await answer_well(writer, body)

    async with serving(slow) as (url, _), Client(url, model="demo") as client:
        run = await drive(client, prompts().prompts(Random(1)), Open(50.0, "constant"), stop=Stop(seconds=0.5))
    assert run.meta["window"] == {"begins": 0.0, "ends": 0.5}
    assert len(run.exchanges) == 25
    assert max(each.intended for each in run.exchanges) < 0.5 < run.seconds
    assert {each.outcome for each in run.exchanges} == {"ok"}
    assert summarize(run).requests_per_second < 25 / 0.5


async def test_what_never_ends_is_cut_when_the_grace_is_over() -> None:
    async with serving(_silent) as (url, _), Client(url, model="demo") as client:
        run = await drive(client, prompts().prompts(Random(1)), Closed(2), stop=Stop(seconds=0.3, grace=0.3))
    assert run.meta["ending"] == "unfinished"
    assert [(each.outcome, each.error) for each in run.exchanges] == [("cut", "it had not ended when the test was over")] * 2


async def test_an_interruption_keeps_what_there_was() -> None:
    halt, seen = asyncio.Event(), list[Progress]()

    def look(now: Progress) -> None:
        seen.append(now)
        if now.done >= 2:
            halt.set()

    served = 0

    async def third_hangs(writer: asyncio.StreamWriter, body: Body) -> None:
        nonlocal served
        served += 1
        await (answer_well(writer, body) if served <= 2 else _silent(writer, body))

    async with serving(third_hangs) as (url, _), Client(url, model="demo") as client:
        run = await drive(client, prompts().prompts(Random(1)), Closed(1), stop=Stop(requests=9), on_progress=look, halt=halt)
    assert run.meta["ending"] == "interrupted"
    assert [each.outcome for each in run.exchanges] == ["ok", "ok", "aborted"]
    assert seen[-1].chunks == 9


async def test_a_server_that_goes_away_ends_the_run() -> None:
    async with serving() as (url, _), Client(url, model="demo") as client:
        kept = Client("http://127.0.0.1:1", model="demo")
        assert (await client.send(ASK)).outcome == "ok"
    async with kept as client:
        run = await asyncio.wait_for(drive(client, prompts().prompts(Random(1)), Closed(4), stop=Stop(requests=10_000)), 15)
    assert run.meta["ending"] == "server gone"
    assert 5 <= len(run.exchanges) < 200


async def test_clients_that_leave() -> None:
    async def slow(writer: asyncio.StreamWriter, body: Body) -> None:
        await stream(writer, *[chunk()] * 4, usage(8, 4), DONE, every=0.05)

    async with serving(slow) as (url, _), Client(url, model="demo") as client:
        run = await drive(
            client, prompts().prompts(Random(1)), Closed(8), stop=Stop(requests=40), chance=Random(3), leaving=Leaving(0.5, 0.1)
        )  # fmt: skip
    summary = summarize(run)
    assert summary.ok + summary.aborted == 40
    assert 10 <= summary.aborted <= 30


async def test_conversations_carry_on_with_the_answers() -> None:
    async with serving() as (url, asked), Client(url, model="demo", endpoint="chat") as client:
        wording = Words(1.0, 0.0, "test")
        run = await drive(client, prompts(wording, turns=3, output=2).prompts(Random(1)), Closed(1), stop=Stop(requests=6))
    assert [len(body["messages"]) for body in asked] == [1, 3, 5, 1, 3, 5]
    assert [(each.conversation, each.turn) for each in run.exchanges] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert asked[1]["messages"][1] == {"role": "assistant", "content": " a a"}


async def test_lengths_by_what_the_server_counts() -> None:
    """It counts two tokens a word, and five around them."""

    async def counting(writer: asyncio.StreamWriter, body: Body) -> None:
        if "prompt" in body and not isinstance(body["prompt"], str):
            writer.write(whole("400 Bad Request", {"error": {"message": "prompt must be a string"}}))
            return
        text = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        await stream(writer, chunk(), usage(2 * len(text.split()) + 5, 1), DONE)

    async with serving(counting) as (url, _):
        for endpoint in ("completions", "chat"):
            async with Client(url, model="demo", endpoint=endpoint) as client:
                wording = await choose_wording(client)
                assert wording.way == "words of 2 tokens each, as the server's usage counted them"
                for prompt in islice(prompts(wording).prompts(Random(1)), 1):
                    assert len((prompt.text or "").split()) == 2  # 2 * 2 + 5 = 9, of 8
    async with serving() as (url, _), Client(url, model="demo") as client:
        assert (await choose_wording(client)).way == "token numbers drawn at random: exact"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulated engine: 30 ms to the first token of a prompt of 200, 10 ms to each other one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("simulator") / "log"
    options = ("--served-name", "demo", "--host", "127.0.0.1", "--port", str(port), "--termination-log", str(log))
    site = os.pathsep.join(str(Path(module.__file__ or "").parents[1]) for module in (tokenfleet, tokenfleet_engine))
    with subprocess.Popen(
        [sys.executable, "-m", "tokenfleet_engine.main", "simulate", *options, "--", "--ttft-ms", "30", "--itl-ms", "10"],
        env={**os.environ, "PYTHONPATH": site}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            _wait(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("the simulator did not start")


async def test_figures_of_a_simulated_engine(simulator: str) -> None:
    async with Client(simulator, model="demo", extra={"ignore_eos": True}) as client:
        wording = await choose_wording(client)
        run = await drive(client, prompts(wording, output=10).prompts(Random(1)), Closed(2), stop=Stop(requests=10))
    summary = summarize(run)
    assert (summary.ok, summary.requests) == (10, 10)
    assert summary.ttft is not None
    assert summary.tpot is not None
    assert summary.e2e is not None
    assert summary.ttft.p50 >= 0.0095  # a step at least
    assert summary.tpot.p50 >= 0.0095
    assert summary.e2e.mean == pytest.approx(summary.ttft.mean + 9 * summary.tpot.mean)
    assert {(each.prompt_tokens, each.output_tokens, each.counted) for each in run.exchanges} == {(8, 10, True)}
    assert summary.output_tokens_per_second == pytest.approx(100 / run.meta["window"]["ends"])


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
async def test_words_that_the_servers_tokenizer_counted_are_exact(simulator: str, endpoint: Endpoint) -> None:
    async with Client(simulator, model="demo", endpoint=endpoint) as client:
        wording = await choose_wording(client, words=True)
        assert wording.way == "words of 1 tokens each, as the server's tokenizer counted them"
        for tokens in (20, 57, 300):
            exchange = await client.send(replace(wording.prompt(Random(tokens), tokens=tokens, prefix=None), output_tokens=1))
            assert exchange.prompt_tokens == tokens
