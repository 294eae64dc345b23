"""A request that was let in: everything that was decided about it before it meets a replica. Holds things, does nothing."""

import msgspec

from tokenfleet.router.callers.keys import Key
from tokenfleet.router.fields import Fields
from tokenfleet.router.models import Model
from tokenfleet.router.wire.request import Request


class Job(msgspec.Struct):
    """One request. Whoever wants another body or another model for it changes this object."""

    request: Request
    request_id: bytes
    body: bytes
    """As the client sent it; empty once it cannot be needed any more."""
    fields: Fields
    model: Model
    key: Key
    flow: str
    """Whose turn it takes in the queue: those of one flow wait for each other."""
    tokens: int
    """What it may cost at most, estimated: prompt and answer."""
    affinity: int | None
    """What policies keep together: a 64-bit hash."""
    received: float
    """When it was here whole, on the loop's clock."""

    @property
    def stream(self) -> bool:
        return self.fields.stream is True
