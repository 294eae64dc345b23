"""One download for all: who comes second waits, hears who is first, and gets the lock however the first one ends."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from tokenfleet_engine.store import lock

HOLDER = """
import asyncio, sys, time
from pathlib import Path
from tokenfleet_engine.store import lock
async def hold():
    async with lock.held(Path(sys.argv[1]), waiting=lambda holder, looks: None):
        print("held", flush=True)
        time.sleep(60)
asyncio.run(hold())
"""


def test_a_lock_is_given_back_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        heard: list[tuple[str, int]] = []

        async def sleep(_: float) -> None:
            if len(heard) == 3:
                holder.send_signal(signal.SIGKILL)
                holder.wait()

        async def take() -> bool:
            async with lock.held(path, waiting=lambda name, looks: heard.append((name, looks)), sleep=sleep) as waited:
                return waited

        assert asyncio.run(take()) is True
    assert heard == [(os.uname().nodename, looks) for looks in range(3)]


def test_a_free_lock_is_taken_at_once(tmp_path: Path) -> None:
    async def take() -> bool:
        async with lock.held(tmp_path / "lock", waiting=lambda name, looks: None) as waited:
            return waited

    assert [asyncio.run(take()), asyncio.run(take())] == [False, False]
