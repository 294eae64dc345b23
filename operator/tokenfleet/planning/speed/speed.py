"""What is asked of a replica and how fast it answers: the question and the answer of `estimate_speed`. Seconds and tokens."""

from dataclasses import dataclass
from typing import Literal

Bound = Literal["compute", "bandwidth", "overhead", "interconnect"]
"""What a step waits for longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one replica gets; either `concurrency` or `rate` is given."""

    input_tokens: int
    output_tokens: int
    concurrency: float | None = None
    """Requests that it works on at any time."""
    rate: float | None = None
    """Requests that come to it in a second."""
    cached_share: float = 0.0
    """Of the input, that its prefix cache has already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well an engine uses its hardware: fitted to measurements, or as published ones have it."""

    compute: float
    """Share of the accelerator's FLOPs that a prefill attains."""
    bandwidth: float
    """Share of its memory bandwidth that a decode step attains."""
    step_seconds: float
    """Of each step, whatever is in it."""
    sequence_seconds: float
    """Of each step, for each sequence in it."""
    request_seconds: float = 0.0
    """Of each request, once: HTTP, tokenization, scheduling."""
    error: float
    """Mean relative error against what it was not fitted to."""
    source: str
    """What it was fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Of one replica under a workload."""

    stable: bool
    """Whether it keeps up; where not, the queue grows, and the figures are those of a full batch."""
    batch: float
    """Sequences in a decode step."""
    ttft: float
    """Mean, in seconds, with the wait for a place in the batch."""
    itl: float
    """Mean time between two tokens, in seconds."""
    e2e: float
    requests_per_second: float
    output_tokens_per_second: float
    input_tokens_per_second: float
    prefill_bound: Bound
    decode_bound: Bound
    error: float
    """Relative: ttft, itl and tokens a second are each within this of what is measured, as far as the calibration's own
    measurements tell."""
