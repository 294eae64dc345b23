"""Starts a fetch, kills it at a random moment, looks at what is left, and goes on so until one ends by itself.

A program of its own, since it forks: `python -m tests.engine.store.killing DIRECTORY SEED`. Prints what it saw as JSON.
"""

import asyncio
import json
import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.engine.store.stores import SOURCE, MemoryStore, content, destination, model, needed
from tokenfleet_engine.store.cache import Cache
from tokenfleet_engine.store.fetching import Fetch, Settings
from tokenfleet_engine.store.parts import arrived_bytes
from tokenfleet_engine.store.sources import parse_source

FILES = model(weights=500_000, shards=8)
SIZE = sum(map(len, needed(FILES).values()))


def main(root: Path, seed: int) -> None:
    chance = random.Random(seed)
    served = mmap.mmap(-1, 8)  # shared with the children
    kills, looked_whole, fetched, last, known = 0, 0, 0, 0, 0
    while True:
        known = known_bytes(root)
        served[:] = bytes(8)
        child = os.fork()
        if not child:
            run(root, served)
        ended = killed_after(child, chance.uniform(0.0, 0.2 + kills / 20))
        last = int.from_bytes(served[:], "little")
        fetched += last
        if destination(root).exists():
            looked_whole += 1
            assert content(destination(root)) == needed(FILES), f"after {kills} kills it looked whole and was not"
        if ended:
            break
        kills += 1
    sys.stdout.write(
        json.dumps({"kills": kills, "size": SIZE, "fetched": fetched, "last": last, "known": known, "whole": looked_whole})
    )


def run(root: Path, served: mmap.mmap) -> None:
    def count(path: str, offset: int, data: bytes) -> bytes:
        time.sleep(0.002)
        served[:] = (int.from_bytes(served[:], "little") + len(data)).to_bytes(8, "little")
        return data

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    settings = Settings(streams=4, piece_bytes=50_000, commit_seconds=0.02)
    store = MemoryStore(FILES, meddle=count)
    asyncio.run(Fetch(source=parse_source(SOURCE), cache=Cache(root), open_store=lambda _: store, settings=settings).run())
    os._exit(0)


def killed_after(child: int, seconds: float) -> bool:
    """Whether it ended by itself before."""
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)  # of one that has ended, nothing comes: it is not reaped yet
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"it failed by itself: {status}"
    return os.WIFEXITED(status)


def known_bytes(root: Path) -> int:
    """What the journal has of the version that is being made."""
    return sum(arrived_bytes(folder) for folder in (root / ".parts").glob("*"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
