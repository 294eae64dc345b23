"""What is asked of a replica and how fast it answers: the question and the answer of `estimate_speed`. Seconds and tokens."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

Bound = Literal["compute", "bandwidth", "overhead", "interconnect"]
"""What a step waits for longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one replica gets; either `concurrency` or `rate` is given. Raises ValueError where it cannot be meant."""

    input_tokens: int
    output_tokens: int
    concurrency: float | None = None
    """Requests that it works on at any time."""
    rate: float | None = None
    """Requests that come to it in a second."""
    cached_share: float = 0.0
    """Of the input, that its prefix cache has already."""
    variation: float = 0.0
    """Coefficient of variation of the lengths: 0 where all requests are alike, 1 where they vary as an exponential does."""
    acceptance: float = 0.6
    """Chance that a token of the draft is accepted, where there is a draft."""
    percentile: float = 0.95
    """At which ttft_tail and itl_tail are told."""

    def __post_init__(self) -> None:
        check_lengths(self.input_tokens, self.output_tokens, cached_share=self.cached_share, percentile=self.percentile)
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("a workload has either a concurrency or a rate")
        if self.rate is not None and not (isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate must be above 0 (given: {self.rate:g})")
        if self.concurrency is not None and not (isfinite(self.concurrency) and self.concurrency >= 1):
            raise ValueError(f"concurrency must be 1 or more (given: {self.concurrency:g})")
        if not (isfinite(self.variation) and self.variation >= 0):
            raise ValueError(f"variation must be 0 or more (given: {self.variation:g})")
        if not 0 <= self.acceptance <= 1:
            raise ValueError(f"acceptance must be between 0 and 1 (given: {self.acceptance:g})")


def check_lengths(input_tokens: int, output_tokens: int, *, cached_share: float = 0.0, percentile: float = 0.95) -> None:
    """Raises ValueError with the one that cannot be meant."""
    for name, tokens in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        if tokens < 1:
            raise ValueError(f"{name} must be 1 or more (given: {tokens})")
    if not 0 <= cached_share <= 1:
        raise ValueError(f"cached_share must be between 0 and 1 (given: {cached_share:g})")
    if not 0 < percentile < 1:
        raise ValueError(f"percentile must be above 0 and below 1, such as 0.95 (given: {percentile:g})")


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
    experts: float = 1.0
    """Of what other matrices attain, that routed experts attain: many small ones keep a device less busy than a large one."""
    error: float
    """Mean relative error against what it was not fitted to."""
    source: str
    """What it was fitted to."""
    ttft_error: float | None = None
    """That of the TTFT alone; None: not told, so that `error` stands for it."""
    itl_error: float | None = None
    throughput_error: float | None = None
    flops: float | None = None
    """Operations a second of which `compute` is the share; None: the accelerator's, which a class may not tell."""
    memory_bandwidth: float | None = None
    """Bytes a second of which `bandwidth` is the share; None: the accelerator's."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Calibration":
        """Raises ValueError where it is none; fields that it does not know are passed over."""
        try:
            found = cls(**{name: value for name, value in body.items() if name in cls.__slots__})
        except (TypeError, AttributeError):
            missing = [name for name in _NEEDED if not isinstance(body, dict) or name not in body]
            raise ValueError(f"a calibration needs {', '.join(missing)}") from None
        for name in (*_SHARES, *_SPANS):
            value = getattr(found, name)
            if value is None and name in _OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a number, 0 or more (given: {value!r})")
            if name in _SHARES and value == 0:
                raise ValueError(f"{name} must be above 0")
        return found


_SHARES = ("compute", "bandwidth", "experts", "flops", "memory_bandwidth")
_ERRORS = ("ttft_error", "itl_error", "throughput_error")
_SPANS = ("step_seconds", "sequence_seconds", "request_seconds", "error", *_ERRORS)
_OPTIONAL = ("flops", "memory_bandwidth", *_ERRORS)
_NEEDED = ("compute", "bandwidth", "step_seconds", "sequence_seconds", "error", "source")


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
    """Relative: by so much ttft, itl and tokens a second are off in the mean, as far as the calibration's own measurements
    tell."""
    ttft_error: float
    """The same, of each."""
    itl_error: float
    throughput_error: float
    ttft_tail: float
    """At the workload's percentile of requests."""
    itl_tail: float
    """At the workload's percentile of gaps between tokens."""
    places: float
    """Sequences that a step may hold: by max_num_seqs, and by the KV cache at these lengths."""
    capacity: float
    """Requests a second that it can keep up with at these lengths."""
