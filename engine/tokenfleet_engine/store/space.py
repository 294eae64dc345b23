"""Whether a download fits on the disk, asked before its first byte, and what could make way where it does not."""

import os
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.cache import Cache
from tokenfleet_engine.store.parts import Parts
from tokenfleet_engine.store.progress import readable

MARGIN: Final = 8 << 20
"""For the journal, the manifest and what the file system itself needs."""


def check(cache: Cache, parts: Parts) -> None:
    """Raises EngineFailure with DiskFull."""
    volume = os.statvfs(cache.root)
    free = volume.f_bavail * volume.f_frsize
    needed = sum(file.size for file in parts.wanted.values()) - parts.done()
    if needed == 0 or needed + MARGIN <= free:
        return
    raise EngineFailure(
        contract.REASON_DISK_FULL,
        f"{cache.root} has {readable(free)} free, and {readable(needed + MARGIN)} are needed. {_way_out(cache, parts)}",
    )


def _way_out(cache: Cache, parts: Parts) -> str:
    enlarge = "Give the volume more room (spec.model.cache.size, or a larger claim)"
    others = sorted(((path, size) for path, size in cache.unused() if path != parts.folder), key=lambda other: -other[1])
    if not others:
        return f"{enlarge}; there is no older version in it to delete."
    named = ", ".join(f"{path} ({readable(size)})" for path, size in others[:5])
    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
    return f"{enlarge}, or delete what no deployment uses any more: {named}{more}."
