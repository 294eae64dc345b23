"""Bytes on their way to a file descriptor through a thread of their own, so that a full pipe never holds up the event loop.

What waits is bounded; beyond that it is refused, and whoever wrote it counts. The thread does nothing but write: it holds no
lock, and runs no Python in between that could keep the loop from running.
"""

import logging
import os
from queue import SimpleQueue
from threading import Thread
from typing import Final

log = logging.getLogger(__name__)

_HELD_BYTES: Final = 4 * 1024 * 1024


class Outlet:
    """Of one file descriptor, which stays the caller's."""

    __slots__ = ("_broken", "_descriptor", "_held_bytes", "_queue", "_taken", "_thread", "_written")

    def __init__(self, descriptor: int, *, held_bytes: int = _HELD_BYTES) -> None:
        self._descriptor = descriptor
        self._held_bytes = held_bytes
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._taken = 0
        """Ever; counted by the loop's thread alone."""
        self._written = 0
        """Ever; counted by the outlet's thread alone."""
        self._broken = False
        self._thread = Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> bool:
        """Write that soon. False: it is dropped, since too much waits already, or nobody reads any more."""
        if self._broken or self._taken - self._written + len(data) > self._held_bytes:
            return False
        self._taken += len(data)
        self._queue.put(data)
        return True

    def close(self, *, seconds: float) -> None:
        """Write what waits, for at most so long. This one waits: it is for the process's end."""
        self._queue.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                while data:
                    size = os.write(self._descriptor, data)
                    self._written += size
                    data = data[size:]
            except OSError as error:
                self._broken = True
                log.warning("cannot write the access log any more: %s", error)
                return
