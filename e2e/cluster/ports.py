"""Who listens on which port: so that a port that is taken is named together with the program that has it."""

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import cgroups
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import wait_until

_LISTEN: Final = "0A"
_LOOKS: Final = 10


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int | None
    name: str

    def __str__(self) -> str:
        return self.name if self.pid is None else f"{self.name} (process {self.pid})"


def read_tables() -> list[str]:
    """The kernel's tables of TCP sockets, of IPv4 and IPv6."""
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    return [table.read_text() for table in tables if table.is_file()]


def listeners(wanted: set[int], *, read: Callable[[], list[str]] = read_tables) -> dict[int, Holder]:
    """Those of the ports that somebody listens on, over TCP, on any address.

    A table that changes while it is read may lack rows, so a port that it does not have and that is taken all the same is
    looked for again.
    """
    for _ in range(_LOOKS):
        inodes = {inode: port for table in read() for inode, port in listening(table) if port in wanted}
        if not any(map(_is_taken, wanted - set(inodes.values()))):
            break
        time.sleep(0.05)
    if not inodes:
        return {}
    owners = _owners(set(inodes))
    return {port: owners.get(inode, Holder(None, "another program")) for inode, port in inodes.items()}


def _is_taken(port: int) -> bool:
    """Whether a server could not listen there. Connections that are long over do not count (SO_REUSEADDR)."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def listening(table: str) -> list[tuple[str, int]]:
    """Inode and port of each listening socket in a table of /proc/net."""
    rows = (line.split() for line in table.splitlines()[1:])
    return [(row[9], int(row[1].rpartition(":")[2], 16)) for row in rows if row[3] == _LISTEN]


def claim(names: Mapping[int, str]) -> None:
    """Make sure that nobody else has these ports. A process of ours that nobody remembers is ended."""
    wanted = set(names)
    if not (taken := listeners(wanted)):
        return
    orphans = {holder.pid for holder in taken.values() if holder.pid is not None} & cgroups.members()
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    if orphans or any(holder.pid is None for holder in taken.values()):  # a process that dies keeps its sockets a moment
        wait_until(lambda: not listeners(wanted), seconds=3.0)
        taken = listeners(wanted)
    if taken:
        lines = "; ".join(f"{port} ({names[port]}) by {holder}" for port, holder in sorted(taken.items()))
        raise ClusterError(f"ports that the cluster needs are taken: {lines}: end that program first.")


def _owners(inodes: set[str]) -> dict[str, Holder]:
    owners: dict[str, Holder] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        for link in _open_files(process):
            if link in wanted:
                owners[wanted[link]] = Holder(int(process.name), _name(process))
    return owners


def _open_files(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # the process is gone
        for file in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # the file was closed meanwhile
                yield str(file.readlink())


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program that just ended"
