"""How much and how long the router waits for anything outside of itself, each figure once.

Seconds are checked by the wheel of deadlines.py, so each may end up to two of its turns late. What an operator may want
to change comes from RouterSettings; the rest are defaults that tests shrink.
"""

from dataclasses import dataclass

from tokenfleet.settings import RouterSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one router."""

    head_bytes: int = 32 * 1024
    body_bytes: int = 8 * 1024 * 1024
    pipelined_bytes: int = 64 * 1024
    """What a client may send behind a request that still runs; beyond it we stop reading."""
    held_bytes: int = 256 * 1024 * 1024
    """Of all requests' bodies together, since each is held until its request ends."""
    write_buffer_bytes: int = 64 * 1024
    """Of unsent answer per client, above which its replica is no longer read."""
    peer_connections: int = 4096
    """Of one address."""
    linger_bytes: int = 4 * 1024 * 1024
    """What is read and thrown away after a refusal, so that its answer is not lost in a reset."""

    handshake_seconds: float = 10.0
    """From a connection's start to the end of its TLS handshake."""
    head_seconds: float = 10.0
    """From a request's first byte (or a connection's start) to the end of its head."""
    body_seconds: float = 60.0
    idle_seconds: float = 75.0
    """Between two requests of a client."""
    stall_seconds: float = 60.0
    """A client that takes none of its answer."""
    linger_seconds: float = 2.0
    connect_seconds: float = 1.0
    """Of a replica: within a cluster it takes a millisecond, and a machine that is gone does not say so."""
    prefill_seconds: float = 60.0
    """A prefill replica that has not answered; its prompt is then read by the decode replica."""
    transfer_seconds: float = 10.0
    """Between a prefill's answer and the request that goes on with it: the prefill replica frees the prompt's blocks after 30,
    and may give them to another prompt."""
    first_byte_seconds: float = 600.0
    """A replica that has the request and sends nothing of an answer's body: what is not streamed is all computed by then."""
    silence_seconds: float = 600.0
    """A replica that sends nothing between two parts of an answer."""
    untaken_seconds: float = 30.0
    """A replica whose machine acknowledges nothing."""
    upstream_idle_seconds: float = 4.0
    """Below uvicorn's five, so that we close a spare connection before the replica does."""

    losses: int = 3
    """How many times one request may have been sent and its replica lost before an answer, stale connections included.
    Beyond it the request itself may be what kills replicas, so it is not given to the next one."""

    @classmethod
    def of(cls, settings: RouterSettings) -> "Limits":
        return cls(
            first_byte_seconds=settings.silence_seconds,
            silence_seconds=settings.silence_seconds,
        )
