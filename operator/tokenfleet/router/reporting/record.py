"""What is told of a request when it has ended: to metrics, the access log and traces. No prompt, no credential."""

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """One request that ended. Durations are in seconds."""

    request_id: bytes
    path: bytes
    model: str
    key: str
    code: int
    """The status that the client got; 499: it left first, or was let go."""
    reason: str
    stream: bool
    replica: str
    """The last that had it; empty: none."""
    deployment: str
    """That replica's LLMDeployment."""
    track: str
    """And its track there."""
    tries: int
    """Replicas that it was given to."""
    queued: float
    prefilled: float
    """Spent on prefill elsewhere."""
    first_byte: float | None
    """From the whole request to its answer's first byte."""
    seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None
    traceparent: bytes | None
