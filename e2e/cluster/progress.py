"""Steps with their elapsed time, for everything that a person waits for.

    with step("Building the operator image") as current:
        current.note("layer 3 of 7")

On a terminal the running steps tick; elsewhere (CI, a pipe) a step prints a line when it starts to take long and one when
it ends. Ours are long and mostly silent, so what matters is that the clock is seen to move.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

_console = Console(stderr=True, highlight=False, soft_wrap=True)
_lock = threading.RLock()
_display: Progress | None = None
_depth = 0

QUIET_SECONDS = 2.0
"""Where there is no terminal: a step shorter than this prints only its end."""
TICK_SECONDS = 15.0


@dataclass(slots=True)
class Step:
    """One running step. `note` says what it is at; `result` is printed behind its time when it ends."""

    title: str
    started: float
    detail: str = ""
    result: str = ""
    _task: TaskID | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def note(self, detail: str) -> None:
        self.detail = detail
        with _lock:
            if _display is not None and self._task is not None:
                _display.update(self._task, description=_running(self))

    def elapsed(self) -> float:
        return time.monotonic() - self.started


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Print how long the body takes. Nests; threads may each have their own. An exception marks the step as failed."""
    global _depth
    current = Step(title, time.monotonic())
    with _lock:
        depth, _depth = _depth, _depth + 1
        _show(current)
    try:
        yield current
    except BaseException:
        _end(current, "✗", "red", depth)
        raise
    else:
        _end(current, "✓", "green", depth)


def say(line: str) -> None:
    """A line between the steps."""
    with _lock:
        (_display.console if _display is not None else _console).print(Text(line))


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{int(value // 60)} min {int(value % 60)} s"


def _running(current: Step) -> str:
    return f"{current.title} ({current.detail})" if current.detail else current.title


def _show(current: Step) -> None:
    global _display
    if not _console.is_terminal:
        threading.Thread(target=_tick, args=(current,), daemon=True).start()
        return
    if _display is None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        _display = Progress(*columns, console=_console, transient=True)
        _display.start()
    current._task = _display.add_task(_running(current), total=None)


def _tick(current: Step) -> None:
    wait = QUIET_SECONDS
    while not current._ended.wait(wait):
        print(f"… {_running(current)}: {seconds(current.elapsed())} so far", file=sys.stderr, flush=True)
        wait = TICK_SECONDS


def _end(current: Step, mark: str, colour: str, depth: int) -> None:
    global _display, _depth
    current._ended.set()
    line = Text("  " * depth).append(mark, style=colour).append(f" {current.title} ")
    line.append(f"{seconds(current.elapsed())}", style="dim")
    if current.result:
        line.append(f" {current.result}")
    with _lock:
        _depth -= 1
        if _display is not None and current._task is not None:
            _display.remove_task(current._task)
            if not _display.task_ids:
                _display.stop()
                _display = None
        _console.print(line)
