"""What the container may use and what became of it, as its control group says (version 2, or 1 with its older names).

Reads a few files below /sys/fs/cgroup and answers with a plain number; outside of a container, or where a file is missing,
with what the machine has.
"""

import math
import os
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = 1 << 60
"""Version 1 says a number of this size where there is no limit."""


def cpu_limit(root: Path = ROOT) -> int:
    """CPUs, rounded up, at least 1: the quota where there is one, else all that this process may run on."""
    available = len(os.sched_getaffinity(0))
    quota = _quota(root)
    return available if quota is None else max(1, min(available, math.ceil(quota)))


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that this container may use; None where nothing but the machine bounds it."""
    for file in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        for line in _lines(file):
            return int(line) if line.isdigit() and int(line) < _UNLIMITED else None
    return None


def oom_kills(root: Path = ROOT) -> int:
    """How many processes of this container the kernel has killed at the memory limit."""
    for file in (root / "memory.events", root / "memory" / "memory.oom_control"):
        for line in _lines(file):
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdigit():
                return int(value)
    return 0


def _quota(root: Path) -> float | None:
    if lines := _lines(root / "cpu.max"):
        limit, _, period = lines[0].partition(" ")
        return None if limit == "max" else int(limit) / int(period or 100_000)
    limits, periods = _lines(root / "cpu" / "cpu.cfs_quota_us"), _lines(root / "cpu" / "cpu.cfs_period_us")
    if limits and periods and int(limits[0]) > 0:
        return int(limits[0]) / int(periods[0])
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
