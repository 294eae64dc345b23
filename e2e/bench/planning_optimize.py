"""How long `tokenfleet plan optimize` thinks: a model of 70 billion parameters over all classes that there are.

`python -m e2e.bench.planning_optimize` prints the figures; planning.py takes `optimize_s` of them. The search is pure, so that
nothing but this process is measured; the median of several runs stands for it.
"""

import json
from statistics import median
from time import perf_counter
from typing import Any

from e2e.bench.planning_models import LLAMA_70B
from tokenfleet.planning.optimize import Ask, Outcome, optimize

RUNS = 5
ASK = Ask(rate=5, input_tokens=1024, output_tokens=256, ttft=1.0, itl=0.05)


def timed() -> tuple[float, Outcome]:
    began = perf_counter()
    outcome = optimize(LLAMA_70B, ASK)
    return perf_counter() - began, outcome


def measure() -> dict[str, Any]:
    """{"optimize_s": …} and what it came to."""
    runs = [timed() for _ in range(RUNS)]
    outcome = runs[0][1]
    best = outcome.best
    return {
        "optimize_s": round(median(seconds for seconds, _ in runs), 3),
        "optimize_s_slowest": round(max(seconds for seconds, _ in runs), 3),
        "ways": outcome.tried,
        "classes": len({each.accelerator for each in outcome.failures}) + (best is not None),
        "best": None if best is None else {
            "accelerator": best.serving.accelerator.name,
            "gpus": best.gpus,
            "hourly": round(best.hourly, 2),
        },
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
