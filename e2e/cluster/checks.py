"""Why the cluster cannot start here: each reason is one sentence with its remedy, found before anything is touched.

`look` reads the machine once; the checks are pure, and the first that objects ends the attempt. What needs installed
programs to be seen (routes, nft tables, ports) is checked by `settle`, after the packages are there.
"""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import network, paths, ports
from e2e.cluster.errors import ClusterError

GIGABYTE: Final = 1024**3
MINIMUM_MEMORY: Final = 3 * GIGABYTE
DISK_TO_RUN: Final = 4 * GIGABYTE
DISK_TO_BUILD: Final = 10 * GIGABYTE
"""With the compiler's cache. The images of the CPU engine need 30 GB more; whoever builds them checks that."""
LONGEST_CACHE_PATH: Final = 70
"""The kernel takes 107 characters for the path of a socket."""
_COVERED: Final = ("/run", "/var/run", "/var/log")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks want to know."""

    user: int
    system: str
    processor: str
    memory: int
    free_disk: int
    file_system: str
    cache: Path
    tools_built: bool


def look() -> Machine:
    existing = next(place for place in (paths.cache(), *paths.cache().parents) if place.exists())
    return Machine(
        user=os.geteuid(),
        system=platform.system(),
        processor=platform.machine(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_disk=shutil.disk_usage(existing).free,
        file_system=_file_system(existing),
        cache=paths.cache(),
        tools_built=any(paths.tools().glob("kubernetes-*/kubelet")),
    )


def refuse(machine: Machine) -> None:
    """Raise what the first objecting check says."""
    for check in CHECKS:
        if (objection := check(machine)) is not None:
            raise ClusterError(objection)


def require_root(machine: Machine) -> None:
    if (objection := _root(machine)) is not None:
        raise ClusterError(objection)


def _linux(machine: Machine) -> str | None:
    if machine.system == "Linux":
        return None
    return f"the local cluster needs Linux, and this is {machine.system}: set KUBECONFIG to a cluster that you have."


def _processor(machine: Machine) -> str | None:
    if machine.processor in ("x86_64", "aarch64"):
        return None
    return (
        f"the local cluster runs on x86_64 and aarch64, not on {machine.processor}: set KUBECONFIG to a cluster that you have."
    )


def _root(machine: Machine) -> str | None:
    if machine.user == 0:
        return None
    return "the local cluster makes mounts, control groups and network links, which only root may: run it with sudo."


def _memory(machine: Machine) -> str | None:
    if machine.memory >= MINIMUM_MEMORY:
        return None
    return (
        f"this machine has {machine.memory / GIGABYTE:.1f} GB of memory, and the cluster needs "
        f"{MINIMUM_MEMORY // GIGABYTE}: use a larger one, or set KUBECONFIG to a cluster that you have."
    )


def _disk(machine: Machine) -> str | None:
    wanted = DISK_TO_RUN if machine.tools_built else DISK_TO_BUILD
    if machine.free_disk >= wanted:
        return None
    return (
        f"{machine.cache} has {machine.free_disk / GIGABYTE:.1f} GB free, and the cluster needs {wanted // GIGABYTE}: "
        "free some, or set TOKENFLEET_CACHE to a directory on a larger disk."
    )


def _cache_path(machine: Machine) -> str | None:
    if len(str(machine.cache)) > LONGEST_CACHE_PATH:
        return (
            f"the cache's path {machine.cache} is longer than {LONGEST_CACHE_PATH} characters, too long for the sockets "
            "below it: set TOKENFLEET_CACHE to a shorter one."
        )
    if any(machine.cache.is_relative_to(place) for place in _COVERED):
        return f"the cache cannot be in {machine.cache}, which the cluster covers: set TOKENFLEET_CACHE to another place."
    return None


def _overlay(machine: Machine) -> str | None:
    if machine.file_system not in ("overlay", "tmpfs", "ramfs", "nfs", "nfs4", "fuse"):
        return None
    return (
        f"{machine.cache} is on {machine.file_system}, on which images cannot be unpacked or would not last: set "
        "TOKENFLEET_CACHE to a directory on a local disk (ext4, xfs, btrfs)."
    )


CHECKS: Final[tuple[Callable[[Machine], str | None], ...]] = (
    _linux,
    _processor,
    _root,
    _cache_path,
    _overlay,
    _memory,
    _disk,
)


def settle(used: network.Addresses, running: set[int]) -> None:
    """That the link's name, the networks, kube-proxy's tables and the ports are ours to take; `running` are ours already."""
    _link(network.owner(paths.LINK_NAME))
    if collisions := network.collisions(used):
        raise ClusterError(
            f"the cluster's networks {used.pods} and {used.services} overlap routes of this machine "
            f"({', '.join(collisions)}): set TOKENFLEET_POD_CIDR and TOKENFLEET_SERVICE_CIDR to free ones."
        )
    foreign = set(network.PROXY_TABLES) & network.nft_tables()
    if foreign and not network.proxy_tables_are_ours():
        raise ClusterError(
            "another kube-proxy has its nft tables on this machine (ip kube-proxy): stop that Kubernetes first, "
            "or remove what it left with `nft delete table ip kube-proxy; nft delete table ip6 kube-proxy`."
        )
    wanted = {port: name for name, taken in paths.PORTS_OF.items() for port in taken if name != "registry"}
    ports.claim({port: name for port, name in wanted.items() if port not in running})


def _link(owner: str | None) -> None:
    if owner is None or owner == network.mark():
        return
    if (other := network.cache_of(owner)) is not None:
        raise ClusterError(
            f"a Tokenfleet cluster of another cache has the link {paths.LINK_NAME}: end it with "
            f"`TOKENFLEET_CACHE={other} python -m e2e.cluster down`."
        )
    raise ClusterError(
        f"a network link called {paths.LINK_NAME} is there already and is not ours: remove it with "
        f"`ip link delete {paths.LINK_NAME}` if nobody needs it."
    )


def _file_system(path: Path) -> str:
    """The type of the file system that the path is on: that of the longest mount point above it."""
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4]
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, line.partition(" - ")[2].split()[0]
    return kind
