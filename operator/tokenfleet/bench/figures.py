"""The figures of a run: latencies, throughput and goodput, each defined as `vllm bench serve` defines it. Pure.

Two things differ on purpose. Latencies count from when a request was *intended* to be sent, so that a server that makes the
client wait cannot hide it (in a closed loop both are the same). And what is counted is a window of the run, without warm-up and
cool-down; over a whole run the formulas are vLLM's. Seconds and tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import floor, fsum, sqrt
from typing import Any, Final

from tokenfleet.bench.record import Exchange, Run

PERCENTILES: Final = (50, 90, 95, 99)
_DIGITS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of one quantity."""

    count: int
    mean: float
    std: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """None where there are no values: nothing is not nought."""
        ordered = sorted(values)
        if not ordered:
            return None
        mean = fsum(ordered) / len(ordered)
        variance = fsum((value - mean) ** 2 for value in ordered) / len(ordered)
        p50, p90, p95, p99 = (percentile(ordered, each) for each in PERCENTILES)
        return cls(
            count=len(ordered), mean=mean, std=sqrt(variance), p50=p50, p90=p90, p95=p95, p99=p99, max=ordered[-1]
        )  # fmt: skip


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Between the two nearest of sorted values, in proportion, as numpy.percentile does by default."""
    place = (len(ordered) - 1) * percent / 100
    below = floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a good answer keeps, in seconds; None is no promise."""

    ttft: float | None = None
    itl: float | None = None
    """Of the mean of the answer's gaps."""
    tpot: float | None = None
    e2e: float | None = None

    def met(self, exchange: Exchange) -> bool:
        """An answer of one token has no gap, so it keeps itl and tpot."""
        pairs = (
            (self.ttft, ttft(exchange)),
            (self.itl, _mean_gap(exchange)),
            (self.tpot, tpot(exchange) or 0.0),
            (self.e2e, e2e(exchange)),
        )
        return all(value <= bound for bound, value in pairs if bound is not None)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) is not None for each in fields(self))

    def as_json(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Trim:
    """What is left out at one end of a run: so many requests, or so many seconds."""

    requests: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of the window that is counted."""

    begins: float
    ends: float
    requests: int
    """That were to be sent in the window."""
    ok: int
    errors: int
    cut: int
    aborted: int
    requests_per_second: float
    """Whole answers that ended in the window."""
    output_tokens_per_second: float
    input_tokens_per_second: float
    total_tokens_per_second: float
    goodput: float | None
    """Whole answers a second that kept the promises; None without promises."""
    good: int | None
    """How many of `ok` those are."""
    concurrency: float
    """Requests at the server, in the mean."""
    ttft: Spread | None
    """Time to first token."""
    tpot: Spread | None
    """Time per output token after the first: one value a request."""
    itl: Spread | None
    """Inter-token latency: every gap between two chunks of all answers."""
    e2e: Spread | None
    """End to end: until the last token."""
    lateness: Spread | None
    """Of the client itself: from when a request was intended until it was sent."""
    prompt_tokens: Spread | None
    output_tokens: Spread | None

    @property
    def seconds(self) -> float:
        return self.ends - self.begins

    def as_json(self) -> dict[str, Any]:
        told = {_camel(name): _rounded(value) for name, value in asdict(self).items()}
        return {"seconds": round(self.seconds, _DIGITS), **told}


def ttft(exchange: Exchange) -> float:
    """From the intended moment. Of an exchange that has a first token."""
    assert exchange.first is not None
    return exchange.first - exchange.intended


def e2e(exchange: Exchange) -> float:
    """Until the last chunk with a token: what comes after it, usage and [DONE], is no part of an answer."""
    return (exchange.times[-1] if exchange.times else exchange.ended) - exchange.intended


def tpot(exchange: Exchange) -> float | None:
    """None of an answer of a single token."""
    if exchange.output_tokens < 2:
        return None
    return (e2e(exchange) - ttft(exchange)) / (exchange.output_tokens - 1)


def gaps(exchange: Exchange) -> list[float]:
    return [later - earlier for earlier, later in zip(exchange.times, exchange.times[1:], strict=False)]


def _mean_gap(exchange: Exchange) -> float:
    return (exchange.times[-1] - exchange.times[0]) / (len(exchange.times) - 1) if len(exchange.times) > 1 else 0.0


def window(run: Run, *, warmup: Trim | None = None, cooldown: Trim | None = None) -> tuple[float, float]:
    """(begins, ends) of what is counted: of the whole run, or of what the run's meta says, without warm-up and cool-down.

    A warm-up of requests lasts until the first that is no part of it is to be sent; a cool-down of requests begins when the
    first of it is to be sent.
    """
    told = run.meta.get("window") or {}
    begins, ends = float(told.get("begins", 0.0)), float(told.get("ends", run.seconds))
    intended = sorted(each.intended for each in run.exchanges)
    if warmup is not None:
        begins = max(begins, warmup.seconds)
        if warmup.requests:
            begins = max(begins, intended[warmup.requests] if warmup.requests < len(intended) else ends)
    if cooldown is not None:
        ends = min(ends, run.seconds - cooldown.seconds) if cooldown.seconds else ends
        if cooldown.requests:
            ends = min(ends, intended[-cooldown.requests] if cooldown.requests <= len(intended) else begins)
    return begins, max(begins, ends)


def summarize(run: Run, *, slo: Slo | None = None, warmup: Trim | None = None, cooldown: Trim | None = None) -> Summary:
    begins, ends = window(run, warmup=warmup, cooldown=cooldown)
    seconds = ends - begins
    counted = [each for each in run.exchanges if begins <= each.intended <= ends]
    whole = [each for each in counted if each.outcome == "ok" and each.first is not None]
    arrived = [each for each in run.exchanges if each.outcome == "ok" and each.first is not None]
    ended = [each for each in arrived if begins <= each.ended <= ends]
    good = [each for each in ended if slo.met(each)] if slo else None
    output = fsum(_output_within(each, begins, ends) for each in arrived)
    prompts = sum(each.prompt_tokens for each in arrived if each.first is not None and begins <= each.first <= ends)

    def rate(amount: float) -> float:
        return amount / seconds if seconds > 0 else 0.0

    return Summary(
        begins=begins,
        ends=ends,
        requests=len(counted),
        ok=len(whole),
        errors=sum(each.outcome == "error" for each in counted),
        cut=sum(each.outcome == "cut" for each in counted),
        aborted=sum(each.outcome == "aborted" for each in counted),
        requests_per_second=rate(len(ended)),
        output_tokens_per_second=rate(output),
        input_tokens_per_second=rate(prompts),
        total_tokens_per_second=rate(output + prompts),
        goodput=None if good is None else rate(len(good)),
        good=None if good is None else len(good),
        concurrency=rate(fsum(max(0.0, min(each.ended, ends) - max(each.sent, begins)) for each in run.exchanges)),
        ttft=Spread.of(map(ttft, whole)),
        tpot=Spread.of(value for each in whole if (value := tpot(each)) is not None),
        itl=Spread.of(gap for each in whole for gap in gaps(each)),
        e2e=Spread.of(map(e2e, whole)),
        lateness=Spread.of(each.sent - each.intended for each in counted),
        prompt_tokens=Spread.of(float(each.prompt_tokens) for each in whole),
        output_tokens=Spread.of(float(each.output_tokens) for each in whole),
    )


def _output_within(exchange: Exchange, begins: float, ends: float) -> float:
    """Tokens are taken to be spread evenly over the chunks."""
    if not exchange.times:
        return float(exchange.output_tokens)
    if begins <= exchange.times[0] and exchange.times[-1] <= ends:
        return float(exchange.output_tokens)
    within = sum(begins <= time <= ends for time in exchange.times)
    return exchange.output_tokens * within / len(exchange.times)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value
