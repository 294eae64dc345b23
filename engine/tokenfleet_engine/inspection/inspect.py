"""Looks at a model: which files vLLM would load, what config.json says, and the tensors that the headers of the weights name.

Of a weight not a byte is read: of each file its first eight bytes, and the header that they measure; many files at a time.
What is missing, cut off or no model is one EngineFailure, like a store that does not answer within the deadline.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tokenfleet_engine.inspection.directory import Directory
from tokenfleet_engine.inspection.document import Document, make_document
from tokenfleet_engine.inspection.reading import Reader
from tokenfleet_engine.launch.files import invalid
from tokenfleet_engine.launch.model_files import INDEX_FILE
from tokenfleet_engine.launch.tensors import LENGTH_BYTES, Tensor, header_length, parse_header
from tokenfleet_engine.store import remote
from tokenfleet_engine.store.listing import RemoteFile, check_paths
from tokenfleet_engine.store.opening import open_store
from tokenfleet_engine.store.patience import Patience
from tokenfleet_engine.store.remote import Store
from tokenfleet_engine.store.selection import WEIGHTS, choose
from tokenfleet_engine.store.sources import parse_source

DEADLINE_SECONDS: Final = 120.0
"""For all of it."""
PATIENCE_SECONDS: Final = 30.0
"""Without any progress."""
QUESTIONS: Final = 16
"""At the same time."""
CONFIG: Final = "config.json"
QUANTIZATION: Final = "hf_quant_config.json"
"""Where NVIDIA's modelopt says how a model is quantized, beside config.json."""


def inspect_source(text: str, *, revision: str | None = None, seconds: float = DEADLINE_SECONDS) -> Document:
    """Of hf://, s3:// or gs://, or of a directory. Raises EngineFailure."""
    if "://" not in text:
        return inspect_directory(Path(text).expanduser())
    source = parse_source(f"{text}@{revision}" if revision else text)

    async def look() -> Document:
        store = open_store(source)
        try:
            return await inspect(store, source=source.url, seconds=seconds)
        finally:
            await store.close()

    return asyncio.run(look())


def inspect_directory(path: Path) -> Document:
    """Raises EngineFailure."""
    return asyncio.run(inspect(Directory(path), source=str(path)))


async def inspect(
    store: Store, *, source: str, seconds: float = DEADLINE_SECONDS, patience: Patience | None = None
) -> Document:
    """Raises EngineFailure, also where it takes longer than so many seconds."""
    patience = patience or Patience(host=store.host, seconds=min(PATIENCE_SECONDS, seconds))
    try:
        async with asyncio.timeout(seconds):
            return await _inspect(store, patience, source=source)
    except TimeoutError as error:
        raise remote.unreachable(
            f"The model store at {store.host} did not give the headers of {source} within {seconds:.0f} s. Try again, or check "
            "the way there: DNS, NetworkPolicy, proxy, endpoint."
        ) from error


async def _inspect(store: Store, patience: Patience, *, source: str) -> Document:
    listing = await patience.insist(store.listing)
    patience.progressed()
    check_paths(listing.files, source=source)
    _refuse_other_formats(listing.files, source=source)
    chosen = {file.path: file for file in choose(listing.files, source=source)}
    if CONFIG not in chosen:
        raise invalid(f"{source} is a LoRA adapter: it has adapter_config.json and no {CONFIG}. Name the model itself.")
    reader = Reader(store, patience, source=source)
    config = await _config(reader, chosen, {file.path: file for file in listing.files})
    weights = await _weights(reader, chosen)
    limit = asyncio.Semaphore(QUESTIONS)

    async def header(file: RemoteFile) -> dict[str, Tensor]:
        async with limit:
            return await _header(reader, file)

    headers = await asyncio.gather(*map(header, weights))
    return make_document(source=source, revision=listing.revision or None, config=config, headers=headers)


def _refuse_other_formats(files: Sequence[RemoteFile], *, source: str) -> None:
    names = sorted(file.path for file in files)
    other = [name for name in names if name.endswith((".gguf", ".bin", ".pt", ".pth"))]
    if other and CONFIG in names and not any(name.endswith(WEIGHTS) for name in names):
        more = " …" if len(other) > 3 else ""
        raise invalid(
            f"{source} has no safetensors, only {', '.join(other[:3])}{more}, whose tensors cannot be told without reading all "
            "of it. Convert it to safetensors, or name a repository that has them."
        )


async def _config(reader: Reader, chosen: dict[str, RemoteFile], listed: dict[str, RemoteFile]) -> dict[str, Any]:
    config = await reader.json(chosen[CONFIG])
    if (beside := listed.get(QUANTIZATION)) is not None and not config.get("quantization_config"):
        config["quantization_config"] = {"quant_method": "modelopt", **await reader.json(beside)}
    return config


async def _weights(reader: Reader, chosen: dict[str, RemoteFile]) -> list[RemoteFile]:
    """What vLLM loads: the files that the index names, or else all safetensors (filter_duplicate_safetensors_files)."""
    found = [file for path, file in chosen.items() if path.endswith(WEIGHTS)]
    if INDEX_FILE not in chosen:
        return [file for file in found if "/" not in file.path] or found
    weight_map = (await reader.json(chosen[INDEX_FILE])).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise invalid(f"{reader.source}/{INDEX_FILE} has no weight_map. Copy it anew.")
    wanted = sorted({str(name) for name in weight_map.values()})
    if missing := [name for name in wanted if name not in chosen]:
        raise invalid(
            f"{len(missing)} of {len(wanted)} weight files are missing in {reader.source}: {', '.join(missing[:4])}"
            f"{' …' if len(missing) > 4 else ''}. The copy is incomplete; copy them too."
        )
    return [chosen[name] for name in wanted]


async def _header(reader: Reader, file: RemoteFile) -> dict[str, Tensor]:
    what = reader.name(file)
    if file.size < LENGTH_BYTES:
        header_length(b"", what=what, size=file.size)
    length = header_length(await reader.read(file, 0, LENGTH_BYTES), what=what, size=file.size)
    header = await reader.read(file, LENGTH_BYTES, LENGTH_BYTES + length) if length else b""
    return parse_header(header, what=what, size=file.size)
