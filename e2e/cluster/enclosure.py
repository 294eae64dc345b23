"""A mount namespace of the cluster's own, in which containerd and the kubelet run.

Everything they mount, and what they write to places that cannot be configured (/run, /var/log/containers, /var/lib/cni,
/var/lib/kubelet), exists in it alone. When its last process is gone, so are all mounts, sockets, network namespaces and
address leases: nothing stale is left to clean up, whether the processes were killed, the machine was switched off, or
`down` ended them. The machine's own mounts go on appearing inside, none of ours outside.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from e2e.cluster import cgroups, daemons, packages, paths
from e2e.cluster.processes import Command, Daemon, boot

MOUNT_POINTS: Final = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))
"""Directories of the machine that are covered inside. One that is missing is made, and `down` takes it away again."""
LEASES: Final = Path("/run/tokenfleet/leases")
_READY: Final = "run/tokenfleet/ready"
_SETUP: Final = """
set -e
mount -n --make-rshared /  # -n: the machine's /run/mount is none of our business
mount -n -t tmpfs -o mode=755,nosuid,nodev tokenfleet /run
mkdir -p /run/containerd /run/netns /run/lock /run/tokenfleet/leases
mount --bind "$1" /var/log
shift
for place in "$@"; do mkdir -p "/run/tokenfleet$place"; mount --bind "/run/tokenfleet$place" "$place"; done
touch /run/tokenfleet/ready
exec sleep infinity
"""


def ensure() -> tuple[str, ...]:
    """Have the namespace, and return the command line that runs the rest of itself inside."""
    entrance = find()
    if entrance is None:
        cgroups.kill(cgroups.PODS)  # containers that outlived everyone who could look after them
        _make_mount_points()
        hidden = paths.logs() / "var-log"
        hidden.mkdir(parents=True, exist_ok=True)
        script = ("/bin/sh", "-c", _SETUP, "sh", str(hidden), *map(str, MOUNT_POINTS))
        unshare = (packages.program("unshare"), "--mount", "--propagation", "slave", "--", *script)
        holder = daemons.own(Command("enclosure", unshare))
        holder.stop()
        pid = holder.start().pid
        daemons.await_ready(holder, lambda: Path(f"/proc/{pid}/root/{_READY}").exists(), seconds=10)
        _identity_path().write_text(json.dumps([boot(), _namespace(pid)]))
    elif not _holder().running():
        holder = daemons.own(Command("enclosure", (packages.program("sleep"), "infinity")), enter=_enter(entrance))
        holder.stop()
        pid = holder.start().pid
        daemons.await_ready(holder, lambda: _namespace(pid) == _recorded(), seconds=10)
    return _enter(_holder_pid())


def find() -> int | None:
    """A process of ours through which the namespace can be entered, or None when it is gone."""
    wanted = _recorded()
    return next((pid for pid in sorted(cgroups.members()) if wanted and _namespace(pid) == wanted), None)


def stop() -> None:
    _holder().stop(grace=0)
    _identity_path().unlink(missing_ok=True)


def remove_mount_points() -> None:
    """Those that we made, if they are still empty: what is in them by now is somebody else's."""
    record = _mount_points_record()
    made = json.loads(record.read_text()) if record.is_file() else []
    for place in map(Path, reversed(made)):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    record.unlink(missing_ok=True)


def _make_mount_points() -> None:
    record = _mount_points_record()
    made = set(json.loads(record.read_text())) if record.is_file() else set()
    missing = [place for place in MOUNT_POINTS if not place.exists()]
    _write(record, sorted(made | set(map(str, missing))))  # first, so that a kill in between leaves nothing behind
    for place in missing:
        place.mkdir(parents=True)


def _write(path: Path, names: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(names)))


def _holder() -> Daemon:
    return daemons.own(Command("enclosure", ()))


def _holder_pid() -> int:
    record = _holder().record()
    assert record is not None, "ensure() has just started it"
    return record.pid


def _enter(pid: int) -> tuple[str, ...]:
    return (packages.program("nsenter"), f"--mount=/proc/{pid}/ns/mnt", "--")


def _namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino  # noqa: PTH116  a Path would follow the link's text
    except OSError:
        return None


def _recorded() -> int | None:
    try:
        recorded, inode = json.loads(_identity_path().read_text())
    except (OSError, ValueError):
        return None
    return int(inode) if recorded == boot() else None


def _identity_path() -> Path:
    return paths.state() / "mount-namespace.json"


def _mount_points_record() -> Path:
    return paths.state() / "mount-points.json"
