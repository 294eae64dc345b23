"""The classes of accelerators that the cluster adds: read from a file as the controller starts, and again whenever it changes.

The file is a ConfigMap's, which the kubelet changes by putting another directory in its place; so it is looked at every few
seconds, which costs one system call. A document with a mistake changes nothing: the last good one stays, the log says what
is wrong and where, and a metric says that something is. A file that is not there adds nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from tokenfleet import contract
from tokenfleet.planning.accelerators import InvalidAccelerators, extend

logger = logging.getLogger(__name__)

SECONDS: Final = 5.0
_State = tuple[int, int, int]
_NOTHING: Final = (0, 0, 0)


class AcceleratorsFile:
    """`look` once before anything is reconciled, then `keep`."""

    def __init__(self, path: Path | None, *, registry: CollectorRegistry, changed: Callable[[], None]) -> None:
        """path: None: there is no such file. changed: told when the classes are others than before."""
        self._path, self._changed = path, changed
        self._state: _State = _NOTHING
        """Of the file, as last read."""
        self._invalid = Gauge(
            contract.METRIC_ACCELERATORS_INVALID, "1: the file of accelerators has a mistake, and the last good one stays.",
            registry=registry,
        )  # fmt: skip

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SECONDS)
            self.look()

    def look(self) -> None:
        """Read the file where it is another one now."""
        state = self._look_up()
        if self._path is None or state == self._state:
            return
        self._state = state
        try:
            extend("" if state == _NOTHING else self._path.read_text(encoding="utf-8"), origin=str(self._path))
        except (InvalidAccelerators, OSError, UnicodeDecodeError) as error:
            self._invalid.set(1)
            logger.error("Accelerators stay as they were, until the file is corrected: %s", error)
            return
        self._invalid.set(0)
        logger.info("Read the accelerators of %s; all LLMDeployments are reconciled.", self._path)
        self._changed()

    def _look_up(self) -> _State:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            found = None
        return (found.st_ino, found.st_mtime_ns, found.st_size) if found is not None else _NOTHING
