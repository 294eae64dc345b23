"""A directory of this machine, read as a store is: so one way of looking serves both, with the same answers and messages."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from tokenfleet_engine.launch import files
from tokenfleet_engine.store.listing import Checksum, Listing, RemoteFile


class Directory:
    """A model's directory, as a Store. It has no revision."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def host(self) -> str:
        return str(self._path)

    async def listing(self) -> Listing:
        files.list_names(self._path, holds="a model is a directory with config.json and weights")
        return Listing("", tuple(_files(self._path)))

    async def checksum(self, file: RemoteFile) -> Checksum | None:
        return file.checksum

    async def read(self, file: RemoteFile, start: int, end: int) -> AsyncGenerator[bytes]:
        place = self._path / file.path
        try:
            with place.open("rb") as stream:
                stream.seek(start)
                yield stream.read(end - start)
        except PermissionError:
            raise files.unreadable(place) from None
        except OSError as error:
            raise files.invalid(f"{place} cannot be read: {error.strerror}.") from error

    async def close(self) -> None:
        """Nothing is open."""


def _files(path: Path) -> Iterator[RemoteFile]:
    """Of the directory itself: vLLM reads no other, and a repository's other folders may be large."""
    for entry in sorted(path.iterdir()):
        if entry.is_symlink() and not entry.exists():
            files.size(entry)
        if entry.is_file():
            yield RemoteFile(path=entry.name, size=files.size(entry), tag="")
