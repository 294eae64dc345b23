"""The document that an inspection gives: config.json, and every tensor once for all layers in which it is the same.

A model of 60 layers and 256 experts has tens of thousands of tensors and some fifty lines here: in a tensor's name `*` stands
for each number between two dots. Plain JSON, so that it fits into a pod's log and a test's file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from tokenfleet_engine.launch.tensors import Tensor

Document: TypeAlias = dict[str, Any]
_NUMBER: Final = re.compile(r"(?<![^.])\d+(?![^.])")


def make_document(
    *, source: str, revision: str | None, config: Mapping[str, Any], headers: Iterable[Mapping[str, Tensor]]
) -> Document:
    """headers: the tensors of each file, by name."""
    counts: Counter[tuple[str, str, tuple[int, ...]]] = Counter()
    size = files = 0
    for header in headers:
        files += 1
        for name, tensor in header.items():
            counts[_NUMBER.sub("*", name), tensor.dtype, tensor.shape] += 1
            size += tensor.bytes
    return {
        "source": source,
        "revision": revision,
        "config": dict(config),
        "tensors": [
            {"name": name, "dtype": dtype, "shape": list(shape), "count": count}
            for (name, dtype, shape), count in sorted(counts.items())
        ],
        "bytes": size,
        "files": files,
    }
