"""`tokenfleet plan speed --calibrate` against simulated engines: a calibration, and what is left where there is none."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.planning.speed.test_fitting import DEMO
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.main import app

LIMITS = ("--max-model-len", "512", "--max-num-seqs", "16", "--max-num-batched-tokens", "512")


@contextmanager
def simulated(log: Path, *flags: str) -> Iterator[str]:
    """The URL of an engine that takes its times from the timing of the demo model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "tokenfleet_engine.main", "simulate", "--served-name", "demo", "--port", str(port)]
    words += ["--host", "127.0.0.1", "--termination-log", str(log)]
    process = subprocess.Popen([*words, "--", *LIMITS, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("the simulator did not start")


def calibrate(tmp_path: Path, url: str, *words: str) -> tuple[Result, Path]:
    facts, out = tmp_path / "demo.json", tmp_path / "calibration.json"
    facts.write_text(json.dumps(DEMO.as_json()))
    asked = ["plan", "speed", str(facts), "-a", "cpu", *LIMITS, "--calibrate", url, "--out", str(out), *words]
    return CliRunner().invoke(app, asked), out


def test_a_calibration_is_made_used_and_told_with_its_error(tmp_path: Path) -> None:
    with simulated(tmp_path / "log") as url:
        result, out = calibrate(tmp_path, url, "--seconds", "0.8")
    assert result.exit_code == 0, result.exception
    assert "Predicted beside measured, of runs that it was not fitted to:" in result.stdout
    assert "10 of 10" in result.stderr or "fitting" in result.stderr
    body = json.loads(out.read_text())
    assert (body["accelerator"], len(body["points"]), len(body["heldOut"])) == ("cpu", 6, 4)
    assert body["calibration"]["error"] < 0.6  # however busy this machine is
    words = ["plan", "speed", str(tmp_path / "demo.json"), "-a", "cpu", *LIMITS, "--input", "100", "--output", "50"]
    told = CliRunner().invoke(app, [*words, "--concurrency", "2", "--calibration", str(out), "--json"])
    assert json.loads(told.stdout)["speeds"][0]["speed"]["itl"] > 0.001


def test_a_server_that_stops_leaves_what_was_measured(tmp_path: Path) -> None:
    with simulated(tmp_path / "log", "--crash-after-requests", "40") as url:
        result, out = calibrate(tmp_path, url, "--seconds", "0.8")
    assert isinstance(result.exception, CliError)
    assert result.exception.code == 1
    assert re.match(r"There is no calibration, since with .* at a time ", str(result.exception))
    assert re.search(r"the measurements of [1-9] of 10 runs are in .*calibration.json\.$", str(result.exception))
    body = json.loads(out.read_text())
    assert body["calibration"] is None
    assert len(body["points"]) >= 1


@pytest.mark.parametrize("url", [pytest.param("http://127.0.0.1:9", id="nobody listens")])
def test_nobody_to_measure(tmp_path: Path, url: str) -> None:
    result, out = calibrate(tmp_path, url)
    assert isinstance(result.exception, CliError)
    assert "cannot be reached" in str(result.exception)
    assert not out.exists()
