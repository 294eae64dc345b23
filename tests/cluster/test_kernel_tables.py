"""Reading what the kernel says: mounts, control groups, listening sockets."""

import os
import socket
from pathlib import Path

import pytest

from e2e.cluster import cgroups, mounts, ports
from e2e.cluster.ports import Holder

HYBRID = """\
30 22 0:26 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:31 / /sys/fs/cgroup/cpu rw shared:15 - cgroup cgroup rw,cpu
34 30 0:31 / /sys/fs/cgroup/cpu rw shared:15 - cgroup cgroup rw,cpu
"""
UNIFIED = "26 23 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_control_groups_of_both_versions() -> None:
    root = Path("/sys/fs/cgroup")
    assert cgroups.hierarchies(HYBRID) == ([root / "systemd", root / "cpu"], root / "unified")


def test_control_groups_of_version_2() -> None:
    assert cgroups.hierarchies(UNIFIED) == ([], Path("/sys/fs/cgroup"))


def test_mounts_below_a_directory_come_deepest_first() -> None:
    table = "\n".join(
        f"1 1 0:1 / {place} rw - ext4 /dev/a rw"
        for place in ("/", "/cache", "/cache/a/b", "/cache/a", r"/cache/a\040b", "/cached")
    )
    found = mounts.below(Path("/cache"), table)
    assert found[0] == Path("/cache/a/b")
    assert set(found) == {Path("/cache"), Path("/cache/a"), Path("/cache/a/b"), Path("/cache/a b")}


def test_only_listening_sockets_count() -> None:
    table = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:6F1B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:6F1C 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
"""
    assert ports.listening(table) == [("4711", 0x6F1B)]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_listener_is_known_by_its_process(family: socket.AddressFamily) -> None:
    try:
        server = socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0), family=family)
    except OSError:
        pytest.skip("this machine has no such addresses")
    with server:
        port = server.getsockname()[1]
        name = Path("/proc/self/comm").read_text().strip()
        assert ports.listeners({port, 1}) == {port: Holder(os.getpid(), name)}


def test_a_listener_is_found_though_the_first_tables_lack_it() -> None:
    looks: list[int] = []

    def read() -> list[str]:
        looks.append(1)
        return [] if len(looks) < 3 else ports.read_tables()

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.listeners({port}, read=read)[port].pid == os.getpid()
    assert len(looks) == 3


def test_a_port_that_nobody_has_is_looked_for_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    looks: list[int] = []
    assert ports.listeners({port}, read=lambda: looks.append(1) or []) == {}  # type: ignore[func-returns-value]
    assert len(looks) == 1
