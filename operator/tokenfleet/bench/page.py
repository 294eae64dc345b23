"""A run as one HTML file: what was asked, its figures as tables and plots, and what became of the promises. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tokenfleet.bench.document import build_document, cards, heading, note, picture, table
from tokenfleet.bench.figures import Slo, Spread, Summary
from tokenfleet.bench.record import Exchange, Run

_PROMISES: Final = {
    "ttft": "time to first token",
    "itl": "mean time between tokens",
    "tpot": "time per output token",
    "e2e": "end to end",
}
_PLOTS: Final = {"ttft": "First tokens", "throughput": "Throughput", "latencies": "Latencies", "itl": "Between tokens"}
_LATENCY: Final = ("milliseconds", "mean", "median", "90 %", "95 %", "99 %", "largest", "values")
_FOOTER: Final = (
    "<footer>Latencies count from the moment at which a request was to be sent, of whole answers in the window that is "
    "counted. Between tokens: every gap between two chunks. Per output token: (end to end − first token) / (tokens − 1), one "
    "value a request. docs/load-tests.md of Tokenfleet defines all figures.</footer>"
)
_ERRORS: Final = 12


def build_page(
    run: Run, summary: Summary, plots: Mapping[str, str], *, slo: Slo | None = None, without_plots: str = ""
) -> str:  # fmt: skip
    """`plots` are SVG by name; `without_plots` says why there are none."""
    parts = [note(_ending(run, summary)), cards(_figures(summary))]
    if slo:
        rows = _promises(run, summary, slo)
        parts += [heading("Promises"), table(("", "at most", "kept by", "share"), rows), note(_FAILED)]
    parts += [heading("Latency"), table(_LATENCY, _latencies(summary)), note(without_plots)]
    for name, title in _PLOTS.items():
        if name in plots:
            parts += [heading(title), picture(plots[name], label=title)]
    parts += [heading("Requests"), table(("", "number", "tokens in, mean", "tokens out, mean"), _outcomes(summary))]
    if errors := _errors(run):
        parts += [heading("What went wrong"), table(("times", "what the client met"), errors, words=True)]
    parts += [heading("What was asked"), table((), _facts(run.meta), words=True), _FOOTER]
    return build_document(f"Load test of {run.meta.get('model') or run.meta.get('target') or 'a server'}", parts)


_FAILED: Final = "Of all requests in the window that is counted: one that failed has kept none."


def _ending(run: Run, summary: Summary) -> str:
    ending = run.meta.get("ending", "complete")
    told = f"{summary.seconds:.1f} s of {run.seconds:.1f} s are counted."
    return told if ending == "complete" else f"The run did not end by itself ({ending}). {told}"


def _figures(summary: Summary) -> Iterator[tuple[str, str]]:
    yield f"{summary.requests_per_second:.3g}", "whole answers per second"
    if summary.goodput is not None:
        yield f"{summary.goodput:.3g}", "per second kept all promises"
    yield f"{summary.output_tokens_per_second:,.0f}", "tokens out per second"
    if summary.ttft is not None:
        yield f"{_milliseconds(summary.ttft.p95)} ms", "to first token, 95 %"
    if summary.itl is not None:
        yield f"{_milliseconds(summary.itl.p95)} ms", "between tokens, 95 %"
    yield f"{summary.errors + summary.cut}", f"of {summary.requests} requests failed"


def _latencies(summary: Summary) -> list[Sequence[str]]:
    spreads = {
        "to first token": summary.ttft,
        "between tokens": summary.itl,
        "per output token": summary.tpot,
        "end to end": summary.e2e,
        "client was late by": summary.lateness if summary.lateness is not None and summary.lateness.max else None,
    }
    return [(name, *_cells(spread)) for name, spread in spreads.items() if spread is not None]


def _cells(spread: Spread) -> list[str]:
    values = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99, spread.max)
    return [*map(_milliseconds, values), f"{spread.count:,}"]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def _promises(run: Run, summary: Summary, slo: Slo) -> list[Sequence[str]]:
    counted = [each for each in run.exchanges if summary.begins <= each.intended <= summary.ends and each.outcome != "aborted"]
    limits = slo.as_json()
    rows: list[Sequence[str]] = [
        (_PROMISES[name], f"{1000 * limit:g} ms", *_kept(counted, Slo(**{name: limit}))) for name, limit in limits.items()
    ]  # fmt: skip
    return rows if len(rows) == 1 else [*rows, ("all of them", "", *_kept(counted, slo))]


def _kept(counted: Sequence[Exchange], slo: Slo) -> tuple[str, str]:
    kept = sum(slo.met(each) for each in counted if each.outcome == "ok" and each.first is not None)
    return f"{kept} of {len(counted)}", f"{100 * kept / len(counted):.4g} %" if counted else "–"


def _outcomes(summary: Summary) -> Iterator[Sequence[str]]:
    tokens = [f"{spread.mean:,.1f}" if spread else "–" for spread in (summary.prompt_tokens, summary.output_tokens)]
    yield "whole answers", str(summary.ok), *tokens
    others = {"errors": summary.errors, "cut off": summary.cut, "left by the client": summary.aborted}
    yield from ((name, str(count), "", "") for name, count in others.items() if count)


def _errors(run: Run) -> list[Sequence[str]]:
    counts = Counter(each.error or each.outcome for each in run.exchanges if each.outcome in ("error", "cut"))
    return [(str(count), message) for message, count in counts.most_common(_ERRORS)]


def _facts(meta: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    yield from ((name, _told(value)) for name, value in meta.items() if name != "window" and value is not None)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_told(each)}" for name, each in value.items() if each is not None)
    return ", ".join(map(_told, value)) if isinstance(value, list | tuple) else str(value)
