"""`tokenfleet tune batch` against a simulated engine whose timing says what the answer is, and what befalls a search."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenfleet
import tokenfleet_engine
from tokenfleet.planning.tuning import Probe, Search, Try, next_step

SITE = os.pathsep.join(str(Path(module.__file__ or "").parents[1]) for module in (tokenfleet, tokenfleet_engine))
ENVIRONMENT = {**os.environ, "PYTHONPATH": SITE}
TIMING = {"request": 0.001, "step": 0.020, "decode": 0.001, "context_token": 0.0, "prompt_token": 1e-6, "attended_token": 0.0}
"""A step takes 20 ms, and 1 ms more for each sequence: 30 at once have their next token after 50 ms, 31 after 51 ms."""

Json = dict[str, Any]


class Engine:
    """A simulated one, on a port of its own."""

    def __init__(self, folder: Path, *flags: str, port: int | None = None) -> None:
        self.port = port or _free()
        command = [sys.executable, "-m", "tokenfleet_engine.main", "simulate", "--served-name", "demo", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--termination-log", str(folder / "log"), "--", *flags]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.port}"
        _wait(self._serves)

    def _serves(self) -> bool:
        assert self.process.poll() is None, "it has ended"
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    started: list[Engine] = []

    def start(*flags: str, port: int | None = None) -> Engine:
        started.append(Engine(tmp_path, *flags, port=port))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def command(url: str, state: Path, *options: str) -> list[str]:
    program = [sys.executable, "-c", "from tokenfleet.cli.main import app; app()"]
    return [*program, "tune", "batch", url, "--state", str(state), "--json", *options]


def tune(url: str, state: Path, *options: str) -> tuple[int, Json, str]:
    done = subprocess.run(
        command(url, state, *options), env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def probes(state: Path) -> list[Probe]:
    return [Probe.from_json(each) for each in json.loads(state.read_text())["probes"]] if state.exists() else []


def test_the_batch_that_the_timing_allows_is_found(engine: Callable[..., Engine], tmp_path: Path) -> None:
    """30 sequences a step are allowed. Users between two requests are in none, so a few more users may keep the promise; and a
    busy machine makes steps longer."""
    (tmp_path / "timing.json").write_text(json.dumps({"seconds": TIMING}))
    server = engine("--timing", str(tmp_path / "timing.json"), "--max-num-seqs", "128")
    promise = ("--slo", "itl=50.5ms", "--percentile", "50")
    code, found, told = tune(server.url, tmp_path / "state.json", *promise, "--input", "16", "--output", "24", "--max", "64")
    assert code == 0, told
    assert 20 <= found["maxNumSeqs"] <= 34, told
    assert found["why"] == "limit"
    assert found["patch"] == {"spec": {"engine": {"batching": {"maxNumSeqs": found["maxNumSeqs"]}}}}
    kept = [each["verdict"] for each in found["probes"] if each["concurrency"] == found["maxNumSeqs"]]
    assert kept.count("met") >= 2


def test_an_engine_that_runs_fewer_at_once_is_noticed(engine: Callable[..., Engine], tmp_path: Path) -> None:
    server = engine("--ttft-ms", "10", "--itl-ms", "10", "--max-num-seqs", "12")
    code, found, told = tune(server.url, tmp_path / "state.json", "--slo", "itl=200ms", "--input", "16", "--output", "100")
    assert code == 0, told
    assert (found["maxNumSeqs"], found["why"]) == (12, "engine"), told
    assert "the engine runs no more than 12: its maxNumSeqs, or all that its KV cache has room for" in told


def test_a_promise_that_nobody_can_keep(engine: Callable[..., Engine], tmp_path: Path) -> None:
    server = engine("--ttft-ms", "20", "--itl-ms", "20")
    out = tmp_path / "batching.yaml"
    code, found, told = tune(
        server.url, tmp_path / "state.json", "--slo", "itl=5ms", "--input", "16", "--output", "16", "--out", str(out)
    )
    assert code == 1
    assert found["maxNumSeqs"] is None
    assert re.search(
        r"tokenfleet: Nobody can promise itl ≤ 5 ms in 95 % of cases here: even one request at a time took [\d.]+ ms \(itl\)\.",
        told,
    )
    assert not out.exists()


def test_a_search_outlives_its_own_end_and_the_server_s(engine: Callable[..., Engine], tmp_path: Path) -> None:
    flags, state = ("--ttft-ms", "10", "--itl-ms", "10", "--max-num-seqs", "64"), tmp_path / "state.json"
    options = ("--slo", "e2e=30s", "--percentile", "90", "--input", "16", "--output", "40", "--max", "32", "--gain", "0")
    server = engine(*flags)
    killed = subprocess.Popen(
        command(server.url, state, *options), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait(lambda: len(probes(state)) >= 1)
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    first = probes(state)

    begun = subprocess.Popen(
        command(server.url, state, *options), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _wait(lambda: len(probes(state)) > len(first))
    time.sleep(0.7)
    server.kill()
    _, told = begun.communicate(timeout=60)
    assert begun.returncode == 1, told
    assert f"Goes on after {len(first)} " in told
    assert "The server is gone" in told
    second = probes(state)
    assert second[: len(first)] == first

    engine(*flags, port=server.port)
    code, found, told = tune(server.url, state, *options)
    assert code == 0, told
    assert found["maxNumSeqs"] == 32
    whole = probes(state)
    assert whole[: len(second)] == second
    for number, each in enumerate(whole):
        assert next_step(Search(most=32, gain=0.0), whole[:number]) == Try(each.concurrency, confirms=number == len(whole) - 1)
    other = subprocess.run(
        command(server.url, state, *options, "--seed", "1"),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert other.returncode == 2
    assert "is of another search (seed was 0, and is 1)" in other.stderr


def test_an_interrupted_search_leaves_its_tries_and_nothing_under_way(engine: Callable[..., Engine], tmp_path: Path) -> None:
    server, state = engine("--ttft-ms", "10", "--itl-ms", "10"), tmp_path / "state.json"
    line = command(server.url, state, "--slo", "itl=50ms", "--input", "16", "--output", "64")
    begun = subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait(lambda: len(probes(state)) >= 1)
    time.sleep(0.7)
    begun.send_signal(signal.SIGINT)
    printed, told = begun.communicate(timeout=60)
    assert (begun.returncode, printed) == (130, "")
    assert "Traceback" not in told
    assert f"kept in {state}: the same command goes on from there." in told


def test_a_server_that_refuses_what_it_is_asked(engine: Callable[..., Engine], tmp_path: Path) -> None:
    server = engine("--ttft-ms", "10", "--itl-ms", "10", "--max-model-len", "64")
    code, _, told = tune(server.url, tmp_path / "state.json", "--slo", "itl=50ms", "--input", "100", "--output", "16")
    assert code == 1
    assert "The server refuses every request: HTTP 400" in told
