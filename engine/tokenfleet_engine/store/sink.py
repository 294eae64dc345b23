"""Where a stream's bytes go: collected, written in a thread at their place in the file, and noted as arrived."""

import asyncio
import os
from types import TracebackType
from typing import Final, Self

from tokenfleet_engine.store.listing import RemoteFile
from tokenfleet_engine.store.parts import Parts

BUFFER: Final = 2 << 20
"""Bytes that are collected: few large writes instead of many small ones."""
PIECES: Final = 512
"""The kernel takes at most 1024 at a time."""


class Sink:
    """Of one range of one file. `offset` is where the next byte belongs."""

    def __init__(self, parts: Parts, file: RemoteFile, offset: int) -> None:
        self.offset = offset
        self._parts, self._file = parts, file
        self._pieces: list[bytes] = []
        self._written = offset

    def __enter__(self) -> Self:
        self._handle = os.open(self._parts.path(self._file), os.O_WRONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._handle)

    async def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self.offset += len(data)
        if self.offset - self._written >= BUFFER or len(self._pieces) >= PIECES:
            await self.flush()

    async def flush(self) -> None:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            start, self._written = self._written, self.offset
            writing = asyncio.ensure_future(asyncio.to_thread(_write, self._handle, pieces, start))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait({writing})  # the file may not be closed under the thread that writes to it
                raise
            self._parts.note(self._file, start, self.offset)


def _write(handle: int, pieces: list[bytes], offset: int) -> None:
    left = sum(map(len, pieces))
    while left:
        written = os.pwritev(handle, pieces, offset)
        offset, left = offset + written, left - written
        while left and written >= len(pieces[0]):
            written -= len(pieces.pop(0))
        if left and written:
            pieces[0] = pieces[0][written:]
