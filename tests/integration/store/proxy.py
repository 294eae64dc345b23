"""A proxy between a fetch and its store that breaks connections, changes bytes, holds them back and answers by itself."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Set before it is used; `port` is where it listens. `passed` counts the bytes that the store sent through it."""

    upstream: int
    cut_after: int | None = None
    """Bytes of the store after which each connection is reset."""
    cuts: int = 0
    """How many connections that befalls; the others live."""
    flip_at: int | None = None
    """The byte of each of the next `flips` connections' answers that is changed."""
    flips: int = 0
    hold_after: int | None = None
    """Bytes in all after which nothing passes any more, until this is None."""
    answer: bytes | None = None
    """An HTTP answer that each request gets instead of the store's, up to `answers` times."""
    answers: int = 0
    passed: int = 0
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __enter__(self) -> "Proxy":
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started.set,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self, started: Callable[[], None]) -> None:
        self._loop.run_until_complete(self._serve(started))

    async def _serve(self, started: Callable[[], None]) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started()
        await self._end.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.answer is not None and self.answers > 0:
                self.answers -= 1
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
                await writer.drain()
            else:
                await self._between(reader, writer)
        writer.close()

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.upstream)
        cut_after, flip_at = None, None
        if self.cuts > 0:
            self.cuts, cut_after = self.cuts - 1, self.cut_after
        up = asyncio.ensure_future(_copy(reader, forth))
        passed = 0
        while data := await back.read(65536):
            while self.hold_after is not None and self.passed >= self.hold_after:  # noqa: ASYNC110  (another thread sets it)
                await asyncio.sleep(0.02)
            if self.flips > 0 and self.flip_at is not None and passed <= self.flip_at < passed + len(data):
                self.flips, flip_at = self.flips - 1, self.flip_at - passed
                data = data[:flip_at] + bytes([data[flip_at] ^ 1]) + data[flip_at + 1 :]
            passed += len(data)
            self.passed += len(data)
            if cut_after is not None and passed > cut_after:
                writer.transport.abort()
                break
            writer.write(data)
            await writer.drain()
        up.cancel()
        forth.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
