"""Our load test, vLLM's and guidellm's on the same server, in turns; and how far their figures agree.

Each workload is measured by all three one after the other, then in the opposite order, and so on, so that what else the machine
does falls on all alike. A figure is the median of its rounds, a ratio ours divided by the peer's.
"""

import argparse
import json
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from e2e.bench import agreement_peers as peers
from e2e.bench.agreement_peers import GUIDELLM, OURS, VLLM, Figures, Measure, Subject, Workload
from e2e.cluster.progress import step

WORKLOADS: Final = (
    Workload(name="closed", requests=40, input_tokens=64, output_tokens=64, concurrency=2),
    Workload(name="open", requests=30, input_tokens=64, output_tokens=64, rate=1.0),
)
ROUNDS: Final = 4
_WARMUP: Final = Workload(name="warm-up", requests=8, input_tokens=64, output_tokens=64, concurrency=2)


def agreement(
    url: str, model: str, *, rounds: int = ROUNDS, vllm_python: str | None = None, workloads: Sequence[Workload] = WORKLOADS
) -> dict[str, Any]:
    """{"bench_vs_vllm": {"closed ttft": ratio, …}, "bench_vs_guidellm": {…}, "bench_figures": what each measured,
    "bench_spread": how far apart its own rounds were, as a share of their median, which is what a ratio can be trusted to}.

    vllm_python: of this machine, with vLLM in it; without it `vllm bench serve` runs in a pod of the engine's image.
    """
    subject = Subject(url, model)
    with ExitStack() as stack:
        execute, tokenizer = (
            (peers.by_python(vllm_python), peers.here()) if vllm_python else stack.enter_context(peers.in_pod())
        )
        contenders = {OURS: peers.ours, VLLM: peers.vllm(execute, tokenizer), GUIDELLM: peers.guidellm(peers.here())}
        seeds = count(secrets.randbelow(1 << 30))
        peers.ours(subject, _WARMUP, next(seeds))
        figures: dict[str, dict[str, Figures]] = {}
        spread: dict[str, dict[str, Figures]] = {}
        for work in workloads:
            for name, found in _in_turns(contenders, subject, work, rounds, seeds).items():
                figures.setdefault(name, {})[work.name] = {metric: median(values) for metric, values in found.items()}
                spread.setdefault(name, {})[work.name] = {metric: _spread(values) for metric, values in found.items()}
    compared = {f"bench_vs_{peer}": ratios(figures[OURS], figures[peer]) for peer in (VLLM, GUIDELLM)}
    return compared | {"bench_figures": figures, "bench_spread": spread}


def ratios(ours: Mapping[str, Figures], theirs: Mapping[str, Figures]) -> dict[str, float]:
    """Of what both measure."""
    return {
        f"{work} {metric}": round(ours[work][metric] / value, 4)
        for work, figures in theirs.items()
        for metric, value in figures.items()
    }


def _in_turns(
    contenders: Mapping[str, Measure], subject: Subject, work: Workload, rounds: int, seeds: Iterator[int]
) -> dict[str, dict[str, list[float]]]:
    """Of each, by metric, all rounds. No seed is used twice, in this run or another: the prefix cache would answer then."""
    found: dict[str, list[Figures]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in order:
            with step(f"{work.name}, round {number + 1} of {rounds}: {name}"):
                found[name].append(contenders[name](subject, work, next(seeds)))
    return {name: {metric: [one[metric] for one in all_] for metric in all_[0]} for name, all_ in found.items()}


def _spread(values: Sequence[float]) -> float:
    return round((max(values) - min(values)) / median(values), 4)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.bench.agreement", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--url", required=True, help="of a server with the demo model")
    parser.add_argument("--model", default="demo", help="as it calls it (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="(default: %(default)s)")
    parser.add_argument("--vllm-python", help="an interpreter with vLLM; a pod of the engine's image where left out")
    parser.add_argument("--only", action="append", help="this workload alone")
    arguments = parser.parse_args()
    chosen = [work for work in WORKLOADS if not arguments.only or work.name in arguments.only]
    found = agreement(
        arguments.url, arguments.model, rounds=arguments.rounds, vllm_python=arguments.vllm_python, workloads=chosen
    )
    _show(found["bench_figures"])
    print(json.dumps({name: value for name, value in found.items() if name != "bench_figures"}, indent=2))
    return 0


def _show(figures: Mapping[str, Mapping[str, Figures]]) -> None:
    table = Table("workload", "figure", OURS, VLLM, "ratio", GUIDELLM, "ratio")
    for work, ours in figures[OURS].items():
        for metric, value in ours.items():
            row = [work, metric, f"{value:.5g}"]
            for peer in (VLLM, GUIDELLM):
                theirs = figures[peer][work].get(metric)
                row += ["", ""] if theirs is None else [f"{theirs:.5g}", f"{value / theirs:.3f}"]
            table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
