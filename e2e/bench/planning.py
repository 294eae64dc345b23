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
from statistics import mean
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
from tokenfleet.planning.speed.published import public_model

LARGER: Final = public_model(
    {
        "name": "LlamaForCausalLM", "layers": 8, "hidden": 768, "intermediate": 2048, "heads": 12, "kv_heads": 4,
        "head_dim": 64, "vocabulary": 261, "tied": True, "context": 2048,
    }
)  # fmt: skip
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
    points: list[Json] = []
    for title, facts, body, longest in (
        ("demo", None, build_deployment("planned", {}), None),
        ("larger", LARGER, _larger("planned-larger", threads=2), 512),  # tokens: several answers have to end within a run
    ):
        with running(kubectl, [body]) as (engine,):
            measured = measure_speed(engine.url, model=SERVED, facts=facts, max_tokens=longest)
        points += [{**point, "workload": f"{title}: {point['workload']}"} for point in measured["points"]]
    names = {"ttft": "first token, s", "itl": "gap between tokens, s", "throughput": "output tokens a second"}
    rows = [
        (f"{title}, {point['workload']}", f"{said:.4g}", f"{was:.4g}", f"{said / was - 1:+.1%}")
        for point in points
        for name, title in names.items()
        for said, was in [point[name]]
    ]
    errors = {f"{name}_error": mean(abs(said / was - 1) for said, was in (point[name] for point in points)) for name in names}
    rows += [(f"mean error, {title}", "", "", f"{errors[f'{name}_error']:.1%}") for name, title in names.items()]
    return {**errors, "speed": points}, rows


def _agreement(kubectl: Kubectl, rounds: int) -> tuple[Json, Rows]:
    with running(kubectl, [_larger("judged", threads=1)]) as (engine,):
        found = agreement(engine.url, SERVED, rounds=rounds)
    rows = [
        (f"{metric}, beside {peer.removeprefix('bench_vs_')}", "", "", f"{ratio:.3f}")
        for peer, ratios in found.items()
        if peer.startswith("bench_vs_")
        for metric, ratio in ratios.items()
    ]
    rows += [
        (f"{work} {metric}, between its own rounds: {tool}", "", "", f"± {value / 2:.1%}")
        for tool, works in found["bench_spread"].items()
        for work, metrics in works.items()
        for metric, value in metrics.items()
        if metric in ("ttft", "tpot")
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


def _larger(name: str, *, threads: int) -> Json:
    """An engine with the demo model's tokenizer and a hundred times its weights, random ones: nobody reads the answers.

    Its steps are arithmetic and not Python's overhead; and with one thread it leaves one of two cores to whoever measures, who
    can follow its tokens: the demo model's come faster than guidellm reads them.
    """
    overrides = {
        "hidden_size": LARGER.hidden_size, "intermediate_size": LARGER.intermediate_size, "num_hidden_layers": LARGER.layers,
        "num_attention_heads": LARGER.attention[0].heads, "num_key_value_heads": LARGER.attention[0].kv_heads,
        "head_dim": LARGER.attention[0].head_dim,
    }  # fmt: skip
    flags = ["--load-format", "dummy", "--hf-overrides", json.dumps(overrides)]
    return build_deployment(name, {"env": {"OMP_NUM_THREADS": str(threads)}, "extraArgs": flags})


def _write(found: Json) -> None:
    """What was measured now, beside what an earlier run measured of other parts."""
    result: Json = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result |= found | {"machine": machine.describe()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
