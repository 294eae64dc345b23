"""Prometheus's own judge reads the engine's metrics."""

import subprocess

from prometheus_client import CollectorRegistry, generate_latest

from e2e.cluster import packages
from tests.engine.serving.stand_ins import LOOPBACK, Client, Server, StandInEngine
from tests.engine.serving.vllm_metrics import VllmMetrics
from tokenfleet import contract
from tokenfleet_engine.serving.admission import Admission


def _check(text: str) -> tuple[int, str]:
    packages.ensure("prometheus")
    argv = (packages.program("promtool"), "check", "metrics")
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def _ours(registry: CollectorRegistry) -> str:
    """Not vLLM's, which have colons in their names."""
    lines = generate_latest(registry).decode().splitlines(keepends=True)
    return "".join(line for line in lines if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith("llm_"))


async def test_promtool_finds_nothing_to_say() -> None:
    registry, server = CollectorRegistry(), Server()
    vllm = VllmMetrics(registry, speculative=True)
    vllm.first_token[0].observe(0.2)
    vllm.inter_token[0].observe(0.02)
    for counter in (vllm.tokens[0], vllm.queries[0], vllm.drafted[0]):
        counter.inc(4)
    client = Client(Admission(server, engine=StandInEngine(), environment={}, registry=registry, memory=lambda: {"0": 7}))
    server.release.set()
    await client("POST", "/v1/completions")
    await client("POST", contract.PATH_ENGINE_DRAIN, peer=LOOPBACK)
    await client("POST", "/v1/completions")
    text = _ours(registry)
    described = {name for variable, name in vars(contract).items() if variable.startswith("METRIC_ENGINE_")}
    assert {line.split()[2].removesuffix("_total") for line in text.splitlines() if line.startswith("# TYPE")} == described
    assert _check(text) == (0, "")


def test_promtool_would_say_something() -> None:
    code, said = _check("# TYPE llm_bad gauge\nllm_bad_total 1\n")
    assert (code != 0, "help" in said) == (True, True), said
