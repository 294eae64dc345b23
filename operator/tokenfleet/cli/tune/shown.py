"""What people see of a search: a line for each try, what came of it, and the YAML to apply."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from tokenfleet.planning.tuning import Found, Measured, Objective, Probe

_WORDS: Final = {"met": "kept", "missed": "broken", "unclear": "too close to call"}
_COLOURS: Final = {"met": "green", "missed": "red", "unclear": "yellow"}


def heading(objectives: Sequence[Objective]) -> str:
    columns = "".join(f"{f'{each.metric} p{each.percentile:g}':>12}  {'between':<17}" for each in objectives)
    return f"{'AT ONCE':>7}  {columns}{'TOKENS/S':>9}{'REQUESTS':>10}{'FAILED':>8}  {'ELAPSED':>8}  PROMISE".upper()


def row(probe: Probe, elapsed: float) -> str:
    """With rich's markup."""
    columns = "".join(f"{_time(each.value):>12}  {_interval(each):<17}" for each in probe.measured)
    counts = f"{probe.tokens_per_second:>9,.0f}{probe.requests:>10}{probe.failed:>8}  {_clock(elapsed):>8}"
    verdict = f"[{_COLOURS[probe.verdict]}]{_WORDS[probe.verdict]}[/]"
    return f"{probe.concurrency:>7}  {columns}{counts}  {verdict}"


def patch(maximum: int, deployment: Mapping[str, Any] | None) -> dict[str, Any]:
    """What to merge into the LLMDeployment.

    The router gives a replica as many at once as a batch has places, unless the spec says otherwise: then what it says is
    brought down, or requests would wait in the engine. A step must have room for a token of each sequence.
    """
    spec = (deployment or {}).get("spec") or {}
    batching: dict[str, Any] = {"maxNumSeqs": maximum}
    step = ((spec.get("engine") or {}).get("batching") or {}).get("maxNumBatchedTokens")
    if isinstance(step, int) and step < maximum:
        batching["maxNumBatchedTokens"] = maximum
    change: dict[str, Any] = {"spec": {"engine": {"batching": batching}}}
    given = (spec.get("router") or {}).get("maxInFlight")
    if isinstance(given, int) and given > maximum:
        change["spec"]["router"] = {"maxInFlight": maximum}
    return change


def as_yaml(change: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(change), sort_keys=False)


def sentence(found: Found, objectives: Sequence[Objective], probes: Sequence[Probe]) -> str:
    promise = promises(objectives)
    if found.concurrency is None:
        return f"Nobody can promise {promise} here: even one request at a time took {_measured(probes, 1)}."
    tokens = max(probe.tokens_per_second for probe in probes if probe.concurrency == found.concurrency)
    return f"{found.concurrency} at once keep {promise}, with {tokens:,.0f} tokens/s; {_why(found, probes)}."


def promises(objectives: Sequence[Objective]) -> str:
    return " and ".join(f"{each.metric} ≤ {_time(each.limit)} in {each.percentile:g} % of cases" for each in objectives)


def _why(found: Found, probes: Sequence[Probe]) -> str:
    assert found.concurrency is not None
    if found.why == "throughput":
        return f"{2 * found.concurrency} bring no more tokens"
    if found.why == "most":
        return f"more than {found.concurrency} were not to be tried (--max)"
    if found.why == "engine":
        return f"the engine runs no more than {found.concurrency}: its maxNumSeqs, or all that its KV cache has room for"
    beyond = [probe for probe in probes if probe.concurrency > found.concurrency and probe.verdict != "met"]
    smallest = min(probe.concurrency for probe in beyond)
    broken = any(probe.verdict == "missed" for probe in beyond if probe.concurrency == smallest)
    return f"{smallest} at once do not" if broken else f"whether {smallest} do is too close to call"


def _measured(probes: Sequence[Probe], concurrency: int) -> str:
    last = [probe for probe in probes if probe.concurrency == concurrency][-1]
    if last.failed == last.requests:
        return "no whole answer"
    return ", ".join(f"{_time(each.value)} ({each.metric})" for each in last.measured)


def _interval(measured: Measured) -> str:
    if measured.lower is None and measured.upper is None:
        return "–"
    return f"{_time(measured.lower)} … {_time(measured.upper)}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{1000 * seconds:.3g} ms"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
