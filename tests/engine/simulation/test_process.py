"""`tokenfleet-engine simulate` as a process: it serves within a moment, drains on SIGTERM, and crashes when it is told to."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tokenfleet
import tokenfleet_engine
from tokenfleet import contract

SITE = os.pathsep.join(str(Path(module.__file__ or "").parents[1]) for module in (tokenfleet, tokenfleet_engine))
QUICK = ("--ttft-ms", "10", "--itl-ms", "10")


class Process:
    def __init__(self, log: Path, *options: str, flags: tuple[str, ...]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "tokenfleet_engine.main",
            "simulate",
            "--served-name",
            "demo",
            "--port",
            str(self.port),
        ]
        command += ["--host", "127.0.0.1", "--termination-log", str(log), *options, "--", *flags]
        self.child = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": SITE}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ask(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"content-type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        return connection.getresponse()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                if self.ask("GET", contract.PATH_ENGINE_READY).status == 200:
                    return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"not ready: {self.child.stdout.read() if self.child.stdout else ''}")


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.child.kill()
        process.child.communicate()


def test_it_serves_and_lets_a_stream_finish_after_sigterm(tmp_path: Path, processes: list[Process]) -> None:
    process = Process(tmp_path / "log", "--drain-seconds", "10", "--max-in-flight", "1", flags=QUICK)
    processes.append(process)
    process.wait_ready()
    stream = process.ask("POST", "/v1/completions", {"prompt": "One", "max_tokens": 60, "ignore_eos": True, "stream": True})
    assert stream.readline().startswith(b'data: {"id":"cmpl-')
    assert process.ask("POST", "/v1/completions", {"prompt": "One"}).status == 503  # admission's bound

    process.child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 5
    while process.ask("GET", contract.PATH_ENGINE_READY).status != 503 and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = process.ask("POST", "/v1/completions", {"prompt": "One"})
    assert (refused.status, refused.headers[contract.HEADER_DRAINING]) == (503, "true")
    metrics = process.ask("GET", "/metrics").read()
    assert b'vllm:num_requests_running{engine="0",model_name="demo"} 1.0' in metrics
    assert b"llm_active_requests" in metrics
    assert stream.read().endswith(b"data: [DONE]\n\n")
    assert process.child.wait(10) == 0


def test_it_crashes_when_told_to_and_says_so(tmp_path: Path, processes: list[Process]) -> None:
    process = Process(tmp_path / "log", flags=(*QUICK, "--crash-after-requests", "1", "--crash-code", "137"))
    processes.append(process)
    process.wait_ready()  # the warm-up is the one request that is allowed
    with pytest.raises((OSError, http.client.HTTPException)):
        process.ask("POST", "/v1/completions", {"prompt": "One", "max_tokens": 1}).read()
    assert process.child.wait(10) == 137
    assert json.loads((tmp_path / "log").read_text())["reason"] == contract.REASON_ENGINE_CRASHED


def test_it_ends_at_once_while_it_loads(tmp_path: Path, processes: list[Process]) -> None:
    process = Process(tmp_path / "log", flags=("--startup-seconds", "600"))
    processes.append(process)
    assert process.child.stdout is not None
    while "600 s to load" not in process.child.stdout.readline():
        pass
    with pytest.raises(OSError, match="refused"):
        process.ask("GET", "/health")
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(10) == 0


def test_flags_that_it_does_not_know_are_a_reason(tmp_path: Path, processes: list[Process]) -> None:
    process = Process(tmp_path / "log", flags=("--speculative-config", "{}"))
    processes.append(process)
    assert process.child.wait(20) == 2
    note = json.loads((tmp_path / "log").read_text())
    assert note["reason"] == contract.REASON_ENGINE_CONFIG_INVALID
    assert "unrecognized arguments: --speculative-config" in note["message"]
