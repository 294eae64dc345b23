"""What the durable queue keeps of a request: as it comes in, as a router runs it, as its owner sees it. Holds
things alone; what may go wrong with the queue itself stands here too, so that whoever answers for it needs no Redis."""

from enum import Enum

import msgspec

from tokenfleet.errors import TokenfleetError
from tokenfleet.router.terms import Rate


class QueueAway(TokenfleetError):
    """Redis did not do it, or did not say so in time."""


class QueueFull(TokenfleetError):
    """As many requests are pending as may be."""


class KeyReused(TokenfleetError):
    """The idempotency key stands for another request."""


class State(Enum):
    """Of a request; the last four are for good."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The engine refused it."""
    CANCELLED = "cancelled"
    DEAD = "dead"
    """Given up: it used up its tries, or its time."""


class Reserved(msgspec.Struct, frozen=True):
    """What was taken off the owner's limits when the request came in; settled by whichever router ends it."""

    rate: Rate
    tokens: int


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was let in."""

    id: str
    owner: str
    """The name of its API key."""
    model: str
    path: bytes
    headers: bytes
    """Header lines for the engine."""
    body: bytes
    reserved: bytes
    """What the owner's limits were asked for, in JSON (`Reserved`)."""
    once: str
    """A digest of owner and idempotency key; empty without one."""
    digest: str
    """Of the request, to tell whether a second one under the same idempotency key is the same."""


class Receipt(msgspec.Struct, frozen=True):
    """That Redis has it."""

    id: str
    state: State
    created: float
    """Seconds since 1970, as all times here."""
    expires: float


class Claim(msgspec.Struct, frozen=True):
    """A router's right to run a request, until it ends it, gives it back, or is silent for too long."""

    id: str
    number: int
    tries: int
    """This one included."""
    owner: str
    path: bytes
    headers: bytes
    body: bytes
    reserved: bytes


class Outcome(msgspec.Struct, frozen=True):
    """How a request ended that an engine has answered."""

    state: State
    status: int
    request_id: str
    body: bytes
    code: str = ""
    """Of the error, where it failed."""
    message: str = ""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its owner sees it."""

    id: str
    state: State
    owner: str
    model: str
    path: str
    created: float
    started: float | None
    ended: float | None
    expires: float
    tries: int
    status: int | None
    request_id: str
    body: bytes | None
    """The engine's answer, as it came."""
    code: str
    message: str
