"""The machine under a benchmark: which core is whose, a network without anybody's rules, CPU time, and what it was like.

Everything is done to this process and what it starts alone: nothing of the machine is set, and nobody else is disturbed.
"""

import contextlib
import ctypes
import fcntl
import os
import platform
import resource
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NewType

from e2e.cluster.errors import ClusterError

Core = NewType("Core", int)
_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[Core, Core]:
    """(the router's, the clients' and engines')."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise ClusterError("the benchmark needs two cores: one for the router, one for its clients and engines.")
    return Core(available[-1]), Core(available[0])


def pinned(core: Core, argv: Iterable[str]) -> tuple[str, ...]:
    """A command line that runs on one core alone, its children too."""
    return ("taskset", "--cpu-list", str(core), *argv)


@contextlib.contextmanager
def staying_on(core: Core) -> Iterator[None]:
    """This process keeps away from the router's core for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files(wanted: int) -> int:
    """As many open files as there may be, for us and what we start; gives the limit back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    limit = wanted if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
    return limit


def own_network() -> bool:
    """Move to a network namespace with a loopback alone. There kube-proxy's and firewalls' rules cost no packet anything.

    For this thread and what it starts from now on; needs root, and says whether it could.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    return True


def tree(pid: int) -> tuple[int, ...]:
    """A process and all that it has started, as they are now."""
    found, new = [pid], [pid]
    while new:
        children = [child for parent in new for child in _children(parent)]
        new = [child for child in children if child not in found]
        found += new
    return tuple(found)


def _children(pid: int) -> list[int]:
    children = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return children


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes until now, to the nanosecond (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


@dataclass(frozen=True, slots=True)
class CoreTime:
    """What a core has done since the boot, in seconds."""

    busy: float
    stolen: float
    """By other machines on the same host."""
    at: float

    @classmethod
    def of(cls, core: Core) -> "CoreTime":
        return cls.parse(Path("/proc/stat").read_text(), core, at=time.monotonic())

    @classmethod
    def parse(cls, text: str, core: Core, *, at: float) -> "CoreTime":
        for line in text.splitlines():
            name, *fields = line.split()
            if name == f"cpu{core}":
                user, nice, system, _idle, _iowait, interrupts, soft, stolen = map(int, fields[:8])
                return cls((user + nice + system + interrupts + soft) / _TICKS, stolen / _TICKS, at)
        raise ClusterError(f"/proc/stat has no core {core}.")


def describe() -> dict[str, str]:
    """Of the machine, for a report."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "kernel": platform.release(), "python": platform.python_version()}
