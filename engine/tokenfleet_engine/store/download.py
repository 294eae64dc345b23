"""Fetches a version's missing bytes: many ranges at a time, each written where it belongs as it arrives.

Memory is bounded by the number of streams, not by the size of a file. A broken range goes on from its last byte. Each second
what has arrived is committed to the journal. A file is verified as soon as it is whole, while others still arrive; one that is
wrong is fetched once more, and then it is the store's fault.
"""

import asyncio
import contextlib
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, NoReturn

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.say import say
from tokenfleet_engine.store import checksums
from tokenfleet_engine.store.listing import Checksum, RemoteFile
from tokenfleet_engine.store.parts import Parts
from tokenfleet_engine.store.patience import Patience
from tokenfleet_engine.store.progress import Progress
from tokenfleet_engine.store.remote import Store, Transient
from tokenfleet_engine.store.sink import Sink

COMMIT_SECONDS: Final = 1.0
VERIFIERS: Final = 2


@dataclass(frozen=True, slots=True)
class Piece:
    file: RemoteFile
    start: int
    end: int


@dataclass(slots=True)
class Download:
    store: Store
    parts: Parts
    checksums: dict[str, Checksum | None]
    patience: Patience
    progress: Progress
    streams: int
    piece_bytes: int
    commit_seconds: float
    _queue: asyncio.Queue[Piece] = field(default_factory=asyncio.Queue)
    _left: dict[str, int] = field(default_factory=dict)
    """By file, its pieces that are not there yet."""
    _again: set[str] = field(default_factory=set)
    _open: int = 0
    """Files that are not verified yet."""
    _complete: asyncio.Event = field(default_factory=asyncio.Event)
    _verifying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(VERIFIERS))
    _journal: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Until all files are verified. Raises EngineFailure, or OSError where the disk fails."""
        todo = [file for file in self.parts.wanted.values() if file.path not in self.parts.verified]
        self._open = len(todo)
        if not todo:
            return
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._work(group)) for _ in range(self.streams)]
                running.append(group.create_task(self._commit_regularly()))
                for file in sorted(todo, key=lambda file: (file.size > self.piece_bytes, file.path)):
                    self._enqueue(file, group)  # the small ones first: what is missing or forbidden shows at once
                await self._complete.wait()
                for task in running:
                    task.cancel()
        except BaseExceptionGroup as errors:
            _raise_first(errors)
        finally:
            with contextlib.suppress(OSError):  # a full disk; what the journal does not know is fetched again
                await self._commit()

    def _enqueue(self, file: RemoteFile, group: asyncio.TaskGroup) -> None:
        pieces = self.parts.arrived[file.path].missing(file.size, at_most=self.piece_bytes)
        self._left[file.path] = len(pieces)
        for start, end in pieces:
            self._queue.put_nowait(Piece(file, start, end))
        if not pieces:
            group.create_task(self._verify(file, group))

    async def _work(self, group: asyncio.TaskGroup) -> None:
        while True:
            piece = await self._queue.get()
            with Sink(self.parts, piece.file, piece.start) as sink:
                await self._fetch(piece, sink)
            self._left[piece.file.path] -= 1
            if not self._left[piece.file.path]:
                group.create_task(self._verify(piece.file, group))

    async def _fetch(self, piece: Piece, sink: Sink) -> None:
        tries = 0
        while sink.offset < piece.end:
            before = sink.offset
            try:
                await self._stream(piece, sink)
            except Transient as error:
                tries = 0 if sink.offset > before else tries + 1
                await self.patience.wait(error, tries=tries)

    async def _stream(self, piece: Piece, sink: Sink) -> None:
        try:
            async with aclosing(self.store.read(piece.file, sink.offset, piece.end)) as answer:
                async for data in answer:
                    await sink.add(data)
                    self.progress.add(len(data))
                    self.patience.progressed()
        finally:
            await sink.flush()
        if sink.offset < piece.end:
            raise Transient(f"{self.store.host} ended an answer early")

    async def _verify(self, file: RemoteFile, group: asyncio.TaskGroup) -> None:
        path, checksum = self.parts.path(file), self.checksums[file.path]
        try:
            async with self._verifying:
                verified = await asyncio.to_thread(checksums.verify, path, size=file.size, checksum=checksum)
        except checksums.Mismatch as error:
            await self._once_more(file, str(error), group)
            return
        async with self._journal:
            await asyncio.to_thread(self.parts.seal, file, verified)
        self.patience.progressed()
        self._open -= 1
        if not self._open:
            self._complete.set()

    async def _once_more(self, file: RemoteFile, problem: str, group: asyncio.TaskGroup) -> None:
        async with self._journal:
            await asyncio.to_thread(self.parts.restart, file)
        self.progress.add(-file.size)
        if file.path in self._again:
            raise EngineFailure(
                contract.REASON_MODEL_INVALID,
                f"{file.path} arrived wrong twice from {self.store.host}: {problem}. The file is damaged in the store, or on "
                "its way through a proxy. Upload it anew.",
            )
        say(f"{file.path} arrived wrong: {problem}; fetching it once more")
        self._again.add(file.path)
        self._enqueue(file, group)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.commit_seconds)
            await self._commit()

    async def _commit(self) -> None:
        async with self._journal:
            await asyncio.to_thread(self.parts.commit, self.parts.pending())


def _raise_first(errors: BaseExceptionGroup[BaseException]) -> NoReturn:
    """One failure ends them all; of several at the same time, one that says what to do."""
    while errors.exceptions and isinstance(errors.exceptions[0], BaseExceptionGroup):
        errors = errors.exceptions[0]
    named = [error for error in errors.exceptions if isinstance(error, EngineFailure)]
    raise (named or errors.exceptions)[0]
