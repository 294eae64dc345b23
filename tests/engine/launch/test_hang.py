"""A server that waits for a dead process for ever."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenfleet_engine.launch.hang import SECONDS, Hang

_ENDS_AS = "import ctypes, sys; ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)"


@pytest.fixture(params=["VLLM::EngineCore"])
def dead_child(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[bytes]"]:
    """It has ended under that name, and nobody has collected it."""
    with subprocess.Popen([sys.executable, "-c", _ENDS_AS, request.param]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child


def test_a_dead_process_of_vllm_that_nobody_collects(dead_child: "subprocess.Popen[bytes]") -> None:
    hang = Hang(os.getpid())
    assert [hang.lasts(now) for now in (0.0, SECONDS - 1, SECONDS)] == [False, False, True]


def test_one_that_is_collected_in_time(dead_child: "subprocess.Popen[bytes]") -> None:
    hang = Hang(os.getpid())
    assert not hang.lasts(0.0)
    dead_child.wait()
    assert not hang.lasts(SECONDS)
    assert not hang.lasts(2 * SECONDS)


@pytest.mark.parametrize("dead_child", ["helper"], indirect=True)
def test_helpers_may_stay_uncollected(dead_child: "subprocess.Popen[bytes]") -> None:
    assert Path(f"/proc/{dead_child.pid}/stat").exists()
    hang = Hang(os.getpid())
    assert not hang.lasts(0.0)
    assert not hang.lasts(SECONDS)
