"""What a cluster could leave on a machine: looked at before and after, so that a test can prove that nothing is left.

The machine may be busy with other things (a build of images, an API server of other tests), so a process counts as a trace
when something ties it to the cluster: its arguments or its control group. A network namespace that is left shows as the link
that leads into it.
"""

import os
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

from e2e.cluster import cgroups, packages, paths

_PLACES: Final = ("/run", "/var/run", "/var/lib", "/etc", "/var/log", "/opt", "/usr/libexec")
_SETTINGS: Final = ("kernel/keys", "kernel/panic*", "net/ipv4/ip_forward", "net/ipv4/conf/all", "net/ipv4/conf/default", "vm")
_VOLATILE: Final = ("/var/lib/apt", "/var/lib/dpkg", "/var/log/apt", "/var/log/dpkg.log", "/proc/sys/vm/stat_refresh")
_TELLING: Final = ("cni", "containerd", "coredns", "etcd", "kube", "runc", "tokenfleet")


@dataclass(frozen=True, slots=True)
class Traces:
    processes: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    groups: frozenset[str]
    files: frozenset[str]
    settings: frozenset[str]

    @classmethod
    def look(cls) -> Self:
        return cls(
            processes=frozenset(_processes()),
            mounts=frozenset(_mounts()),
            links=frozenset(line.split()[0] for line in _lines("ip", "-brief", "link")),
            routes=frozenset(_lines("ip", "route", "show", "table", "all")),
            rules=frozenset(_lines("nft", "list", "ruleset")),
            groups=frozenset(_groups()),
            files=frozenset(_files()),
            settings=frozenset(_settings()),
        )

    def new_since(self, before: Self) -> list[str]:
        """What is there now and was not there then, or is another value than it was."""
        return [
            f"{each.name}: {trace}"
            for each in fields(self)
            for trace in sorted(getattr(self, each.name) - getattr(before, each.name))
        ]


def _processes() -> list[str]:
    ours, found = str(paths.cluster()), []
    inside = cgroups.members()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            program = str((process / "exe").readlink())
        except OSError:  # it is gone, or a thread of the kernel
            continue
        if ours in program or ours in command or int(process.name) in inside:
            found.append(f"{process.name} {command}")
    return found


def _mounts() -> list[str]:
    """Of the cluster's directory, or at one of the places where a runtime mounts things."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(_PLACES) or str(paths.cluster()) in line]


def _groups() -> list[str]:
    first, second = cgroups.hierarchies()
    return [str(group) for place in (*first, *([second] if second else [])) for group in place.glob("*") if group.is_dir()]


def _files() -> list[str]:
    found = []
    for place in _PLACES:
        for directory, names, files in os.walk(place):
            names[:] = [name for name in names if not _skipped(f"{directory}/{name}")]
            found += [path for name in (*names, *files) if not _skipped(path := f"{directory}/{name}")]
    found += [str(path) for path in Path("/tmp").iterdir() if any(word in path.name for word in _TELLING)]
    return found


def _skipped(path: str) -> bool:
    return path.startswith((*_VOLATILE, str(paths.cache())))


def _settings() -> list[str]:
    places = [place for pattern in _SETTINGS for place in Path("/proc/sys").glob(pattern)]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else (place,))]
    return [f"{file}={_content(file)}" for file in files if file.is_file() and str(file) not in _VOLATILE]


def _content(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _lines(program: str, *arguments: str) -> list[str]:
    answer = subprocess.run([packages.program(program), *arguments], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()
