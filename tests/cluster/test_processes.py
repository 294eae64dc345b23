"""Starting, knowing again and ending processes: real ones, of a second's work."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Command, Daemon, Leash, boot, end, start_time, wait_until


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    command = Command("sleeper", ("/bin/sleep", "60"))
    return Daemon(command, record_path=tmp_path / "sleeper.json", log=tmp_path / "sleeper.log")


def test_a_daemon_runs_until_it_is_stopped(daemon: Daemon) -> None:
    record = daemon.start()
    assert daemon.running()
    assert daemon.current()
    assert os.getsid(record.pid) == record.pid, "it has a session of its own, so Ctrl-C in ours does not reach it"
    daemon.stop(grace=1)
    assert not daemon.running()
    assert not daemon.record_path.exists()


def test_a_daemon_is_started_once(daemon: Daemon) -> None:
    daemon.start()
    with pytest.raises(ClusterError, match="already running"):
        daemon.start()
    daemon.stop(grace=1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"argv": ("/bin/sleep", "61")}, id="other arguments"),
        pytest.param({"environment": {"A": "b"}}, id="another environment"),
    ],
)
def test_a_daemon_that_would_be_started_differently_is_out_of_date(daemon: Daemon, change: dict[str, object]) -> None:
    daemon.start()
    other = dataclasses.replace(daemon, command=dataclasses.replace(daemon.command, **change))  # type: ignore[arg-type]
    assert other.running()
    assert not other.current()
    daemon.stop(grace=1)


def test_a_changed_configuration_file_makes_a_daemon_out_of_date(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("a")
    daemon = dataclasses.replace(daemon, command=dataclasses.replace(daemon.command, files=(file,)))
    daemon.start()
    assert daemon.current()
    file.write_text("b")
    assert not daemon.current()
    daemon.stop(grace=1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"started": 1}, id="another start time"),
        pytest.param({"boot": "another"}, id="another boot"),
    ],
)
def test_a_process_number_used_again_is_somebody_else(daemon: Daemon, change: dict[str, object]) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as innocent:
        record = {"pid": innocent.pid, "started": start_time(innocent.pid), "boot": boot(), "fingerprint": ""}
        daemon.record_path.write_text(json.dumps(record | change))
        assert not daemon.running()
        daemon.stop(grace=0)
        assert innocent.poll() is None
        innocent.kill()


@pytest.mark.parametrize("text", [pytest.param("", id="empty"), pytest.param('{"pid": 1}', id="incomplete")])
def test_a_record_that_was_not_written_whole_is_none(daemon: Daemon, text: str) -> None:
    daemon.record_path.write_text(text)
    assert daemon.record() is None
    assert not daemon.running()


def test_who_ignores_sigterm_is_killed(daemon: Daemon) -> None:
    stubborn = ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    daemon = dataclasses.replace(daemon, command=Command("stubborn", stubborn))
    record = daemon.start()
    daemon.stop(grace=0.2)
    assert start_time(record.pid) is None


def test_ending_what_is_gone_does_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    end(process.pid, 1, grace=1)


def test_the_log_is_appended_to_and_bounded(daemon: Daemon) -> None:
    daemon.log.write_bytes(b"x" * (33 * 1024 * 1024))
    daemon.start()
    daemon.stop(grace=1)
    assert daemon.log.stat().st_size == 0
    assert daemon.log.with_name("sleeper.log.1").exists()


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from e2e.cluster.processes import Command, Leash\n"
        "child = Leash().start(Command('sleep', ('/bin/sleep', '60')), Path(sys.argv[1]))\n"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert start_time(child) is not None
        parent.send_signal(signal.SIGKILL)
    assert wait_until(lambda: start_time(child) is None, seconds=5)


def test_a_leash_lets_go_of_a_child_that_was_killed_by_hand(tmp_path: Path) -> None:
    leash = Leash()
    first, second = (leash.start(Command("sleep", ("/bin/sleep", "60")), tmp_path / "log") for _ in range(2))
    first.kill()
    assert not first.running()
    assert second.running()
    leash.close()
    assert second.process.wait(timeout=5) == -signal.SIGKILL
