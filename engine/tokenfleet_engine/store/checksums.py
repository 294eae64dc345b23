"""Computes a file's checksum as its store did, and says whether it is the same.

Reads the file once, in blocks, in whatever thread it is called. Where a store has no checksum, what can be told from the file
itself is checked: its size, and for safetensors that the header describes exactly so many bytes.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.tensors import read_shapes
from tokenfleet_engine.store.listing import Checksum

BLOCK: Final = 4 << 20
SIZE_ONLY: Final = "size alone"
HEADER: Final = "size and safetensors header"


class Mismatch(Exception):
    """The file is not what the store says that it holds."""


def verify(path: Path, *, size: int, checksum: Checksum | None) -> str:
    """By what the file was found to be right. Raises Mismatch, or OSError."""
    if (there := path.stat().st_size) != size:
        raise Mismatch(f"it has {there} bytes instead of {size}")
    if checksum is not None:
        found = COMPUTED[checksum.algorithm](path, checksum)
        if found != checksum.value:
            raise Mismatch(f"its {checksum.algorithm} is {found} instead of {checksum.value}")
        return checksum.algorithm
    if path.suffix != ".safetensors":
        return SIZE_ONLY
    try:
        read_shapes(path)
    except EngineFailure as failure:
        raise Mismatch(failure.message) from failure
    return HEADER


def _blocks(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            yield buffer[:count]


def _hashed(name: str) -> Callable[[Path, Checksum], str]:
    def compute(path: Path, _: Checksum) -> str:
        with path.open("rb", buffering=0) as stream:
            return hashlib.file_digest(stream, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()

    return compute


def _git_sha1(path: Path, _: Checksum) -> str:
    """As git names a blob."""
    state = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    for block in _blocks(path):
        state.update(block)
    return state.hexdigest()


def md5_of_parts(blocks: Iterator[memoryview], part_bytes: int) -> str:
    """As S3 tags what was uploaded in parts: the MD5 of the parts' MD5s, and how many there are."""
    whole, count, part, room = _md5(), 0, _md5(), part_bytes
    for block in blocks:
        while block:
            part.update(block[:room])
            taken = min(room, len(block))
            block, room = block[taken:], room - taken
            if not room:
                whole.update(part.digest())
                count, part, room = count + 1, _md5(), part_bytes
    if room < part_bytes:
        whole.update(part.digest())
        count += 1
    return f"{whole.hexdigest()}-{count}"


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _crc32(path: Path, _: Checksum) -> str:
    value = 0
    for block in _blocks(path):
        value = zlib.crc32(block, value)
    return f"{value:08x}"


def _crc32c(path: Path, _: Checksum) -> str:
    import google_crc32c  # in the engine's images; needed for S3 and Google Cloud Storage alone

    value = 0
    for block in _blocks(path):
        value = google_crc32c.extend(value, bytes(block))
    return f"{value:08x}"


COMPUTED: Final[dict[str, Callable[[Path, Checksum], str]]] = {
    "sha256": _hashed("sha256"),
    "sha1": _hashed("sha1"),
    "md5": _hashed("md5"),
    "git-sha1": _git_sha1,
    "md5-parts": lambda path, checksum: md5_of_parts(_blocks(path), checksum.part_bytes),
    "crc32": _crc32,
    "crc32c": _crc32c,
}
