"""`vllm bench serve`, run in the engine's pod, and our client on the same work, in turns with it."""

import asyncio
import json
import statistics
from dataclasses import dataclass
from functools import partial
from typing import Final

from e2e.bench import engine_work as work
from e2e.bench.completions import ask, closed_loop
from e2e.bench.engines import SERVED, Engine
from e2e.kubectl import Kubectl
from e2e.model.objects import MODEL
from tokenfleet import contract

REQUESTS: Final = 64
CLIENTS: Final = 16
PROMPT: Final = 128
TOKENS: Final = 64
_RESULT: Final = "/tmp/judge.json"
_PROGRAM: Final = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""What `vllm bench serve` runs: the CPU build's own `vllm` command looks for a distribution of another name, and fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Medians of one run."""

    tokens_per_second: float
    ttft_ms: float
    itl_ms: float
    """Time per output token after the first."""


def judge(kubectl: Kubectl, engine: Engine, *, rounds: int) -> tuple[list[Judged], list[Judged]]:
    """(ours, theirs), as many of each."""
    ours, theirs = [], []
    for number in range(rounds):
        theirs.append(_theirs(kubectl, engine, seed=number))
        ours.append(asyncio.run(_ours(engine, seed=7000 + number)))
    return ours, theirs


async def _ours(engine: Engine, *, seed: int) -> Judged:
    began = asyncio.get_running_loop().time()
    requests = work.even(REQUESTS, prompt=PROMPT, tokens=TOKENS, seed=seed)
    answers = await closed_loop(requests, clients=CLIENTS, send=partial(ask, engine.url, SERVED))
    seconds = asyncio.get_running_loop().time() - began
    return Judged(
        tokens_per_second=REQUESTS * TOKENS / seconds,
        ttft_ms=1000 * statistics.median(answer.ttft for answer in answers),
        itl_ms=1000 * statistics.median(answer.itl for answer in answers),
    )


def _theirs(kubectl: Kubectl, engine: Engine, *, seed: int) -> Judged:
    command = [
        *("python3", "-c", _PROGRAM, "--backend", "openai"),
        *("--base-url", f"http://127.0.0.1:{contract.ENGINE_PORT}", "--model", SERVED),
        *("--tokenizer", f"{contract.MODEL_MOUNT_PATH}/{MODEL.name}", "--dataset-name", "random", "--ignore-eos"),
        *("--random-input-len", str(PROMPT), "--random-output-len", str(TOKENS), "--num-prompts", str(REQUESTS)),
        *("--max-concurrency", str(CLIENTS), "--seed", str(seed), "--temperature", "0", "--disable-tqdm"),
        *("--save-result", "--result-filename", _RESULT),
    ]
    kubectl("exec", engine.pod, "-c", contract.CONTAINER_ENGINE, "--", *command, timeout=300)
    found = json.loads(kubectl("exec", engine.pod, "-c", contract.CONTAINER_ENGINE, "--", "cat", _RESULT))
    return Judged(tokens_per_second=found["output_throughput"], ttft_ms=found["median_ttft_ms"], itl_ms=found["median_tpot_ms"])
