"""Our rule of scaling beside those of HPA and KEDA, in simulation: who keeps the promise, and with how many replica-hours.

All of them scale the same fleet under the same requests, by the depth of the queue, five waiting for each replica: what ours
does by default, and what is recommended for the others. `--by concurrency` compares ours with an HPA where somebody has found
out how many requests a replica should have, and scales by that. The simulation and what it leaves out: docs/scaling.md.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from e2e.bench.scaling_patterns import PATTERNS, Pattern
from e2e.bench.scaling_plots import draw
from e2e.bench.scaling_rivals import Hpa, Keda, load
from tokenfleet.planning.scaling import Policy, Scaler, Signal
from tokenfleet.planning.scaling.simulation import Engine, Outcome, Rule, simulate

FOLDER: Final = Path("build/bench")
PROMISE_SECONDS: Final = 2.0
"""Time to the first token, the wait in the queue included."""
MOST: Final = 10
CONCURRENCY: Final = 20
OURS: Final = "tokenfleet"
Results = dict[str, dict[str, Outcome]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--by", choices=sorted(RULES), default="queue", help="what replicas are scaled by (queue)")
    parser.add_argument(
        "--pattern", choices=[one.name for one in PATTERNS], help="this one alone; nothing is written but plots"
    )
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    suffix = "" if arguments.by == "queue" else f"-{arguments.by}"
    results: Results = {}
    for pattern in PATTERNS:
        if arguments.pattern in (None, pattern.name):
            results[pattern.name] = _run(pattern, RULES[arguments.by])
            draw(pattern, results[pattern.name], FOLDER, suffix=suffix)
    _show(results)
    if arguments.pattern is None:
        path = FOLDER / f"scaling{suffix}.json"
        path.write_text(json.dumps(_document(results), indent=2) + "\n")
        print(f"wrote {path}, and a plot of each pattern beside it")
    sys.exit(
        arguments.by == "queue"
        and not all(_won(pattern, results[pattern.name]) for pattern in PATTERNS if pattern.name in results)
    )


def _run(pattern: Pattern, rules: Mapping[str, Callable[[Pattern], Rule]]) -> dict[str, Outcome]:
    requests = pattern.requests()
    return {
        name: simulate(
            requests,
            rule(pattern),
            seconds=pattern.seconds,
            replicas=pattern.replicas,
            promise_seconds=PROMISE_SECONDS,
        )
        for name, rule in rules.items()
    }


def _ours(pattern: Pattern, *, concurrency: int | None = None) -> Rule:
    policy = Policy(
        min_replicas=pattern.least,
        max_replicas=MOST,
        concurrency=concurrency,
        max_in_flight=Engine().places,
        scale_to_zero_seconds=pattern.sleeps_after,
    )
    scaler = Scaler(policy, desired=pattern.replicas, now=0)

    def rule(now: float, signal: Signal) -> int:
        return scaler.decide(signal, now=now).desired

    return rule


def _hpa(pattern: Pattern) -> Rule:
    return Hpa(least=max(pattern.least, 1), most=MOST, replicas=pattern.replicas)


def _hpa_by_load(pattern: Pattern) -> Rule:
    return Hpa(least=max(pattern.least, 1), most=MOST, replicas=pattern.replicas, average=CONCURRENCY, gauge=load)


def _keda(pattern: Pattern) -> Rule:
    return Keda(least=pattern.least, most=MOST, replicas=pattern.replicas)


RULES: Final[Mapping[str, Mapping[str, Callable[[Pattern], Rule]]]] = {
    "queue": {OURS: _ours, "hpa": _hpa, "keda": _keda},
    "concurrency": {OURS: lambda pattern: _ours(pattern, concurrency=CONCURRENCY), "hpa": _hpa_by_load},
}


def _better(outcomes: Mapping[str, Outcome]) -> Outcome:
    """Of the others: who keeps the promise more often, and of equals who takes less for it."""
    others = (outcome for name, outcome in outcomes.items() if name != OURS)
    return max(others, key=lambda outcome: (outcome.attainment, -outcome.replica_hours))


def _won(pattern: Pattern, outcomes: Mapping[str, Outcome]) -> bool:
    ours, other = outcomes[OURS], _better(outcomes)
    return ours.attainment >= other.attainment and (ours.replica_hours < other.replica_hours or not pattern.cheaper)


def _document(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    return {
        pattern: {
            rule: {"attainment": round(outcome.attainment, 4), "replica_hours": round(outcome.replica_hours, 3)}
            for rule, outcome in outcomes.items()
        }
        for pattern, outcomes in results.items()
    }


def _show(results: Results) -> None:
    table = Table(title=f"First tokens within {PROMISE_SECONDS:g} s, and what that took", title_justify="left")
    for name in ("load", "rule", "in time", "late", "refused", "replica-hours", "changes"):
        table.add_column(name, justify="left" if name in ("load", "rule") else "right")
    for pattern in PATTERNS:
        for number, (rule, outcome) in enumerate(results.get(pattern.name, {}).items()):
            counts = (f"{outcome.late:,}", f"{outcome.refused:,}", f"{outcome.replica_hours:.2f}", str(outcome.changes))
            title = "" if number else pattern.title
            table.add_row(title, rule, f"{outcome.attainment:.2%}", *counts, style="bold" if rule == OURS else "")
        table.add_section()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    for pattern in PATTERNS:
        if (outcomes := results.get(pattern.name)) is None:
            continue
        ours, other = outcomes[OURS], _better(outcomes)
        mark = "✓" if _won(pattern, outcomes) else "✗"
        wanted = "wanted: less than" if pattern.cheaper else "more may be, against"
        console.print(
            f"{mark} {pattern.name}: {ours.attainment:.2%} in time (wanted: at least {other.attainment:.2%}), "
            f"{ours.replica_hours:.2f} replica-hours ({wanted} {other.replica_hours:.2f})"
        )


if __name__ == "__main__":
    main()
