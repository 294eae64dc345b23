"""One try: so many requests at once for a while, and what came of it. Data alone; as JSON it is a line of the state file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tokenfleet.planning.tuning.judging import Verdict
from tokenfleet.planning.tuning.objective import METRICS, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one promise."""

    metric: Metric
    verdict: Verdict
    value: float | None
    """The percentile, in seconds; None: most requests failed."""
    lower: float | None = None
    """With confidence the percentile is above this; None: nothing is known."""
    upper: float | None = None
    samples: int = 0
    effective: float = 0.0
    """Samples counted as independent ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The search needs its concurrency, verdict, tokens_per_second and running; the rest is for people."""

    concurrency: int
    verdict: Verdict
    tokens_per_second: float
    """Written by the engine."""
    measured: tuple[Measured, ...] = ()
    requests: int = 0
    failed: int = 0
    seconds: float = 0.0
    running: int | None = None
    """The most that the engine ever ran at once, where some waited all the time; None: it ran all, or does not say."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Probe":
        """Raises ValueError, KeyError or TypeError where it is none."""
        known = {name: body[name] for name in cls.__slots__ if name in body}
        probe = cls(**known | {"measured": tuple(Measured(**each) for each in body["measured"])})
        if probe.verdict not in ("met", "missed", "unclear") or any(each.metric not in METRICS for each in probe.measured):
            raise ValueError(f"no verdict or metric of ours: {body}")
        if not isinstance(probe.concurrency, int) or probe.concurrency < 1:
            raise ValueError(f"concurrency must be a whole number, 1 or more (given: {probe.concurrency!r})")
        return probe
