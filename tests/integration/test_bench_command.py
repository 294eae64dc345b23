"""`tokenfleet bench run` as a process, beside servers of a few lines: whole runs, and all that ends one early."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench.servers import DONE, Answer, Body, chunk, serving, stream, usage, whole
from tokenfleet.bench.record import read_run

COMMAND = (sys.executable, "-c", "from tokenfleet.cli.main import app; app()", "bench", "run")


class Ended:
    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out.decode(), err.decode()


async def command(*arguments: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    return await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=pipe, stderr=pipe, env=environment)


async def bench(answer: Answer, arguments: Sequence[str], *, models: tuple[str, ...] = ("demo",)) -> Ended:
    async with serving(answer, models=models) as (url, _):
        process = await command(url, *arguments)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    return Ended(process.returncode or 0, out, err)


async def four_tokens(writer: asyncio.StreamWriter, body: Body) -> None:
    asked_for = body.get("prompt", "")
    await stream(writer, *[chunk()] * 4, usage(len(asked_for), 4), DONE)


QUICK = ("--requests", "12", "--concurrency", "2", "--input", "8", "--output", "4")


async def test_a_whole_run(tmp_path: Path) -> None:
    ended = await bench(four_tokens, (*QUICK, "--out", str(tmp_path / "run.json"), "--slo", "ttft=10s"))
    assert ended.code == 0, ended.err
    assert "12 whole, 0 failed, 0 cut, 0 left" in ended.out
    assert "Time to first token" in ended.out
    assert "Goodput: " in ended.out
    assert f"Kept as {tmp_path / 'run.json'}." in ended.err
    run = read_run(tmp_path / "run.json")
    assert len(run.exchanges) == 14  # with the warm-up
    assert run.meta["prompts"]["wording"] == "token numbers drawn at random: exact"
    assert (run.meta["model"], run.meta["load"]["concurrency"], run.meta["ending"]) == ("demo", 2, "complete")


async def test_for_programs() -> None:
    ended = await bench(four_tokens, (*QUICK, "--json"))
    told = json.loads(ended.out)
    assert (told["summary"]["ok"], told["summary"]["promptTokens"]["mean"], told["meta"]["warmup"]["requests"]) == (12, 8, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(("--model", "gpt"), 2, "has no model gpt; it has: demo.", id="a model that is not there"),
        pytest.param(("--rate", "-2"), 2, "--rate -2: it must be more than 0.", id="a negative rate"),
        pytest.param(("--dataset", "/absent.json"), 2, "--dataset /absent.json: there is no such file.", id="no such file"),
        pytest.param(("--out", "/absent/run.json"), 2, "--out /absent/run.json: there is no folder /absent.", id="no folder"),
    ],
)
async def test_what_is_refused_before_the_load(arguments: tuple[str, ...], code: int, message: str) -> None:
    ended = await bench(four_tokens, arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


async def test_a_server_that_is_not_there() -> None:
    process = await command("http://127.0.0.1:1", *QUICK)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert err.decode() == "tokenfleet: http://127.0.0.1:1/v1 cannot be reached: 127.0.0.1:1 refuses connections.\n"


async def test_a_server_that_refuses_everything() -> None:
    async def full(writer: asyncio.StreamWriter, _: Body) -> None:
        writer.write(whole("429 Too Many Requests", {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}))

    ended = await bench(full, QUICK)
    assert ended.code == 1
    assert "No request got a whole answer: HTTP 429 rate_limit_exceeded: Slow down." in ended.err
    assert "0 whole, 12 failed" in ended.out


async def test_ctrl_c_shows_and_keeps_what_there_was(tmp_path: Path) -> None:
    answered = 0

    async def some(writer: asyncio.StreamWriter, body: Body) -> None:
        nonlocal answered
        answered += 1
        if answered == 9:
            process.send_signal(signal.SIGINT)
        if answered > 8:
            await asyncio.sleep(30)
        await four_tokens(writer, body)

    async with serving(some) as (url, _):
        process = await command(url, *QUICK, "--warmup", "0", "--out", str(tmp_path / "kept"))
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130, err
    assert b"Interrupted after" in err
    assert b"Throughput" in out
    run = read_run(tmp_path / "kept")
    assert run.meta["ending"] == "interrupted"
    assert [each.outcome for each in run.exchanges].count("ok") >= 6


async def test_a_run_that_is_killed_leaves_its_lines(tmp_path: Path) -> None:
    answered = 0

    async def some(writer: asyncio.StreamWriter, body: Body) -> None:
        nonlocal answered
        answered += 1
        if answered > 8:
            process.kill()
            await asyncio.sleep(30)
        await four_tokens(writer, body)

    async with serving(some) as (url, _):
        process = await command(url, *QUICK, "--concurrency", "1", "--out", str(tmp_path / "run.json"))
        await asyncio.wait_for(process.communicate(), 30)
    assert not (tmp_path / "run.json").exists()
    run = read_run(tmp_path / "run.jsonl")
    assert len(run.exchanges) == 7  # one request of the eight was the question whether token numbers will do
    assert "ending" not in run.meta


async def test_a_server_that_stops_amid_the_run(tmp_path: Path) -> None:
    answered = 0

    async def some(writer: asyncio.StreamWriter, body: Body) -> None:
        nonlocal answered
        answered += 1
        if answered > 8:
            writer.transport.abort()
            return
        await four_tokens(writer, body)

    ended = await bench(some, ("--requests", "100000", "--concurrency", "2", "--input", "8", "--out", str(tmp_path / "kept")))
    assert ended.code == 1
    assert "The server is gone after" in ended.err
    assert "these are the figures until then" in ended.err
    assert [each.outcome for each in read_run(tmp_path / "kept").exchanges].count("ok") == 7
