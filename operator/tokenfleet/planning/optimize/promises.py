"""What one replica can take while it keeps what is promised, and how far it is from that where it cannot. Pure.

The margin stands between a prediction and what is promised: an engine that is slower than predicted by the calibration's error
still keeps it. So latencies are asked to be better by it, and a capacity counts for less by it.
"""

from typing import Final

from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize.ask import Ask
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed import max_rate
from tokenfleet.planning.speed.speed import Calibration, Speed

_SHARES: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
"""Parts of an end-to-end time that may pass until the first token: each leaves the rest to the others."""


def capacity(model: ModelFacts, serving: Serving, memory: Memory, ask: Ask, calibration: Calibration) -> float:
    """Requests a second of one replica; 0 where even a few are answered too slowly."""
    margin = margin_of(ask, calibration)

    def rate(ttft: float | None, itl: float | None) -> float:
        return max_rate(
            model,
            serving,
            input_tokens=ask.input_tokens,
            output_tokens=ask.output_tokens,
            ttft=None if ttft is None else ttft / margin,
            itl=None if itl is None else itl / margin,
            percentile=ask.percentile,
            calibration=calibration,
            memory=memory,
        )

    if ask.e2e is None:
        return rate(ask.ttft, ask.itl) / margin
    return max(rate(*_split(ask, ask.e2e, share)) for share in _SHARES) / margin


def _split(ask: Ask, e2e: float, share: float) -> tuple[float | None, float | None]:
    """The end-to-end time as one to the first token and one between tokens, neither above its own promise."""
    rest = (1 - share) * e2e / (ask.output_tokens - 1) if ask.output_tokens > 1 else None
    first = share * e2e if rest is not None else e2e
    return _least(first, ask.ttft), _least(rest, ask.itl)


def _least(one: float | None, other: float | None) -> float | None:
    given = [each for each in (one, other) if each is not None]
    return min(given, default=None)


def margin_of(ask: Ask, calibration: Calibration) -> float:
    return 1 + ask.safety * calibration.error


def misses(speed: Speed, ask: Ask, margin: float) -> dict[str, tuple[float, float]]:
    """What is promised and not kept, by its name: (what it is at the percentile, with the margin; what was promised)."""
    whole = speed.ttft_tail + (ask.output_tokens - 1) * speed.itl_tail
    rows = {"TTFT": (speed.ttft_tail, ask.ttft), "ITL": (speed.itl_tail, ask.itl), "end-to-end time": (whole, ask.e2e)}
    return {
        name: (value * margin, promised)
        for name, (value, promised) in rows.items()
        if promised is not None and value * margin > promised
    }
