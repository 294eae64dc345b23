"""Reads the header of a safetensors file: the names and shapes of its tensors, and whether all of their bytes are there.

Never reads a weight, so a file of any size takes a fraction of a millisecond. Knows the format, and nothing of models.
"""

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

from tokenfleet_engine.launch import files

HEADER_LIMIT: Final = 100_000_000
"""Bytes; the format allows no longer header."""

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""By a tensor's name."""


def read_shapes(file: Path) -> Shapes:
    """Raises EngineFailure where the file is shorter or longer than its header says."""
    size = files.size(file)
    header, length = _header(file, size)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    try:
        end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in tensors.items()}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise files.invalid(f"{file} is damaged: its header does not say where the tensors stand. Copy it anew.") from error
    expected = 8 + length + end
    if size != expected:
        state = "incomplete" if size < expected else "damaged"
        raise files.invalid(f"{file} is {state}: {size} bytes, and its header says {expected}. Copy it anew.")
    return shapes


def _header(file: Path, size: int) -> tuple[dict[str, Any], int]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(HEADER_LIMIT, max(size - 8, 0)):
                raise files.invalid(f"{file} is damaged: {size} bytes, its header alone would be {length}. Copy it anew.")
            header = json.loads(stream.read(length))
    except PermissionError:
        raise files.unreadable(file) from None
    except OSError as error:
        raise files.invalid(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise files.invalid(f"{file} is damaged: its header is not valid JSON. Copy it anew.") from error
    return header if isinstance(header, dict) else {}, length
