"""docs/optimize.md: its worked example, computed anew."""

import io
import math
import textwrap

import pytest
import yaml
from rich.console import Console

from e2e.bench.planning_models import LLAMA_8B
from tests.planning.optimize.documents import compare
from tokenfleet.cli.plan.optimize_tables import nobody, show
from tokenfleet.cli.plan.units import span
from tokenfleet.planning.optimize import Ask, Candidate, optimize
from tokenfleet.planning.optimize.manifest import deployment_of
from tokenfleet.planning.optimize.promises import margin_of
from tokenfleet.planning.speed import default_calibration

SOURCE = "hf://meta-llama/Llama-3.1-8B-Instruct"
ASK = Ask(rate=5, input_tokens=1024, output_tokens=256, ttft=0.5, itl=0.05)
IMPOSSIBLE = Ask(rate=5, input_tokens=1024, output_tokens=256, ttft=0.005)


def best(ask: Ask) -> Candidate:
    found = optimize(LLAMA_8B, ask).best
    assert found is not None
    return found


def shown(ask: Ask) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    show(console, optimize(LLAMA_8B, ask), ask, top=5)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def test_the_table_of_the_example(request: pytest.FixtureRequest) -> None:
    compare(request, "optimize.md", "table", shown(ASK))


def test_what_is_to_be_applied_in_the_example(request: pytest.FixtureRequest) -> None:
    body = deployment_of(best(ASK), LLAMA_8B, source=SOURCE)
    compare(request, "optimize.md", "manifest", yaml.safe_dump(body, sort_keys=False))


def test_how_the_figures_of_the_example_follow(request: pytest.FixtureRequest) -> None:
    found = best(ASK)
    price = found.serving.accelerator.price
    assert price is not None
    margin = margin_of(ASK, default_calibration(found.serving.accelerator))
    replicas = math.ceil(ASK.rate / found.capacity)
    hourly = replicas * found.serving.devices * price.on_demand
    tokens = ASK.rate * (ASK.input_tokens + ASK.output_tokens) * 3600
    rows = {
        "margin": f"1 + {margin - 1:.3f} = {margin:.3f}",
        "a replica takes": f"{found.capacity * margin:.2f} / {margin:.3f} = {found.capacity:.2f} requests/s",
        "replicas": f"{ASK.rate:g} / {found.capacity:.2f} = {ASK.rate / found.capacity:.2f}, so {replicas}",
        "used": f"{ASK.rate:g} / ({replicas} × {found.capacity:.2f}) = {ASK.rate / (replicas * found.capacity):.0%}",
        "an hour": f"{replicas} × {found.serving.devices} × ${price.on_demand} = ${hourly:.2f}",
        "tokens of an hour": f"{ASK.rate:g} × ({ASK.input_tokens} + {ASK.output_tokens}) × 3600 = {tokens:,.0f}",
        "a million tokens": f"${hourly:.2f} / {tokens / 1e6:.2f} = ${hourly / tokens * 1e6:.2f}",
        "TTFT P95": f"{span(found.speed.ttft_tail)} × {margin:.3f} = {span(found.speed.ttft_tail * margin)}, within 500 ms",
        "ITL P95": f"{span(found.speed.itl_tail)} × {margin:.3f} = {span(found.speed.itl_tail * margin)}, within 50 ms",
    }
    assert replicas == found.replicas
    assert hourly == pytest.approx(found.hourly)
    assert found.speed.ttft_tail * margin <= 0.5
    assert found.speed.itl_tail * margin <= 0.05
    compare(request, "optimize.md", "figures", "".join(f"{name:<18} {value}\n" for name, value in rows.items()))


def test_what_is_said_where_nobody_can(request: pytest.FixtureRequest) -> None:
    outcome = optimize(LLAMA_8B, IMPOSSIBLE)
    assert outcome.best is None
    said = textwrap.fill(f"tokenfleet: {nobody(outcome, IMPOSSIBLE)}", 140)
    compare(request, "optimize.md", "nobody", f"{said}\n")
