"""What the benchmark of routers makes of its samples: medians and spreads, what was wanted beside what was reached, JSON. Pure.

A figure is the median of all rounds. One that a peer did not deliver, or delivered with errors, is missing (None) and has a
note; nothing is estimated. One that was taken at less load than the others' has a note too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from e2e.bench.router_peers import OURS, RUST
from e2e.bench.traffic import Count

MAX_ERROR_SHARE: Final = 0.001
"""A measurement with more failed requests than this counts as failed itself."""
SATURATED: Final = 0.95
"""From this share of its core on, a router is what limits the requests per second; below it is the clients."""


class Figure:
    """One number of one peer, from several rounds."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.values = list(values)

    def add(self, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            self.values.append(value)

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def spread(self) -> tuple[float, float] | None:
        return (min(self.values), max(self.values)) if self.values else None


@dataclass(slots=True)
class Results:
    """All figures of one peer."""

    version: str = ""
    unary_us: Figure = field(default_factory=Figure)
    chunk_us: Figure = field(default_factory=Figure)
    rps: Figure = field(default_factory=Figure)
    core_share: Figure = field(default_factory=Figure)
    """Of its core, while it got as many requests as its clients could send."""
    added_p50_ms: Figure = field(default_factory=Figure)
    added_p99_ms: Figure = field(default_factory=Figure)
    rss_mb: float | None = None
    rss_streams: int = 0
    """Streams that were open then."""
    errors: int = 0
    first_error: str = ""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def took(self, count: Count, what: str) -> bool:
        """Account for a measurement's errors; whether it may be used."""
        self.errors += count.errors
        self.first_error = self.first_error or count.first_error
        whole = count.errors <= MAX_ERROR_SHARE * count.requests
        if not whole:
            self.note(f"{what}: {count.errors} errors beside {count.requests} good answers, so it has no figure")
        return whole

    def add_unary(self, count: Count) -> None:
        if self.took(count, "requests") and count.requests:
            self.unary_us.add(count.cpu_s / count.requests * 1e6)
            self.rps.add(count.requests / count.seconds)
            self.core_share.add(count.cpu_s / count.seconds)

    def add_chunks(self, count: Count) -> None:
        if self.took(count, "streams") and count.events:
            self.chunk_us.add(count.cpu_s / count.events * 1e6)

    def add_latency(self, count: Count, direct: Count) -> None:
        if self.took(count, "latency") and count.requests:
            self.added_p50_ms.add(count.p50_ms - direct.p50_ms)
            self.added_p99_ms.add(count.p99_ms - direct.p99_ms)

    @property
    def saturated(self) -> bool:
        share = self.core_share.median
        return share is None or share >= SATURATED


def carried_streams(count: Count, streams: int) -> bool:
    """Whether a router kept up with its streams: all are open, and nearly all chunks came out of it each by itself."""
    return count.open >= streams and 0 < 0.97 * count.events <= count.reads


def carried_rate(count: Count, rate: int) -> bool:
    """Whether a router kept up with an open load: nearly all answers came, no queue was left, and its core had room."""
    all_came = count.requests >= 0.9 * rate * count.seconds and count.open <= 0.1 * rate
    return all_came and count.cpu_s < 0.95 * count.seconds


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target."""

    what: str
    wanted: str
    reached: str
    ok: bool | None
    """None: there is nothing to tell it by."""


def verdicts(
    results: Mapping[str, Results], *, imbalance: float | None, leftovers: Mapping[str, float] | None
) -> list[Verdict]:
    """The project's targets, in the order in which they are stated."""
    ours = results.get(OURS) or Results()
    rust = [results[name] for name in RUST if name in results]
    haproxy = [results["haproxy"]] if "haproxy" in results else []
    return [
        _ratio("CPU per request", "the better Rust router's", 0.75, ours.unary_us, [peer.unary_us for peer in rust]),
        _ratio("CPU per request", "HAProxy's", 1.6, ours.unary_us, [peer.unary_us for peer in haproxy]),
        _ratio("CPU per SSE chunk", "the better Rust router's", 1.0, ours.chunk_us, [peer.chunk_us for peer in rust]),
        _limit("added p99", 2.0, "ms", ours.added_p99_ms.median),
        _limit("memory at 2,000 streams", 100.0, "MB", ours.rss_mb if ours.rss_streams >= 2000 else None),
        _limit("imbalance, 4 routers and 8 replicas", 1.15, "max/mean", imbalance, digits=3),
        _gauges(leftovers),
    ]


def _ratio(what: str, whose: str, wanted: float, ours: Figure, theirs: Sequence[Figure]) -> Verdict:
    others = [figure.median for figure in theirs if figure.median]
    if ours.median is None or not others:
        return Verdict(what, f"≤ {wanted:g} × {whose}", "not measured", None)
    ratio = ours.median / min(others)
    return Verdict(what, f"≤ {wanted:g} × {whose}", f"{ratio:.2f} ×", ratio <= wanted)


def _limit(what: str, wanted: float, unit: str, value: float | None, *, digits: int = 1) -> Verdict:
    if value is None:
        return Verdict(what, f"≤ {wanted:g} {unit}", "not measured", None)
    return Verdict(what, f"≤ {wanted:g} {unit}", f"{value:.{digits}f} {unit}", value <= wanted)


def _gauges(leftovers: Mapping[str, float] | None) -> Verdict:
    what, wanted = "gauges after random client aborts", "all at 0"
    if leftovers is None:
        return Verdict(what, wanted, "not measured", None)
    return Verdict(
        what, wanted, ", ".join(f"{name} {value:g}" for name, value in leftovers.items()) or "all at 0", not leftovers
    )


def as_json(
    results: Mapping[str, Results],
    *,
    imbalance: float | None,
    aborts: Mapping[str, Any] | None,
    conditions: Mapping[str, Any],
    targets: Sequence[Verdict],
) -> dict[str, Any]:
    """The file's content: one object a figure, by peer; null where there is none."""

    def figures(name: str, digits: int) -> dict[str, float | None]:
        return {peer: _rounded(getattr(each, name).median, digits) for peer, each in results.items()}

    def spreads(name: str, digits: int) -> dict[str, list[float | None] | None]:
        return {
            peer: [_rounded(value, digits) for value in spread] if (spread := getattr(each, name).spread) else None
            for peer, each in results.items()
        }

    digits = {"unary_us": 2, "chunk_us": 2, "added_p50_ms": 3, "added_p99_ms": 3, "rps": 0, "core_share": 3}
    return {
        **{name: figures(name, places) for name, places in digits.items()},
        "rss_mb_2000_streams": {
            peer: _rounded(each.rss_mb, 1) if each.rss_streams >= 2000 else None for peer, each in results.items()
        },
        "rss_mb_fewer_streams": {
            peer: {"streams": each.rss_streams, "mb": _rounded(each.rss_mb, 1)}
            for peer, each in results.items()
            if each.rss_mb is not None and each.rss_streams < 2000
        },
        "imbalance": _rounded(imbalance, 3),
        "aborts": dict(aborts) if aborts is not None else None,
        "targets": [{"what": one.what, "wanted": one.wanted, "reached": one.reached, "ok": one.ok} for one in targets],
        "spread": {name: spreads(name, places) for name, places in digits.items()},
        "errors": {peer: each.errors for peer, each in results.items()},
        "notes": {peer: each.notes for peer, each in results.items() if each.notes},
        "versions": {peer: each.version for peer, each in results.items()},
        "conditions": dict(conditions),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
