"""What a store says that it holds: files with their sizes, the store's own tags and checksums, and a digest over all of it.

The digest is the revision of stores that have no commits: whoever adds, removes or overwrites a file below the prefix
changes it, and nobody has to read a byte to compute it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure


@dataclass(frozen=True, slots=True)
class Checksum:
    """How to tell that a file arrived as it is in the store. `value` is lower-case hexadecimal."""

    algorithm: str
    value: str
    part_bytes: int = 0
    """Of md5-parts, which is the MD5 of the parts' MD5s: how large the parts are."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    path: str
    size: int
    tag: str
    """What the listing says of the content: another content has another tag."""
    checksum: Checksum | None = None
    """Where the listing has one already."""
    version: str = ""
    """What makes the store refuse to read once the file was overwritten: an ETag or a generation."""


@dataclass(frozen=True, slots=True)
class Listing:
    revision: str
    files: tuple[RemoteFile, ...]


def digest(files: Iterable[RemoteFile]) -> str:
    """`sha256:` and the SHA-256 over one line for each file, in sorted order: path, size and tag, with tabs between."""
    lines = sorted(f"{file.path}\t{file.size}\t{file.tag}\n" for file in files)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def check_paths(files: Iterable[RemoteFile], *, source: str) -> None:
    """Raises EngineFailure where a name would leave the model's directory, or cannot stand in one."""
    seen: set[str] = set()
    for file in files:
        parts = file.path.split("/")
        if "\0" in file.path or any(part in {"", ".", ".."} for part in parts):
            raise _invalid(f"{source} holds {file.path!r}, which cannot stand in a directory. Rename it or remove it.")
        seen.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if both := sorted(file.path for file in files if file.path in seen):
        raise _invalid(f"{source} holds {both[0]!r} as a file and as a folder. Remove one of the two.")


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_MODEL_INVALID, message)
