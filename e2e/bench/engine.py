"""Proves on the small model what each of vLLM's techniques that we expose does, and what our part around vLLM costs.

One run, one table: each row compares two engines, or two ways of using one, on the same requests in turns. Ratios are the
point: this is a CPU and a model of a few MB, and a GPU's would be others; docs/benchmarks.md says how to read them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from e2e.bench import engine_rows as rows
from e2e.bench import machine
from e2e.bench.engine_figures import Row
from e2e.bench.engines import prepare
from e2e.cluster.progress import step
from e2e.kubectl import Kubectl

RESULT: Final = Path("build/bench/engine.json")
PARTS: Final[dict[str, Callable[[Kubectl, int], Row | list[Row]]]] = {
    "batching": rows.static_vs_continuous,
    "prefix": rows.prefix_cache,
    "speculative": rows.speculative,
    "chunked": rows.chunked_prefill,
    "disaggregation": rows.disaggregation,
    "middleware": rows.middleware,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.engine", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="this part; may be given again (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (default: %(default)s)")
    arguments = parser.parse_args()
    kubectl, began = prepare(), time.monotonic()
    found: dict[str, list[Row]] = {}
    for name in arguments.only or PARTS:
        with step(f"Measuring {name}"):
            measured = PARTS[name](kubectl, arguments.rounds)
        found[name] = measured if isinstance(measured, list) else [measured]
    _print(found, time.monotonic() - began)
    _write(found)


def _print(found: dict[str, list[Row]], seconds: float) -> None:
    table = Table(title=f"The engine on {machine.describe()['cpu']}, in {seconds:.0f} s", title_justify="left")
    for heading in ("comparison", "figures", "ratio (range)", "wanted"):
        table.add_column(heading, overflow="fold")
    for row in (row for measured in found.values() for row in measured):
        table.add_row(
            row.title, ", ".join(f"{name} {value}" for name, value in row.figures.items()), str(row.ratio), row.wanted
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _write(found: dict[str, list[Row]]) -> None:
    """What was measured now, beside what an earlier run measured of other parts."""
    names = {"batching": "static_vs_continuous", "prefix": "prefix_ttft_ratio", "chunked": "chunked_prefill_itl_p99_ratio"}
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name, measured in found.items():
        if name == "speculative":
            ngram, draft = (row.result for row in measured)
            result[name] = {**ngram, "draft": draft}
        elif name == "middleware":
            result["middleware_overhead"] = measured[1].result  # by CPU time
            result["vllm_bench_serve"] = {key: value for row in measured[2:] for key, value in row.result.items()}
        else:
            result[names.get(name, name)] = measured[0].result
    result["rows"] = {**result.get("rows", {}), **{name: [asdict(row) for row in measured] for name, measured in found.items()}}
    result["machine"] = machine.describe()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Written to {RESULT}.")


if __name__ == "__main__":
    main()
