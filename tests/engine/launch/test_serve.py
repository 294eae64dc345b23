"""`tokenfleet-engine serve` as a process, with a stand-in for vLLM that does what it is told and ends as it is told."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tokenfleet
import tokenfleet_engine
from tests.engine.models import make_adapter, make_model
from tokenfleet import contract

SITE = [str(Path(module.__file__ or "").parents[1]) for module in (tokenfleet, tokenfleet_engine)]

FAKE_VLLM = '''
"""Serves admission's two paths on the port that it is given, and does what the flag --act says."""
import json, os, signal, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
act = arguments.get("--act", "serve")
in_flight = [2]

class Handler(BaseHTTPRequestHandler):
    def answer(self):
        if self.command == "POST":
            print("drained", flush=True)
        elif in_flight[0]:
            in_flight[0] -= 1
        body = json.dumps({"in_flight": in_flight[0], "draining_seconds": 0.0}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *_): pass

def stop(*_):
    print("stopped", flush=True)
    raise SystemExit(0)

if act == "flags":
    print("usage: api_server.py", file=sys.stderr)
    print("api_server.py: error: unrecognized arguments: --nonsense", file=sys.stderr)
    raise SystemExit(2)
if act == "raise":
    print("(EngineCore pid=9) ERROR 11-21 07:30:56 [core.py:953] ValueError: there is no such thing", flush=True)
    raise RuntimeError("Engine core initialization failed. See root cause above.")
if act == "crash":
    print("INFO:     Application startup complete.", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
if act == "orphan":
    orphan = subprocess.Popen([sys.executable, "-c", "import time; print('orphan', flush=True); time.sleep(600)"])
    print("orphan is", orphan.pid, flush=True)
    raise SystemExit(3)
if act == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("serving", flush=True)
    signal.pause()
signal.signal(signal.SIGTERM, stop)
if act == "load":
    print("serving", flush=True)
    signal.pause()
with HTTPServer(("127.0.0.1", int(arguments["--port"])), Handler) as server:
    print("serving", flush=True)
    server.serve_forever(0.01)
'''


@dataclass(frozen=True)
class Engine:
    """How `serve` is called here."""

    model: Path
    directory: Path

    def start(self, *flags: str, options: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tokenfleet_engine.main", "serve", "--model", str(self.model), "--served-name", "m"]
        command += ["--termination-log", str(self.note), *options, "--", *flags]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.directory), *SITE]), "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    @property
    def note(self) -> Path:
        return self.directory / "termination-log"

    def left(self) -> dict[str, str]:
        return dict(json.loads(self.note.read_text()))


@pytest.fixture
def engine(model: Path, tmp_path: Path) -> Iterator[Engine]:
    package = tmp_path / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for directory in (package, package.parent, package.parent.parent):
        (directory / "__init__.py").touch()
    (package / "api_server.py").write_text(FAKE_VLLM)
    yield Engine(model, tmp_path)


def _until(process: "subprocess.Popen[str]", word: str) -> list[str]:
    """Read lines up to one with that word."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"{word!r} never came: {lines} {process.stderr and process.stderr.read()}")


def test_features_are_planned_with_the_model(engine: Engine, tmp_path: Path) -> None:
    model, adapter, draft = make_model(tmp_path / "m"), make_adapter(tmp_path / "a"), make_model(tmp_path / "draft")
    options = ["--adapter", f"mine={adapter}", "--max-in-flight", "4", "--max-waiting", "6", "--max-queue-seconds", "2.5"]
    options += ["--speculative", '{"method": "draft", "num_tokens": 2}', "--draft-model", str(draft)]
    done = Engine(model, engine.directory).start(options=("--check", *options))
    out, errors = done.communicate(timeout=30)
    assert (done.returncode, errors) == (0, "")
    for words in (
        f"2 tokens a step (draft) from {draft}", "mine (rank 8)", f"{contract.ENV_ENGINE_MAX_IN_FLIGHT}=4 ",
        f"{contract.ENV_ENGINE_MAX_WAITING}=6 ", f"{contract.ENV_ENGINE_MAX_QUEUE_SECONDS}=2.5",
    ):  # fmt: skip
        assert words in out


@pytest.mark.parametrize(
    ("options", "flags", "words"),
    [
        pytest.param(("--speculative", '{"method": "draft", "num_tokens": 2}'), (), "needs a draft model", id="no draft"),
        pytest.param(("--draft-model", "/d"), (), "--draft-model goes with --speculative", id="a draft for nothing"),
        pytest.param(
            ("--speculative", '{"method": "ngram", "num_tokens": 2}'), ("--speculative-config", "{}"),
            "spec.engine.speculative and --speculative-config in extraArgs say the same thing twice", id="said twice",
        ),
        pytest.param(
            ("--adapter", "a=/a"), ("--enable-lora",), "spec.model.adapters and --enable-lora in extraArgs", id="adapters twice"
        ),
    ],
)  # fmt: skip
def test_features_that_contradict_each_other(
    engine: Engine, options: tuple[str, ...], flags: tuple[str, ...], words: str
) -> None:
    process = engine.start(*flags, options=options)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    left = engine.left()
    assert left["reason"] == contract.REASON_ENGINE_CONFIG_INVALID
    assert words in left["message"]


def test_the_plan_is_said_before_anything_runs(engine: Engine) -> None:
    done = engine.start("--max-model-len", "512", options=("--check",))
    out, _ = done.communicate(timeout=30)
    assert done.returncode == 0
    for words in ("LlamaForCausalLM", "--max-model-len 512", str(engine.model), "8000"):
        assert words in out


@pytest.mark.parametrize(
    ("flags", "code", "reason", "words"),
    [
        pytest.param(
            ("--act", "flags"), 2, contract.REASON_ENGINE_CONFIG_INVALID, "unrecognized arguments: --nonsense",
            id="a flag that vLLM does not know",
        ),
        pytest.param(
            ("--act", "raise"), 1, contract.REASON_ENGINE_START_FAILED, "ValueError: there is no such thing",
            id="an error while it starts: the cause, not what followed",
        ),
        pytest.param(
            ("--act", "crash"), 128 + signal.SIGSEGV, contract.REASON_ENGINE_CRASHED, "by signal 11 while it served",
            id="a crash while it serves",
        ),
        pytest.param(
            ("--port", "1"), 2, contract.REASON_ENGINE_CONFIG_INVALID, "--port cannot be set", id="a flag that is ours"
        ),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_left_for_the_kubelet(
    engine: Engine, flags: tuple[str, ...], code: int, reason: str, words: str
) -> None:
    process = engine.start(*flags)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    left = engine.left()
    assert left["reason"] == reason
    assert words in left["message"]
    assert errors.splitlines()[-1] == f"tokenfleet-engine: {reason}: {left['message']}"


def test_a_model_that_is_not_there_is_said_before_vllm_is_asked(engine: Engine) -> None:
    process = Engine(engine.model / "none", engine.directory).start()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, engine.left()["reason"]) == (2, contract.REASON_MODEL_NOT_FOUND)
    assert out == ""


def test_sigterm_drains_before_it_stops(engine: Engine) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    process = engine.start(options=("--port", str(port)))
    lines = _until(process, "serving")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert not engine.note.exists()
    assert lines[0] == "Tokenfleet engine\n"
    said = [line.removeprefix("tokenfleet-engine: ") for line in out.splitlines()]
    assert set(said[:2]) == {"drained", "drain: refusing new requests; 2 in flight, at most 600 s to finish"}
    assert said[-1] == "stopped"


def test_sigterm_while_the_model_loads_ends_it_at_once(engine: Engine) -> None:
    process = engine.start("--act", "load")
    _until(process, "serving")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "stopped" in out
    assert "does not serve" in out


def test_what_vllm_leaves_behind_is_ended_too(engine: Engine) -> None:
    process = engine.start("--act", "orphan")
    orphan = int(_until(process, "orphan is")[-1].split()[-1])
    process.communicate(timeout=30)
    assert process.returncode == 3
    assert not Path(f"/proc/{orphan}").exists()


def test_the_engine_ends_with_its_supervisor(engine: Engine) -> None:
    process = engine.start("--act", "deaf")
    _until(process, "serving")
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    descriptor = os.pidfd_open(child)
    try:
        process.kill()
        process.communicate(timeout=30)
        ended, _, _ = select.select([descriptor], [], [], 30)
        assert ended == [descriptor]
    finally:
        os.close(descriptor)
