"""Reads the header of a safetensors file: its tensors' names, types and shapes, and whether all of their bytes are there.

Never reads a weight, so a file of any size takes a fraction of a millisecond. Knows the format, and nothing of models. Where
the bytes of a header come from is the caller's: `read_header` takes them from a disk, and `inspection` from a store.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from tokenfleet_engine.launch import files

HEADER_LIMIT: Final = 100_000_000
"""Bytes; the format allows no longer header."""
LENGTH_BYTES: Final = 8
"""At the beginning, which say how long the header behind them is."""

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""By a tensor's name."""


@dataclass(frozen=True, slots=True)
class Tensor:
    dtype: str
    """As the format calls it: BF16, F8_E4M3, …"""
    shape: tuple[int, ...]
    bytes: int


def read_shapes(file: Path) -> Shapes:
    """Raises EngineFailure where the file is shorter or longer than its header says."""
    return {name: tensor.shape for name, tensor in read_header(file).items()}


def read_header(file: Path) -> dict[str, Tensor]:
    """All tensors, by name. Raises EngineFailure like `read_shapes`."""
    size = files.size(file)
    try:
        with file.open("rb") as stream:
            length = header_length(stream.read(LENGTH_BYTES), what=str(file), size=size)
            header = stream.read(length)
    except PermissionError:
        raise files.unreadable(file) from None
    except OSError as error:
        raise files.invalid(f"{file} cannot be read: {error.strerror}.") from error
    return parse_header(header, what=str(file), size=size)


def header_length(beginning: bytes, *, what: str, size: int) -> int:
    """Of the header, by the file's first LENGTH_BYTES. what: the file, in messages; size: of all of it, in bytes."""
    length = int.from_bytes(beginning, "little")
    if size < LENGTH_BYTES or length > min(HEADER_LIMIT, size - LENGTH_BYTES):
        raise files.invalid(f"{what} is damaged: {size} bytes, its header alone would be {length}. Copy it anew.")
    return length


def parse_header(header: bytes, *, what: str, size: int) -> dict[str, Tensor]:
    """Raises EngineFailure where the header cannot be read, or the file is not as long as it says."""
    try:
        document = json.loads(header)
    except ValueError as error:
        raise files.invalid(f"{what} is damaged: its header is not valid JSON. Copy it anew.") from error
    entries = document if isinstance(document, dict) else {}
    try:
        tensors = {name: _tensor(entry) for name, entry in entries.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for name, entry in entries.items() if name in tensors), default=0)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise files.invalid(f"{what} is damaged: its header does not say where the tensors stand. Copy it anew.") from error
    expected = LENGTH_BYTES + len(header) + end
    if size != expected:
        state = "incomplete" if size < expected else "damaged"
        raise files.invalid(f"{what} is {state}: {size} bytes, and its header says {expected}. Copy it anew.")
    return tensors


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    return Tensor(dtype=str(entry["dtype"]), shape=tuple(int(side) for side in entry["shape"]), bytes=int(end) - int(begin))
