"""One at a time, across processes: a file that is locked while the work goes on, and freed by the kernel with its owner.

Waiting is seen: whoever holds it may be compiling for minutes.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.progress import step


@contextmanager
def held(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"Waiting for another process that has {path}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
