"""`profile trace` against an HTTP server with the paths of vLLM's profiler, and against none."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tokenfleet_engine.main import main

TRACE = {
    "traceEvents": [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 30, "pid": 1, "tid": 1},
        {"ph": "X", "cat": "user_annotation", "name": "execute_context_1(9)", "ts": 0, "dur": 40, "pid": 1, "tid": 1},
    ]
}


class Profiled(BaseHTTPRequestHandler):
    """An engine whose profiler writes TRACE (cut to `length` bytes) into `directory`; without one it has no profiler."""

    directory: Path | None = None
    length: int | None = None
    completion = 200
    starting = 200
    posts: list[tuple[str, Any]]
    prefix = ""

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": "demo"}]} if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        kind = type(self)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        kind.posts.append((self.path, body))
        if self.path == "/v1/completions":
            self._answer(kind.completion, {"usage": {"completion_tokens": body["max_tokens"]}})
        elif kind.directory is None:
            self._answer(404, {"detail": "Not Found"})
        elif self.path == "/start_profile":
            kind.prefix = body["profile_prefix"]
            self._answer(kind.starting, {"error": "A profiling session is already active."})
        else:
            content = gzip.compress(json.dumps(TRACE).encode())[: kind.length]
            (kind.directory / f"{kind.prefix}_rank0.1.pt.trace.json.gz").write_bytes(content)
            self._answer(200, {})

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The test's output is not the place."""


@contextmanager
def served(**settings: Any) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    posts: list[tuple[str, Any]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Engine", (Profiled,), {**settings, "posts": posts}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trace(url: str, out: Path, *more: str) -> int:
    return main(["profile", "trace", "--url", url, "--out", str(out), *more])


@pytest.fixture
def engine_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "engine"
    directory.mkdir()
    return directory


def test_traces_come_out_with_a_table(engine_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with served(directory=engine_directory) as (url, posts):
        assert trace(url, out, "--requests", "3", "--max-tokens", "8", "--trace-dir", str(engine_directory)) == 0
    paths = [path for path, _ in posts]
    assert paths == ["/v1/completions", "/start_profile", *["/v1/completions"] * 3, "/stop_profile"], "the first is warm-up"
    assert {body["max_tokens"] for path, body in posts[2:] if path == "/v1/completions"} == {8}
    assert len({body["prompt"] for path, body in posts if path == "/v1/completions"}) == 4, "no prefix cache knows them"
    report = json.loads((out / "trace.json").read_text())
    assert report["requests"] == {"answered": 3, "tokens": 24, "failed": 0, "first_failure": ""}
    assert [(found["file"], found["steps"]) for found in report["traces"]] == [("rank0.1.pt.trace.json.gz", 1)]
    table = capsys.readouterr().out
    assert "aten::mm" in table and "75.0 %" in table
    assert list(engine_directory.iterdir()) == []


def test_json_has_stdout_to_itself(engine_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(directory=engine_directory) as (url, _):
        assert trace(url, tmp_path / "out", "--requests", "1", "--json", "--trace-dir", str(engine_directory)) == 0
    assert json.loads(capsys.readouterr().out)["traces"][0]["operations"][0]["name"] == "aten::mm"


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        pytest.param({}, [], "was not started for profiling", id="an engine without --profiler-config"),
        pytest.param({}, [], 'Set spec.engine.extraArgs to ["--profiler-config", ', id="it names the flag to set"),
        pytest.param({}, ["--no-requests"], "--no-requests needs --seconds", id="to watch, but for how long"),
        pytest.param({"starting": 409}, [], "A profiling session is already active.", id="a session that is open"),
        pytest.param({"completion": 503}, [], "answers a request with 503", id="an engine that refuses"),
        pytest.param({"length": 60}, [], "cannot be read to its end", id="a trace that was cut off"),
    ],
)
def test_failures_name_cause_and_fix(
    engine_directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    more: list[str],
    words: str,
) -> None:
    if settings:
        settings = {"directory": engine_directory, **settings}
    with served(**settings) as (url, _):
        assert trace(url, tmp_path / "out", *more, "--trace-dir", str(engine_directory)) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_nobody_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace("http://127.0.0.1:9", tmp_path / "out") == 2
    assert "Nothing answers at http://127.0.0.1:9/v1/models" in capsys.readouterr().err


def test_an_out_that_cannot_be_written_is_found_before_anything_is_traced(
    engine_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with served(directory=engine_directory) as (url, posts):
        assert trace(url, tmp_path / "file" / "out") == 2
    assert posts == []
    assert "cannot be written" in capsys.readouterr().err
