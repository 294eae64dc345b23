"""One download for all the pods that share a cache: who holds the lock fetches, the others wait and then find it complete.

The lock is flock on a file of the cache, so the kernel gives it back when its holder dies, however it dies. On NFS, Linux turns
it into a lock of the server, which works between nodes; a server gives a dead node's locks back after its lease, in a minute
or two. Where a mount keeps locks to itself (nolock, local_lock) or knows none, two nodes may fetch the same: they write the
same bytes to the same places, and what is installed was verified.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tokenfleet_engine.say import say

LOOK: Final = 0.5
"""Seconds between two tries."""


@asynccontextmanager
async def held(
    path: Path, *, waiting: Callable[[str, int], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[bool]:
    """Holds the lock, and says whether somebody else did before. While one waits, `waiting` hears who holds it, every look."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    looks = 0
    try:
        while not _taken(handle):
            waiting(_holder(handle), looks)
            looks += 1
            await sleep(LOOK)
        os.ftruncate(handle, 0)
        os.pwrite(handle, os.uname().nodename.encode(), 0)
        yield looks > 0
    finally:
        os.close(handle)  # gives the lock back


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        say(f"this cache's file system knows no locks ({error.strerror}): other pods may fetch the same at the same time")
    return True


def _holder(handle: int) -> str:
    return os.pread(handle, 256, 0).decode(errors="replace") or "another pod"
