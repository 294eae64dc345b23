"""Shows how far a load test is, on stderr: a line that renews itself on a terminal, and elsewhere a line every ten seconds."""

import contextlib
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from tokenfleet.bench.load import Progress as Now
from tokenfleet.bench.load import Stop

_EVERY_SECONDS: Final = 10.0
_RECENT_SECONDS: Final = 2.0


class Display:
    """Takes what `drive` tells."""

    def __init__(self, console: Console, stop: Stop) -> None:
        self._console, self._stop = console, stop
        self._told = 0.0
        self._past: list[tuple[float, int]] = [(0.0, 0)]
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"),
            console=console, transient=True, auto_refresh=False,
        )  # fmt: skip
        self._task = self._bar.add_task("Load test", total=1.0, words="")

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with self._bar:
            yield

    def __call__(self, now: Now) -> None:
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._done(now), words=self._words(now), refresh=True)
        elif now.elapsed - self._told >= _EVERY_SECONDS:
            self._told = now.elapsed
            self._console.print(self._words(now), soft_wrap=True, markup=False)

    def _done(self, now: Now) -> float:
        shares = [now.done / self._stop.requests if self._stop.requests else 0.0]
        if self._stop.seconds:
            shares.append(now.elapsed / self._stop.seconds)
        return min(1.0, max(shares))

    def _words(self, now: Now) -> str:
        of = f" of {self._stop.requests}" if self._stop.requests is not None else ""
        words = f"{now.elapsed:.0f} s: {now.done}{of} done, {now.in_flight} in flight, {now.failed} failed"
        return f"{words}, {self._speed(now):.0f} chunks/s"

    def _speed(self, now: Now) -> float:
        """Of the last two seconds. A chunk is a token, or several where the server is faster than its connections."""
        self._past.append((now.elapsed, now.chunks))
        while len(self._past) > 2 and now.elapsed - self._past[1][0] >= _RECENT_SECONDS:
            self._past.pop(0)
        (began, before) = self._past[0]
        return (now.chunks - before) / (now.elapsed - began) if now.elapsed > began else 0.0
