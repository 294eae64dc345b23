"""What the plans say beside what real vLLM does here, and our load test beside others on the same server, in one run.

Four parts: memory (KV tokens of models of several kinds against vLLM's start-up log), speed (calibrated by a short
benchmark, then held against runs that it has not seen), agreement (our load test, vLLM's and guidellm's in turns), optimize
(the time of a search). A part that fails leaves what the others found, and the run ends with an error.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from e2e.bench import machine, planning_optimize
from e2e.bench.agreement import agreement
from e2e.bench.engines import SERVED, build_deployment, prepare, running
from e2e.bench.planning_memory import measure_memory
from e2e.bench.planning_speed import measure_speed
from e2e.cluster.progress import step
from e2e.kubectl import Kubectl

RESULT: Final = Path("build/bench/planning.json")
Json = dict[str, Any]
Rows = Iterable[tuple[str, str, str, str]]
"""What, predicted or ours, measured or theirs, and the error or ratio, as people read them."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.bench.planning", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--only", choices=list(PARTS), action="append", help="this part; may be given again (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="of the agreement (default: %(default)s)")
    arguments = parser.parse_args()
    kubectl, began, failed = prepare(), time.monotonic(), False
    table = Table(title=f"Plans on {machine.describe()['cpu']}", title_justify="left")
    for heading in ("what", "predicted / ours", "measured / theirs", "error / ratio"):
        table.add_column(heading, overflow="fold")
    for name in arguments.only or PARTS:
        try:
            with step(f"Measuring {name}"):
                found, rows = PARTS[name](kubectl, arguments.rounds)
        except Exception as error:  # noqa: BLE001  (whatever it is, the other parts are worth having)
            failed = True
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        _write(found)
        table.add_section()
        for row in rows:
            table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"Measured in {time.monotonic() - began:.0f} s; written to {RESULT}.")
    return int(failed)


def _memory(kubectl: Kubectl, _: int) -> tuple[Json, Rows]:
    models = measure_memory(kubectl)
    worst = max(models, key=lambda each: abs(each["error"]))
    rows = [
        (f"KV tokens, {each['model']}", f"{each['predicted']:,}", f"{each['measured']:,}", f"{each['error']:+.2%}")
        for each in models
    ]
    return {"kv_tokens_error": abs(worst["error"]), "memory": models}, rows


def _speed(kubectl: Kubectl, _: int) -> tuple[Json, Rows]:
    with running(kubectl, [_engine("planned")]) as (engine,):
        found = measure_speed(engine.url, model=SERVED)
    names = {"ttft": "first token, s", "itl": "gap between tokens, s", "throughput": "output tokens a second"}
    rows = [
        (f"{title}, {point['workload']}", f"{said:.4g}", f"{was:.4g}", f"{said / was - 1:+.1%}")
        for point in found["points"]
        for name, title in names.items()
        for said, was in [point[name]]
    ]
    rows += [(f"mean error, {title}", "", "", f"{found[f'{name}_error']:.1%}") for name, title in names.items()]
    return {**{f"{name}_error": found[f"{name}_error"] for name in names}, "speed": found["points"]}, rows


def _agreement(kubectl: Kubectl, rounds: int) -> tuple[Json, Rows]:
    with running(kubectl, [_engine("judged")]) as (engine,):
        found = agreement(engine.url, SERVED, rounds=rounds)
    rows = [
        (f"{metric}, beside {peer.removeprefix('bench_vs_')}", "", "", f"{ratio:.3f}")
        for peer, ratios in found.items()
        if peer.startswith("bench_vs_")
        for metric, ratio in ratios.items()
    ]
    return found, rows


def _optimize(_: Kubectl, __: int) -> tuple[Json, Rows]:
    found = planning_optimize.measure()
    return found, [("search over all classes for a model of 70B", "", f"{found['optimize_s']:.2f} s", "wanted < 2 s")]


PARTS: Final[dict[str, Callable[[Kubectl, int], tuple[Json, Rows]]]] = {
    "memory": _memory,
    "speed": _speed,
    "agreement": _agreement,
    "optimize": _optimize,
}


def _engine(name: str) -> Json:
    """Without a bound of our admission, so that what is measured is vLLM's."""
    return build_deployment(name, {})


def _write(found: Json) -> None:
    """What was measured now, beside what an earlier run measured of other parts."""
    result: Json = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result |= found | {"machine": machine.describe()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
