"""The Debian packages that the cluster and its images are made with: installed where they are missing, never upgraded.

A package counts as there when its program is, wherever it came from. Installing one starts no service of its own: the
cluster runs its own containerd and registry, and the machine's stay as they were.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import Step, step

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "busybox-static": ("busybox",),
    "conntrack": ("conntrack",),
    "containerd": ("containerd", "ctr", "containerd-shim-runc-v2"),
    "containernetworking-plugins": ("/usr/lib/cni/ptp",),
    "docker-registry": ("docker-registry",),
    "iproute2": ("ip",),
    "nftables": ("nft",),
    "runc": ("runc",),
    "util-linux": ("nsenter", "unshare"),
}
"""Of the cluster: package and the programs that it brings."""
IMAGE_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {"buildah": ("buildah",), "mmdebstrap": ("mmdebstrap",)}
TEST_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {"prometheus": ("promtool",), "redis-server": ("redis-server",)}
"""What integration tests run beside the API server; of Prometheus only the tool that checks metrics."""
BENCH_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {"haproxy": ("haproxy",)}
"""What benchmarks compare with."""
_ALL: Final = {**PROGRAMS, **IMAGE_PROGRAMS, **TEST_PROGRAMS, **BENCH_PROGRAMS}
_SERVICES: Final = {
    "containerd": "containerd.service",
    "docker-registry": "docker-registry.service",
    "haproxy": "haproxy.service",
    "prometheus": "prometheus.service",
    "redis-server": "redis-server.service",
}
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure(*names: str) -> None:
    """Install those of the packages (all of the cluster's without a name) whose programs are missing."""
    missing = [name for name in names or PROGRAMS if not present(name)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        programs = ", ".join(program for name in missing for program in _ALL[name])
        raise ClusterError(f"missing programs: {programs}; this machine has no apt-get, so install them by hand.")
    if os.geteuid() != 0:
        raise ClusterError(f"missing Debian packages: {', '.join(missing)}; install them, or run this as root.")
    with step(f"Installing {', '.join(missing)}") as current, _no_services_started():
        if _install(missing, current) != 0:  # the package lists of a fresh machine are old, or not there at all
            _apt("update", current=current)
            if _install(missing, current) != 0:
                raise ClusterError(f"apt-get could not install {', '.join(missing)}: try it by hand to see why.")
        _disable_services(missing)


def present(name: str) -> bool:
    return all(find(program) is not None for program in _ALL[name])


def find(program: str) -> str | None:
    """The full path of a program, looked for where root's programs are even if PATH leaves those out."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


def program(name: str) -> str:
    """The full path of a program whose package `ensure` has seen to."""
    found = find(name)
    if found is None:
        raise ClusterError(f"there is no program {name} on this machine: run `up`, which installs what is missing.")
    return found


def _install(names: list[str], current: Step) -> int:
    return _apt("install", "--no-install-recommends", *names, current=current)


def _apt(*arguments: str, current: Step) -> int:
    command = ["apt-get", "--yes", "-o", "DPkg::Lock::Timeout=120", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            current.note(line.strip()[:80])
    current.note("")
    return process.returncode


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian asks this script before it starts what it has installed."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _disable_services(installed: list[str]) -> None:
    units = [_SERVICES[name] for name in installed if name in _SERVICES]
    if units and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", "--quiet", *units], check=False)
