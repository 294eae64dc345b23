"""Notices that vLLM hangs: one of its processes is dead, and the one that waits for it does not see it.

That happens now and then where a worker fails between loading and serving (a block size that its attention cannot take, say):
the core ends with the reason in the log, and the server waits for it for ever, deaf even to SIGTERM. Only /proc is read: a
dead process that nobody collects is there as a zombie.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECONDS: Final = 30.0
"""A server that sees the end of its core collects it at once, and ends within a few seconds."""
_OURS: Final = "VLLM::"
"""How vLLM names its processes; helpers that it runs besides may stay uncollected for long."""


@dataclass(slots=True)
class Hang:
    """Of the server with this number."""

    pid: int
    _since: float | None = None

    def lasts(self, now: float) -> bool:
        """Ask every second or so: True once a process of vLLM has been dead and uncollected for SECONDS."""
        if not _has_dead_child(self.pid):
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        return now - self._since >= SECONDS


def _has_dead_child(pid: int) -> bool:
    children: list[str] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        children += _read(file).split()
    return any(_is_dead(_read(Path(f"/proc/{child}/stat"))) for child in children)


def _is_dead(stat: str) -> bool:
    """`stat` is 'pid (name) state …', and the name may hold anything."""
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return name.startswith(_OURS) and rest.split()[:1] == ["Z"]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
