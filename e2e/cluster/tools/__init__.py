"""The cluster's programs, built from Go modules: what there is, where it stands, and building what is missing.

Each folder beside this file is a go.mod of `tool` lines with its go.sum and no Go code. The results stand in the cache below
a hash of all that goes in, so a second checkout finds them and a changed version never meets an old binary. Only the
programs asked for are compiled.
"""

import functools
import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import go, locks, paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import Step, step

KUBERNETES_VERSION: Final = "v1.34.4"
_HERE: Final = Path(__file__).parent
_FLAGS: Final = ("-trimpath", "-buildvcs=false", "-mod=readonly")


@dataclass(frozen=True, slots=True)
class Module:
    """A folder with a go.mod: the packages that it builds by the name of the program, and what the linker is told."""

    folder: str
    packages: Mapping[str, str]
    linker: str = "-s -w"
    takes: str = "a minute or two"

    def key(self, go_version: str) -> str:
        digest = hashlib.sha256()
        for part in (go_version, *_FLAGS, self.linker):
            digest.update(part.encode() + b"\0")
        for name in ("go.mod", "go.sum"):
            digest.update((_HERE / self.folder / name).read_bytes() + b"\0")
        return f"{self.folder}-{digest.hexdigest()[:12]}"


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet")
MODULES: Final = (
    Module(
        folder="kubernetes",
        packages={name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES} | {"etcd": "go.etcd.io/etcd/server/v3"},
        linker=f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}",
        takes="four to six minutes",
    ),
    Module(folder="coredns", packages={"coredns": "github.com/coredns/coredns"}),
    Module(folder="helm", packages={"helm": "helm.sh/helm/v3/cmd/helm"}),
    Module(folder="versitygw", packages={"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    Module(folder="fake-gcs-server", packages={"fake-gcs-server": "github.com/fsouza/fake-gcs-server"}),
)
CONTROL_PLANE: Final = ("etcd", "kube-apiserver")
CLIENTS: Final = ("kubectl", "helm")
MODEL_STORES: Final = ("fake-gcs-server", "versitygw")
"""What the engine's fetch is tested with; the cluster runs without them."""
ALL: Final = tuple(name for module in MODULES for name in module.packages if name not in MODEL_STORES)


def path(name: str) -> Path:
    """Where the program of that name stands once built."""
    for module in MODULES:
        if name in module.packages:
            return _directory(module) / name
    raise ClusterError(f"there is no tool called {name}: the cluster builds {', '.join(sorted(ALL))}.")


def ensure(*names: str) -> None:
    """Build those of the programs that are missing; safe to call from several processes at once."""
    for module in MODULES:
        if _missing(module, names):
            with locks.held(_directory(module) / ".lock"):  # another process may have built them while we waited
                if missing := _missing(module, names):
                    _build(module, missing)


def built(name: str) -> bool:
    return path(name).is_file()


def _directory(module: Module) -> Path:
    return paths.tools() / _key(module.folder)


@functools.cache
def _key(folder: str) -> str:
    module = next(module for module in MODULES if module.folder == folder)
    return module.key(go.find()[1])


def _missing(module: Module, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in module.packages and not (_directory(module) / name).is_file()]


def _build(module: Module, names: list[str]) -> None:
    title = f"Compiling {', '.join(names)} (once; cold on two cores {module.takes})"
    directory = _directory(module)
    with step(title) as current, tempfile.TemporaryDirectory(dir=directory, prefix=".build-") as scratch:
        packages = [module.packages[name] for name in names]
        command: list[str | Path] = [
            go.find()[0],
            "build",
            "-v",
            *_FLAGS,
            f"-ldflags={module.linker}",
            "-o",
            f"{scratch}/",
            *packages,
        ]
        _compile(command, _HERE / module.folder, directory / "build.log", current)
        for name in names:
            made = Path(scratch) / _binary(module.packages[name])
            made.rename(directory / name)  # the same file system: a program is there whole or not at all


def _binary(package: str) -> str:
    """What `go build` calls the result: the last element of the import path that is not a major version."""
    *head, last = package.split("/")
    return head[-1] if last[0] == "v" and last[1:].isdigit() else last


def _compile(command: list[str | Path], folder: Path, log: Path, current: Step) -> None:
    compiled = downloaded = 0
    with (
        log.open("w") as record,
        subprocess.Popen(
            command, cwd=folder, env=go.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            record.write(line)
            downloaded, compiled = (
                (downloaded + 1, compiled) if line.startswith("go: downloading") else (downloaded, compiled + 1)
            )
            current.note(f"{downloaded} modules downloaded, {compiled} packages compiled")
    if process.returncode != 0:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise ClusterError(f"go build failed in {folder}; its last lines (all of them: {log}):\n{tail}")
