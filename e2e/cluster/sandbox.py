"""The image of a pod's sandbox: the machine's static busybox, asleep. Written as an archive, without any builder."""

import functools
import hashlib
import io
import json
import platform
import struct
import tarfile
from pathlib import Path
from typing import Final

from e2e.cluster import packages
from e2e.cluster.errors import ClusterError

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ENTRYPOINT: Final = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait $!; done"]
"""As process 1 it takes no signal that it does not handle: without the trap every goodbye would take the whole grace."""
_APPLETS: Final = ("cat", "httpd", "id", "ls", "nslookup", "sh", "sleep", "touch", "wget")


def architecture(machine: str) -> str:
    """What images call the machine's kind of processor."""
    if machine not in _ARCHITECTURES:
        raise ClusterError(f"the cluster runs on {' and '.join(_ARCHITECTURES)}, not on {machine}.")
    return _ARCHITECTURES[machine]


@functools.cache
def image_name() -> str:
    """Named by its content: what containerd has already is never imported again."""
    digest = hashlib.sha256(_busybox() + json.dumps([_ENTRYPOINT, _APPLETS]).encode())
    return f"tokenfleet.local/sandbox:{digest.hexdigest()[:12]}"


def write(archive: Path) -> None:
    """The image in the form that `docker save` writes."""
    layer = _layer()
    config = json.dumps(
        {
            "architecture": architecture(platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": _ENTRYPOINT, "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [image_name()], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for name, content in (("layer.tar", layer), ("config.json", config), ("manifest.json", manifest)):
            _add(tar, name, content)


@functools.cache
def _busybox() -> bytes:
    program = Path(packages.program("busybox"))
    content = program.read_bytes()
    if _needs_libraries(content):
        raise ClusterError(f"{program} needs shared libraries, which a sandbox has not: install Debian's busybox-static.")
    return content


def _needs_libraries(program: bytes) -> bool:
    """Whether a 64-bit ELF names an interpreter: the type of a program header is its first word, 3 means PT_INTERP."""
    (start,), (size, count) = struct.unpack_from("<Q", program, 32), struct.unpack_from("<HH", program, 54)
    return any(struct.unpack_from("<I", program, start + index * size)[0] == 3 for index in range(count))


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(directory)
        _add(tar, "bin/busybox", _busybox(), mode=0o755)
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
