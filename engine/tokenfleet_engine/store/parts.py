"""A version that is being made: its files, and a journal of what of them has arrived for good.

    <folder>/files/…   the files, each at its full length from the start, with holes where bytes are missing
    <folder>/journal   JSON lines: [path, start, end] arrived, [path] start this file anew, [path, "how"] is verified

A line is written only after the bytes that it speaks of are on the disk. So a kill, or a node that loses its power, costs what
arrived since the last commit and nothing else; what the journal does not know is fetched again. A torn last line says nothing.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenfleet_engine.store.cache import sync_directory
from tokenfleet_engine.store.listing import RemoteFile
from tokenfleet_engine.store.ranges import Ranges

Extent = tuple[str, int, int]


class Parts:
    """To be used by whoever holds the version's lock. `commit`, `seal`, `restart` and `finish` wait for the disk: to be called
    in a thread, one at a time."""

    def __init__(self, folder: Path, files: Iterable[RemoteFile]) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.wanted = {file.path: file for file in files}
        self.arrived: dict[str, Ranges] = {path: Ranges() for path in self.wanted}
        self.verified: dict[str, str] = {}
        self._journal = folder / "journal"
        self._pending: list[Extent] = []
        self.files.mkdir(parents=True, exist_ok=True)
        self._read()
        for file in self.wanted.values():
            self._lay_out(file)

    def done(self) -> int:
        return sum(ranges.total() for ranges in self.arrived.values())

    def allocated(self) -> int:
        """Bytes of disk that the files take already."""
        return sum((self.files / path).stat().st_blocks * 512 for path in self.wanted)

    def path(self, file: RemoteFile) -> Path:
        return self.files / file.path

    def note(self, file: RemoteFile, start: int, end: int) -> None:
        """These bytes were written; a commit makes that last."""
        self.arrived[file.path].add(start, end)
        self._pending.append((file.path, start, end))

    def pending(self) -> list[Extent]:
        """What was noted since this was last asked; to be handed to `commit`."""
        pending, self._pending = self._pending, []
        return pending

    def commit(self, extents: list[Extent]) -> None:
        for path in {path for path, _, _ in extents}:
            _sync_data(self.files / path)
        merged: dict[str, Ranges] = {}
        for path, start, end in extents:
            merged.setdefault(path, Ranges()).add(start, end)
        self._append([path, start, end] for path, ranges in merged.items() for start, end in ranges)

    def seal(self, file: RemoteFile, verified: str) -> None:
        """The file is whole and right; nothing is written to it any more."""
        _sync_data(self.path(file))
        self.verified[file.path] = verified
        self._append([[file.path, verified]])

    def restart(self, file: RemoteFile) -> None:
        """What arrived of the file is wrong."""
        self._pending = [extent for extent in self._pending if extent[0] != file.path]
        self._forget(file)
        self.path(file).unlink(missing_ok=True)  # not overwritten: another version may share it
        self._lay_out(file)

    def adopt(self, file: RemoteFile, there: Path, *, verified: str | None) -> bool:
        """Share a file of the cache that has the same content, instead of fetching it. Not all file systems can."""
        mine = self.path(file)
        fresh = mine.with_name(f"{mine.name}.adopted")
        try:
            fresh.unlink(missing_ok=True)
            fresh.hardlink_to(there)
            fresh.replace(mine)
            fresh.unlink(missing_ok=True)  # rename does nothing where both are the same file already
        except OSError:
            return False
        self.note(file, 0, file.size)
        if verified is not None:
            self.seal(file, verified)
        return True

    def finish(self) -> Path:
        """Let all files be on the disk, names included. Returns where they stand."""
        for path in self.wanted:
            _sync(self.files / path)
        for folder, _, _ in os.walk(self.files):
            sync_directory(Path(folder))
        return self.files

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lay_out(self, file: RemoteFile) -> None:
        path = self.path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.stat().st_size != file.size:
            if self.arrived[file.path].total():
                self._forget(file)
            with path.open("wb") as stream:
                stream.truncate(file.size)

    def _forget(self, file: RemoteFile) -> None:
        """On the disk before the file changes: of an empty file, nothing may be said to have arrived."""
        self.arrived[file.path] = Ranges()
        self.verified.pop(file.path, None)
        self._append([[file.path]])
        _sync_data(self._journal)

    def _read(self) -> None:
        try:
            content = self._journal.read_bytes()
        except FileNotFoundError:
            return
        for line in content.split(b"\n"):
            try:
                path, *rest = json.loads(line)
                self._replay(str(path), rest)
            except (ValueError, TypeError):
                continue  # torn by a kill
        if content and not content.endswith(b"\n"):
            self._append_bytes(b"\n")

    def _replay(self, path: str, rest: list[object]) -> None:
        if path not in self.wanted:
            return
        match rest:
            case [int(start), int(end)]:
                self.arrived[path].add(start, min(end, self.wanted[path].size))
            case [str(verified)]:
                self.arrived[path].add(0, self.wanted[path].size)
                self.verified[path] = verified
            case []:
                self.arrived[path] = Ranges()
                self.verified.pop(path, None)

    def _append(self, records: Iterable[list[object]]) -> None:
        self._append_bytes(b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records))

    def _append_bytes(self, content: bytes) -> None:
        if content:
            with self._journal.open("ab", buffering=0) as journal:
                journal.write(content)


def arrived_bytes(folder: Path) -> int:
    """How much of a version that another process fetches is there, as far as its journal says."""
    ranges: dict[str, Ranges] = {}
    try:
        lines = (folder / "journal").read_bytes().split(b"\n")
    except OSError:
        return 0
    for line in lines:
        try:
            path, *rest = json.loads(line)
        except (ValueError, TypeError):
            continue
        if not rest:
            ranges.pop(path, None)
        elif len(rest) == 2:
            ranges.setdefault(path, Ranges()).add(*rest)
    return sum(each.total() for each in ranges.values())


def _sync_data(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
