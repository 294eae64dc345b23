"""What a run was started with, as its meta has it: what is not to be counted, and what was promised. Pure."""

from collections.abc import Mapping
from typing import Any

from tokenfleet.bench.figures import Slo, Summary, Trim, summarize
from tokenfleet.bench.record import Run


def promises(run: Run) -> Slo | None:
    told = run.meta.get("slo")
    bounds = {name: _number(told.get(name)) for name in ("ttft", "itl", "tpot", "e2e")} if isinstance(told, Mapping) else {}
    slo = Slo(**bounds)
    return slo if slo else None


def summary_of(run: Run, *, slo: Slo | None) -> Summary:
    """Without the warm-up and cool-down that the run was started with."""
    return summarize(run, slo=slo, warmup=_trim(run.meta.get("warmup")), cooldown=_trim(run.meta.get("cooldown")))


def _trim(told: Any) -> Trim | None:
    if not isinstance(told, Mapping):
        return None
    return Trim(requests=int(_number(told.get("requests")) or 0), seconds=_number(told.get("seconds")) or 0.0)


def _number(told: Any) -> float | None:
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) else None
