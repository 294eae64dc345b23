"""What a store of models must be able to do, and the two ways in which it fails.

`EngineFailure` ends the fetch: another try would fail the same way. `Transient` is worth one. A store neither waits nor
repeats by itself: `patience` alone decides how long, so that all stores behave alike.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.listing import Checksum, Listing, RemoteFile


class Transient(Exception):
    """The store did not answer, or broke off, or asks to be left alone for a while."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Store(Protocol):
    """One model in a store. Messages name its host, never a credential or a signed URL."""

    @property
    def host(self) -> str: ...

    async def listing(self) -> Listing:
        """All the files of the revision that was asked for, and what that revision is exactly."""

    async def checksum(self, file: RemoteFile) -> Checksum | None:
        """The best that the store knows of the file; None where it knows none."""

    def read(self, file: RemoteFile, start: int, end: int) -> AsyncGenerator[bytes]:
        """The bytes from `start` to `end`, in order, in pieces as they arrive. May end early; never goes beyond."""

    async def close(self) -> None: ...


def denied(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_MODEL_ACCESS_DENIED, message)


def missing(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_MODEL_NOT_FOUND, message)


def unreachable(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_MODEL_STORE_UNREACHABLE, message)


def changed(place: str) -> EngineFailure:
    """The file that the listing had is not there any more."""
    message = f"{place} was deleted or overwritten while it was fetched. Start again once it stays."
    return EngineFailure(contract.REASON_MODEL_INVALID, message)
