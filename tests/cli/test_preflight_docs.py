"""docs/preflight.md: its worked example, computed anew."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from e2e.bench.planning_models import LLAMA_8B
from tests.planning.optimize.documents import DOCS, compare
from tokenfleet.cli.main import app
from tokenfleet.cli.plan.review import Review
from tokenfleet.cli.plan.telling import tell
from tokenfleet.planning.capacity import Quota, capacity
from tokenfleet.planning.placement import Demand, Node

GPU = "nvidia.com/gpu"
L40S = {"nvidia.com/gpu.product": "NVIDIA-L40S"}
TERM = {"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L40S"]}]}


def example() -> str:
    """The file that the page begins with."""
    return (DOCS / "preflight.md").read_text().split("```yaml\n", 1)[1].split("```", 1)[0]


def test_the_example_offline(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("llm.yaml").write_text(example())
    Path("model.json").write_text(json.dumps(LLAMA_8B.as_json()))
    words = ["plan", "-f", "llm.yaml", "--offline", "--no-diff", "--rate", "4", "--model", "model.json"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.exception
    compare(request, "preflight.md", "offline", shown.stdout)


def test_the_example_s_devices(request: pytest.FixtureRequest) -> None:
    """Eight GPUs a node: three of one are free, another is cordoned, and of the quota two are left."""
    nodes = [
        Node(name="gpu-1", labels=L40S, allocatable={GPU: 8}, used={GPU: 5}),
        Node(name="gpu-2", labels=L40S, allocatable={GPU: 8}, cordoned=True),
    ]
    waiting = [Demand(requests={GPU: 1}, terms=[TERM])]
    demand = Demand(requests={GPU: 1}, terms=[TERM])
    quotas = [Quota(name="team", left={f"requests.{GPU}": 1})]
    found = capacity(demand, resource=GPU, wanted=2, nodes=nodes, pending=waiting, quotas=quotas)
    risk = f"{found.startable} of 2 replicas can start now. {' '.join(found.waits_for)}"
    review = Review(kind="LLMDeployment", namespace="default", name="chat", where="llm.yaml:1", capacity=found, risks=[risk])
    console = Console(file=io.StringIO(), width=1000, highlight=False)
    tell(console, [review], [], diff=False)
    compare(request, "preflight.md", "devices", console.file.getvalue())  # type: ignore[attr-defined]
