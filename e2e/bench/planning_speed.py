"""What `plan speed` predicts beside what a live vLLM does: calibrated by a few short runs, then held against others.

The calibration is that of `tokenfleet plan speed --calibrate`, with its code. Runs of both kinds take turns, so that a
machine that grows slower on the way does so for both.
"""

import argparse
import asyncio
import json
from typing import Any, Final

from e2e.bench.engines import SERVED
from tokenfleet.bench.client import Client
from tokenfleet.cli.plan.measuring import EXTRA, RUN_SECONDS, Grid, Load, grid_of, measure
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.memory.choices import batch_of
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.serving_of import CPU_KV_CACHE_BYTES
from tokenfleet.planning.speed import Point, fit
from tokenfleet.planning.speed.points import errors_of, predict
from tokenfleet.planning.speed.published import public_model

Json = dict[str, Any]

LONGEST: Final = 512
"""Tokens of a sequence, where the server says nothing else."""
DEMO: Final = public_model(
    {
        "name": "LlamaForCausalLM", "layers": 3, "hidden": 128, "intermediate": 384, "heads": 4, "kv_heads": 2, "head_dim": 32,
        "vocabulary": 261, "tied": True, "context": 2048,
    }
)  # fmt: skip
"""The demo model (e2e/model), by its config.json."""


def measure_speed(
    url: str,
    *,
    model: str = SERVED,
    facts: ModelFacts | None = None,
    serving: Serving | None = None,
    max_tokens: int | None = None,
    seconds: float = RUN_SECONDS,
) -> Json:
    """Mean relative errors of ttft, itl and throughput over the runs held out, and each of them: [predicted, measured].

    facts and serving: those of the demo model on a CPU where None.
    """
    facts = facts or DEMO
    serving = serving or Serving(accelerator=find_accelerator("cpu"), kv_cache_bytes=CPU_KV_CACHE_BYTES, eager=True)
    memory = estimate_memory(facts, serving, fixes=False)
    grid, points = asyncio.run(_measured(url, model, facts, serving, max_tokens=max_tokens, seconds=seconds))
    fitted = [points[load] for load in grid.fitted]
    held_out = [points[load] for load in grid.held_out]
    calibration = fit(fitted, facts, serving, held_out=held_out, memory=memory, source="runs of this server")
    pairs = [(point, predict(point, facts, serving, calibration, memory)) for point in held_out]
    errors = errors_of(pairs)
    return {
        "ttft_error": errors.ttft,
        "itl_error": errors.itl,
        "throughput_error": errors.throughput,
        "points": [
            {
                "workload": str(load),
                "ttft": [speed.ttft, point.ttft],
                "itl": [speed.itl, point.itl],
                "throughput": [speed.output_tokens_per_second, point.output_tokens_per_second],
            }
            for load, (point, speed) in zip(grid.held_out, pairs, strict=True)
        ],
        "calibration": calibration.as_json(),
        "fitted": [point.as_json() for point in fitted],
    }


async def _measured(
    url: str, model: str, facts: ModelFacts, serving: Serving, *, max_tokens: int | None, seconds: float
) -> tuple[Grid, dict[Load, Point]]:
    async with Client(url, model=model, extra=EXTRA) as client:
        longest = max_tokens or await _served_length(client)
        grid = grid_of(max_tokens=longest, max_num_seqs=batch_of(facts, serving).sequences)
        turns = _in_turns(grid)
        points = await measure(client, turns, seconds=seconds, tell=lambda text: print(text, flush=True))
        return grid, dict(zip(turns, points, strict=True))


def _in_turns(grid: Grid) -> list[Load]:
    """One that is held out after every second or so that is fitted to."""
    turns, waiting = [], list(grid.held_out)
    for number, load in enumerate(grid.fitted, 1):
        turns.append(load)
        due = round(number * len(grid.held_out) / len(grid.fitted))
        while waiting and len(grid.held_out) - len(waiting) < due:
            turns.append(waiting.pop(0))
    return turns + waiting


async def _served_length(client: Client) -> int:
    status, told = await client.fetch("/models")
    lengths = [each.get("max_model_len") for each in told["data"]] if status == 200 and told else []
    return min((length for length in lengths if isinstance(length, int)), default=LONGEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", required=True, help="of a server on this machine")
    parser.add_argument("--model", default=SERVED, help="the name that it serves (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=RUN_SECONDS, help="of a run (default: %(default)s)")
    arguments = parser.parse_args()
    print(json.dumps(measure_speed(arguments.url, model=arguments.model, seconds=arguments.seconds), indent=2))


if __name__ == "__main__":
    main()
