"""The cluster's own control groups: what makes every process that ever came from it findable, whatever it calls itself.

Daemons join the group `system` before they become their program, so shims, plugins and whatever else they fork are in it
too; the kubelet keeps its pods beside it. Works on version 1, version 2, and the mix of both. Each cache has a group of its
own, so that no two clusters take each other's processes for theirs. Nothing outside of it is touched, except that version 2
has to be told to pass its controllers down.
"""

import contextlib
import errno
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from e2e.cluster import paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import wait_until

SYSTEM: Final = "system"
PODS: Final = "kubepods"
_PASSED_DOWN: Final = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")


def name() -> str:
    """Of the group that everything of this cache's cluster is in."""
    return f"tokenfleet-{hashlib.sha256(str(paths.cache()).encode()).hexdigest()[:8]}"


def hierarchies(mountinfo: str | None = None) -> tuple[list[Path], Path | None]:
    """The mount points of version 1, and that of version 2."""
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text()
    first: list[Path] = []
    second: Path | None = None
    for line in mountinfo.splitlines():
        place, kind = line.split()[4], line.partition(" - ")[2].split()[0]
        if kind == "cgroup" and Path(place) not in first:
            first.append(Path(place))
        elif kind == "cgroup2":
            second = second or Path(place)
    return first, second


def ensure() -> None:
    """Make the groups in all hierarchies; the kubelet wants its root group to be there."""
    first, second = hierarchies()
    for place in _places():
        try:
            if place.parent == second and not first:
                _pass_down(second)
            (place / SYSTEM).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ClusterError(
                f"cannot make a control group below {place.parent} ({error.strerror}): the cluster needs a writable "
                "cgroup file system; in a container, run it with --privileged and a cgroup namespace of its own."
            ) from error
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1: a new group may use no processor until told so
            for group in (place, place / SYSTEM):
                source, target = group.parent / setting, group / setting
                if place.parent in first and target.exists() and not target.read_text().strip():
                    target.write_text(source.read_text())


def procs() -> Path:
    """The file that a daemon writes its process number to."""
    first, second = hierarchies()
    chosen = second or next((place for place in first if place.name == "systemd"), first[0])
    return chosen / name() / SYSTEM / "cgroup.procs"


def members(part: str = "") -> set[int]:
    """Every process in our groups, or in one part of them, in any hierarchy."""
    found: set[int] = set()
    for place in _places():
        for directory, _, _ in os.walk(place / part):
            with contextlib.suppress(OSError):  # a group may go while we look
                found.update(int(pid) for pid in Path(directory, "cgroup.procs").read_text().split())
    found.discard(0)  # a process of another namespace
    found.discard(os.getpid())
    return found


def kill(part: str = "", *, seconds: float = 10.0) -> int:
    """SIGKILL to everyone in the groups until nobody is left; returns how many there were."""
    killed: set[int] = set()
    deadline = time.monotonic() + seconds
    while pids := {pid for pid in members(part) if not _zombie(pid)}:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= pids
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {sorted(pids)} of the cluster survive SIGKILL: they hang in the kernel.")
        time.sleep(0.02)
    return len(killed)


def remove() -> None:
    """Take the groups away, deepest first. A group is busy for a moment after its last process is gone."""
    for place in _places():
        if place.is_dir() and not wait_until(lambda place=place: _removed(place), seconds=5.0):  # type: ignore[misc]
            raise ClusterError(f"the control group {place} cannot be removed: processes {sorted(members())} are in it.")


def _removed(place: Path) -> bool:
    for directory, _, _ in os.walk(place, topdown=False):
        try:
            Path(directory).rmdir()
        except OSError as error:
            if error.errno != errno.ENOENT:
                return False
    return True


def _places() -> list[Path]:
    first, second = hierarchies()
    return [place / name() for place in (*first, *([second] if second else []))]


def _pass_down(root: Path) -> None:
    available = set((root / "cgroup.controllers").read_text().split())
    passed = set((root / "cgroup.subtree_control").read_text().split())
    for controller in _PASSED_DOWN:
        if controller in available - passed:
            (root / "cgroup.subtree_control").write_text(f"+{controller}")


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
