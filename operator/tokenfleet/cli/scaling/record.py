"""A trace is recorded from what routers report: a line comes in as a router sends it, and goes out where something changed.

It listens as the controller does, by the same code, to all addresses that it is given. Pods it knows as the routers do, so
those that have no address yet are missing from the trace.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http import HttpProcessingError

from tokenfleet import contract
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.controller.observed import Load
from tokenfleet.controller.signals.board import Board, Source
from tokenfleet.controller.signals.report import InvalidReport, decode
from tokenfleet.controller.store import Key
from tokenfleet.planning.scaling.signal import Signal
from tokenfleet.planning.scaling.trace import Line, write_line

_AGAIN_SECONDS: Final = 1.0
"""After a connection was lost."""
_CONNECT_SECONDS: Final = 5.0
_LINE_BYTES: Final = 4 << 20
"""A report is one line with all of a router's replicas: longer than the lines that aiohttp takes by itself."""


class Recorder:
    """Of one LLMDeployment."""

    def __init__(
        self,
        name: str,
        addresses: Iterable[str],
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        """clock: monotonic seconds. now: Unix seconds. tell: for people, a sentence at a time."""
        self._key: Key = (contract.KIND, "", name)
        self._now, self._tell = now, tell
        self._board = Board(clock=clock, routers_of=lambda _: (self._key,), slots_of=lambda _: None, changed=lambda _: None)
        self._sources = {_checked(address): self._board.add(address, self._key, ready=True) for address in addresses}
        self._last: Signal | None = None
        self._began = False

    async def lines(self, write: Callable[[str], None], *, seconds: float | None, every: float = 1.0) -> int:
        """Until the seconds are over, or cancelled. How many lines were written."""
        written = 0
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=contract.REPORT_STALE_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False, read_bufsize=_LINE_BYTES) as client:
            tasks = [asyncio.create_task(self._follow(client, *each)) for each in self._sources.items()]
            try:
                end = None if seconds is None else self._now() + seconds
                while end is None or self._now() < end:
                    await asyncio.wait(tasks, timeout=every, return_when=asyncio.FIRST_EXCEPTION)
                    for task in tasks:
                        if task.done():
                            task.result()
                    if (line := self._look()) is not None:
                        write(write_line(line))
                        written += 1
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return written

    def _look(self) -> Line | None:
        """What is new; nothing before the first report."""
        load = self._board.load(self._key)
        signal = _signal(load) if load is not None and load.complete else None
        if signal is None and not self._began:
            return None
        if self._began and _level(signal) == _level(self._last):
            return None
        self._began, self._last = True, signal
        return Line(round(self._now(), 3), signal)

    async def _follow(self, client: aiohttp.ClientSession, address: str, source: Source) -> None:
        lost = False
        while True:
            try:
                async with client.get(address) as answer:
                    if answer.status != HTTPStatus.OK:
                        raise CliError(f"{address} answered {answer.status}: is this the admin port of a router, 9090?")
                    async for line in answer.content:
                        lost = False
                        self._take(line.strip(), source, address)
            except (aiohttp.ClientError, HttpProcessingError, TimeoutError, InvalidReport) as error:
                if not lost:
                    self._tell(f"{address}: {error or type(error).__name__}. It is tried again.")
                lost = True
            self._board.lost(source)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _take(self, line: bytes, source: Source, address: str) -> None:
        if not line:
            self._board.heard(source)
            return
        report = decode(line)
        name = self._key[2]
        if name not in report.deployments:
            known = ", ".join(sorted(report.deployments)) or "none"
            raise CliError(f"The router at {address} has no LLMDeployment {name}; it has: {known}.")
        self._board.told(source, report)


def _checked(address: str) -> str:
    parts = urlsplit(address if "//" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable(f"{address!r} is no address of a router's admin port: write it as http://127.0.0.1:9090.")
    path = parts.path.rstrip("/") or contract.PATH_ROUTER_REPORTS
    return parts._replace(path=path).geturl()


def _signal(load: Load) -> Signal:
    states = list(load.states.values())
    stable = load.tracks.get(contract.TRACK_STABLE)
    return Signal(
        waiting=load.waiting,
        in_flight=sum(load.in_flight.values()),
        ready=states.count("routable"),
        starting=states.count("unready"),
        idle_seconds=None if load.idle_seconds is None else round(load.idle_seconds, 1),
        ttft_p95=stable.ttft_p95 if stable is not None else None,
        itl_p95=stable.itl_p95 if stable is not None else None,
    )


def _level(signal: Signal | None) -> Signal | None:
    """Without what grows while nothing happens."""
    return None if signal is None else replace(signal, idle_seconds=None)
