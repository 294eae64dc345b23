"""Whether the engine runs all that it was sent, told by its own metrics, where the server that is asked is an engine.

A router has no such metrics, nor has another's server; then nothing is known, and the search finds the end by what it measures.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

_RUNNING: Final = re.compile(r"^vllm:num_requests_running(?:\{[^}]*\})? ([\d.e+]+)", re.MULTILINE)
_WAITING: Final = re.compile(r"^vllm:num_requests_waiting(?:\{[^}]*\})? ([\d.e+]+)", re.MULTILINE)
_SECONDS: Final = 5.0
_ENOUGH: Final = 3
"""Looks; fewer show a moment."""
_NEARLY: Final = 0.9


class Queues:
    """Of one engine, looked at again and again during a try."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | bool, every: float = 0.5) -> None:
        """url: of the API, with /v1 at its end."""
        self._url, self._tls, self._every = url.removesuffix("/v1") + "/metrics", tls, every
        self.looks: list[tuple[int, int]] = []
        """(running, waiting)"""

    def bound(self, concurrency: int) -> int | None:
        """The most that ran at once, where others waited at every look; else None.

        Requests that have just come wait for the next step. So it takes more: nearly always exactly as many ran, and clearly
        fewer than there were.
        """
        looks = self.looks[1:]
        if len(looks) < _ENOUGH or not all(waiting for _, waiting in looks):
            return None
        most = max(running for running, _ in looks)
        full = sum(running == most for running, _ in looks) / len(looks)
        return most if full >= _NEARLY and 0 < most <= _NEARLY * concurrency else None

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        self.looks.clear()
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self) -> None:
        patience = aiohttp.ClientTimeout(total=_SECONDS)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls), timeout=patience) as session:
            while True:
                await asyncio.sleep(self._every)
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(self._url) as answer:
                        text = await answer.text() if answer.status == 200 else ""
                    running, waiting = _total(_RUNNING, text), _total(_WAITING, text)
                    if running is None or waiting is None:
                        return
                    self.looks.append((running, waiting))


def _total(pattern: re.Pattern[str], text: str) -> int | None:
    """Of all of the server's models and engines."""
    found = pattern.findall(text)
    return round(sum(map(float, found))) if found else None
