"""Reads ranges of a store's files, each again until all of it came, as `patience` allows."""

import json
from contextlib import aclosing
from typing import Any, Final

from tokenfleet_engine.launch.files import invalid
from tokenfleet_engine.store.listing import RemoteFile
from tokenfleet_engine.store.patience import Patience
from tokenfleet_engine.store.remote import Store, Transient

JSON_LIMIT: Final = 64 << 20
"""Bytes of config.json, or of the index of the weights, at most: what is larger is neither."""


class Reader:
    """Of one model."""

    def __init__(self, store: Store, patience: Patience, *, source: str) -> None:
        self._store, self._patience = store, patience
        self.source = source

    def name(self, file: RemoteFile) -> str:
        """In messages."""
        return f"{self.source}/{file.path}"

    async def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """Exactly these bytes."""

        async def attempt() -> bytes:
            async with aclosing(self._store.read(file, start, end)) as answer:
                pieces = [piece async for piece in answer]
            if len(data := b"".join(pieces)) != end - start:
                raise Transient(f"{self._store.host} sent {len(data)} of {end - start} bytes of {file.path}")
            return data

        data = await self._patience.insist(attempt)
        self._patience.progressed()
        return data

    async def json(self, file: RemoteFile) -> dict[str, Any]:
        if file.size > JSON_LIMIT:
            raise invalid(f"{self.name(file)} has {file.size} bytes, too many for what it should be. Copy it anew.")
        try:
            content = json.loads(await self.read(file, 0, file.size) if file.size else b"")
        except ValueError as error:
            raise invalid(f"{self.name(file)} is not valid JSON ({error}). Copy it anew.") from error
        if not isinstance(content, dict):
            raise invalid(f"{self.name(file)} is not a JSON object. Copy it anew.")
        return content
