"""The cache on disk: what stands where, and which of it is complete.

    /cache/<model>            a symbolic link to a complete version; what engines open (`contract.cached_path`)
    /cache/.models/<version>/ the files of a complete version; it appears here by one rename, never file by file
    /cache/.models/<version>.json   its manifest
    /cache/.parts/<version>/  a version that is being fetched (`parts`)
    /cache/.locks/<version>   held by who fetches it (`lock`)

Must not delete: other pods may read what this one does not need. A version is named after its source and its exact revision,
so that `main` today and the commit behind it are one copy.
"""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.listing import RemoteFile
from tokenfleet_engine.store.sources import Source

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class StoredFile:
    path: str
    size: int
    tag: str
    """As the store's listing has it."""
    verified: str
    """By what it was found to be right."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a complete version consists of."""

    source: str
    revision: str
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def covers(self, wanted: tuple[RemoteFile, ...]) -> bool:
        there = {(file.path, file.size, file.tag) for file in self.files}
        return all((file.path, file.size, file.tag) in there for file in wanted)


class Cache:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / ".models"
        self.parts = root / ".parts"
        self.locks = root / ".locks"

    def destination(self, source: Source) -> Path:
        return self.root / Path(contract.cached_path(source.given, source.revision)).name

    def version(self, source: Source, revision: str, *, everything: bool) -> str:
        """The name of its directory."""
        return Path(contract.cached_path(source.url, revision)).name + ("-all" if everything else "")

    def current(self, source: Source, *, everything: bool) -> Manifest | None:
        """What the destination leads to, where that is complete: a look at names and sizes, no byte is read."""
        try:
            name = self.destination(source).readlink().name
        except OSError:
            return None
        return self.complete(name) if name.endswith("-all") or not everything else None

    def complete(self, version: str) -> Manifest | None:
        manifest = self.manifest(version)
        folder = self.models / version
        whole = manifest is not None and all(_size(folder / file.path) == file.size for file in manifest.files)
        return manifest if whole else None

    def manifest(self, version: str) -> Manifest | None:
        """What the version's manifest says, whether or not its files are there."""
        try:
            content = json.loads((self.models / f"{version}.json").read_bytes())
            files = tuple(StoredFile(**file) for file in content["files"])
            return Manifest(source=content["source"], revision=content["revision"], files=files)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def versions_of(self, url: str) -> Iterator[tuple[str, Manifest]]:
        for name in self._manifests():
            manifest = self.manifest(name)
            if manifest is not None and manifest.source == url:
                yield name, manifest

    def unused(self) -> list[tuple[Path, int]]:
        """Complete versions that no destination leads to, and unfinished ones that nobody fetches now: what may be deleted."""
        used = {link.readlink().name for link in self.root.iterdir() if link.is_symlink()}
        old = [(self.models / name, manifest.size) for name in self._manifests() if name not in used
               and (manifest := self.manifest(name)) is not None and (self.models / name).is_dir()]  # fmt: skip
        unfinished = [(each, _allocated(each)) for each in _entries(self.parts)]
        return old + unfinished

    def prepare(self) -> None:
        """Make the cache's folders. Raises EngineFailure where this user may not write."""
        try:
            for folder in (self.root, self.models, self.parts, self.locks):
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        except OSError as error:
            raise failure_of(error, self.root) from error

    def install(self, version: str, files: Path, manifest: Manifest, *, aside: Path) -> None:
        """Make `files`, which are whole and on the disk, the version of that name. A damaged one goes to `aside`."""
        write_durably(self.models / f"{version}.json", json.dumps(asdict(manifest), indent=1).encode())
        folder = self.models / version
        if folder.exists():
            folder.rename(aside)
        files.rename(folder)
        sync_directory(self.models)

    def link(self, source: Source, version: str) -> Path:
        """Let the destination lead to the version: in one step, from whatever it led to before."""
        destination = self.destination(source)
        target = os.path.relpath(self.models / version, self.root)  # relative: the volume may be mounted elsewhere
        if destination.is_symlink() and str(destination.readlink()) == target:
            return destination
        fresh = destination.with_name(f".{destination.name}.{os.getpid()}-{os.uname().nodename}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(destination)
        sync_directory(self.root)
        return destination

    def _manifests(self) -> list[str]:
        return sorted(each.stem for each in _entries(self.models) if each.suffix == ".json")


def failure_of(error: OSError, root: Path) -> EngineFailure:
    """What a failed write to the cache means, and what helps."""
    if error.errno in NO_ROOM:
        return EngineFailure(
            contract.REASON_DISK_FULL,
            f"{root} is full ({error.strerror}). What has arrived stays for the next start. Give the volume more room "
            "(spec.model.cache.size, or a larger claim) or delete what is not needed.",
        )
    uid, gid = os.geteuid(), os.getegid()
    if error.errno in (errno.EACCES, errno.EPERM):
        place = next((each for each in (root, *root.parents) if each.exists()), root)
        owner = place.stat()
        fix = (
            f"it belongs to {owner.st_uid}:{owner.st_gid}, mode {owner.st_mode & 0o7777:o}. Set fsGroup: {gid} by "
            f"spec.podTemplate.spec.securityContext, or once: chown -R {uid}:{gid} {root}"
        )
    elif error.errno == errno.EROFS:
        fix = "it is mounted read-only. fetch needs it writable; the engine does not."
    else:
        fix = f"{error.strerror} at {error.filename or root}."
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, f"The model cache {root} cannot be written by uid {uid}: {fix}")


def write_durably(path: Path, content: bytes) -> None:
    """The old content or the new one, after a power cut too."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{os.uname().nodename}")
    with fresh.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not know this of directories
            raise
    finally:
        os.close(handle)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _allocated(folder: Path) -> int:
    return sum(each.lstat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())
