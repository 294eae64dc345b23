"""API keys in a directory, one file an entry: read, and read again as they change. A mounted Secret, or plain files.

A Secret's volume is changed by the kubelet at once for all entries: `..data` becomes a link to another directory. So that link
is what is looked at, and what it leads to is read; without it, the files' own times and sizes tell of a change. Reading is
done in a thread, since thousands of files take a while. A directory that is not there has no keys (keys.py lets nobody in).
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from tokenfleet.router.callers.keys import Keyring

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
_LIMIT: Final = 64 * 1024
"""Of one file; an entry is a few hundred bytes."""
_DATA: Final = "..data"

Version = tuple[object, ...]


class KeyFiles:
    """Keeps one keyring as its directory is."""

    def __init__(self, directory: Path, keyring: Keyring) -> None:
        self._directory = directory
        self._keyring = keyring
        self._version: Version | None = None
        self._trouble = ""
        """Why they could not be read the last time."""

    def load(self) -> None:
        """Now, before the first request."""
        try:
            self._take(read(self._directory, self._version))
        except OSError as error:
            self._tell(error)

    async def follow(self, *, pause: float = LOOK_SECONDS) -> None:
        """For ever. Only cancelling ends it."""
        while True:
            await asyncio.sleep(pause)
            try:
                self._take(await asyncio.to_thread(read, self._directory, self._version))
            except OSError as error:  # the volume changes just now, or its disk is not well
                self._tell(error)

    def _take(self, found: tuple[Version, dict[str, bytes]] | None) -> None:
        self._trouble = ""
        if found is not None:
            self._version, entries = found
            self._keyring.load(entries)

    def _tell(self, error: OSError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("the API keys in %s cannot be read, those known stay: %s", self._directory, error)


def read(directory: Path, known: Version | None) -> tuple[Version, dict[str, bytes]] | None:
    """The version of what stands there, and all entries; None where it is the version that is known."""
    source, version = _look(directory)
    if version == known:
        return None
    return version, {file.name: _content(file) for file in _files(source)} if source is not None else {}


def _look(directory: Path) -> tuple[Path | None, Version]:
    """Where the files are, and what is another value when they have changed."""
    try:
        target = (directory / _DATA).readlink()
    except FileNotFoundError:
        pass
    else:
        return directory / target, ("volume", str(target))
    if not directory.is_dir():
        return None, ("absent",)
    seen = [(file.name, file.stat()) for file in _files(directory)]
    return directory, tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in seen))


def _files(directory: Path) -> list[Path]:
    return [file for file in directory.iterdir() if not file.name.startswith(".") and file.is_file()]


def _content(file: Path) -> bytes:
    """Of one entry; what cannot be read is no JSON, and thus an entry that is skipped."""
    with file.open("rb") as opened:
        return opened.read(_LIMIT)
