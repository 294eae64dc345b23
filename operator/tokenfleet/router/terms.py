"""What the spec says of one model's traffic: spec.router as this router reads it, live, with the CRD's own defaults.

Decoded straight from the object's JSON (or from TOKENFLEET_ROUTER_STATIC_SPEC), so a changed value takes effect with the next
request. The API server has checked the values before; what it has not seen (a static spec) is checked by the types here.
"""

from typing import Annotated, Final, Literal

import msgspec

_Fraction = Annotated[str, msgspec.Meta(pattern=r"^(0([.][0-9]{1,4})?|1([.]0{1,4})?)$")]
_Count = Annotated[int, msgspec.Meta(ge=1)]
DEFAULT_MAX_IN_FLIGHT: Final = 256


class Rate(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Limits of one key."""

    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None


class Bounds(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What one request may ask for."""

    max_body_bytes: _Count = 8 * 1024 * 1024
    max_choices: _Count = 8
    """n and best_of."""
    max_tokens: _Count | None = None
    max_logprobs: Annotated[int, msgspec.Meta(ge=0)] = 20
    media_urls: Literal["Refuse", "Allow"] = "Refuse"
    prompt_embeds: Literal["Refuse", "Allow"] = "Refuse"


class QueueTerms(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Where requests wait when every replica is at its limit."""

    max_depth: Annotated[int, msgspec.Meta(ge=0)] = 512
    timeout_seconds: _Count = 60


class Shedding(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """From which load on requests are refused, by chance, and from which load on all are."""

    start_at: _Fraction = "0.7"
    stop_at: _Fraction = "1.0"
    ttft_milliseconds: _Count | None = None


class AsyncTerms(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Of the durable queue."""

    enabled: bool = False
    visibility_seconds: _Count = 30
    max_tries: _Count = 3
    result_seconds: _Count = 86_400
    max_pending: _Count = 10_000


class Terms(msgspec.Struct, frozen=True, rename="camel"):
    """Of one router; fields that only the controller reads (replicas, Secrets) are skipped."""

    policy: Literal["LeastConnections", "PrefixAffinity", "SessionAffinity"] = "LeastConnections"
    session_header: str = "x-session-id"
    max_in_flight: _Count | None = None
    """Per replica; None: as many as the engine runs at once, where its spec says so."""
    max_connections_per_peer: _Count = 4096
    queue: QueueTerms = QueueTerms()
    shedding: Shedding = Shedding()
    limits: Rate = Rate()
    bounds: Bounds = Bounds()
    extra_paths: tuple[str, ...] = ()
    asynchronous: AsyncTerms = msgspec.field(name="async", default=AsyncTerms())
    access_log: Literal["Errors", "All", "Off"] = "Errors"


DEFAULT: Final = Terms()
