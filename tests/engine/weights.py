"""Weight files made by hand."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path


def write_safetensors(file: Path, tensors: Mapping[str, int]) -> None:
    """Tensors of so many bytes each, all zero."""
    write_shapes(file, {name: (size,) for name, size in tensors.items()})


def write_shapes(file: Path, tensors: Mapping[str, tuple[int, ...]]) -> None:
    """Tensors of these shapes, one byte for each number, all zero."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        end = offset + math.prod(shape)
        header[name] = {"dtype": "U8", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(offset))
