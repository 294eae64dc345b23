"""A model store in memory, whose connections break and whose bytes go wrong as a test asks, and models to put into it."""

import asyncio
import hashlib
import json
import random
import struct
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tokenfleet_engine.store.cache import Cache
from tokenfleet_engine.store.fetching import Fetch, Settings
from tokenfleet_engine.store.listing import Checksum, Listing, RemoteFile
from tokenfleet_engine.store.remote import Transient
from tokenfleet_engine.store.sources import parse_source

COMMIT = "c0ffee" + "0" * 34
SOURCE = "hf://org/small"


def model(*, weights: int = 200_000, shards: int = 2) -> dict[str, bytes]:
    """A model's files with random weights; the same ones each time."""
    chance = random.Random(weights)
    files = {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "tokenizer.json": b"{}", "README.md": b"# small"}
    for shard in range(shards):
        files[f"model-{shard}.safetensors"] = safetensors(chance.randbytes(weights))
    return files


def safetensors(content: bytes) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    return struct.pack("<Q", len(header)) + header + content


@dataclass
class MemoryStore:
    """`served` counts the bytes that left it; `meddle` sees each answer's piece first, and may change it or raise."""

    files: dict[str, bytes]
    revision: str = COMMIT
    host: str = "store.example"
    checksums: bool = True
    piece: int = 10_000
    meddle: Callable[[str, int, bytes], bytes] = lambda path, offset, data: data
    away: bool = False
    served: int = 0
    asked: int = 0
    closed: int = 0
    reads: list[tuple[str, int, int]] = field(default_factory=list)

    async def listing(self) -> Listing:
        self.asked += 1
        if self.away:
            raise Transient(f"the name {self.host} is not known to DNS")
        return Listing(self.revision, tuple(self._file(path) for path in sorted(self.files)))

    def _file(self, path: str) -> RemoteFile:
        digest = hashlib.sha256(self.files[path]).hexdigest()
        checksum = Checksum("sha256", digest) if self.checksums else None
        return RemoteFile(path, len(self.files[path]), digest, checksum)

    async def checksum(self, file: RemoteFile) -> Checksum | None:
        return file.checksum

    async def read(self, file: RemoteFile, start: int, end: int) -> AsyncGenerator[bytes]:
        self.reads.append((file.path, start, end))
        for offset in range(start, end, self.piece):
            data = self.files[file.path][offset : min(offset + self.piece, end)]
            await asyncio.sleep(0)
            data = self.meddle(file.path, offset, data)
            self.served += len(data)
            yield data

    async def close(self) -> None:
        self.closed += 1


def fetch(store: MemoryStore, root: Path, source: str = SOURCE, *, everything: bool = False, patience: float = 300) -> None:
    """As the command does it."""
    settings = Settings(everything=everything, streams=4, piece_bytes=50_000, patience_seconds=patience)
    run = Fetch(source=parse_source(source), cache=Cache(root), open_store=lambda _: store, settings=settings)
    asyncio.run(run.run())


def destination(root: Path, source: str = SOURCE) -> Path:
    return Cache(root).destination(parse_source(source))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def needed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if path != "README.md"}
