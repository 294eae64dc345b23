"""What the benchmark of memory plans reads and compares: all of it that needs neither a cluster nor vLLM."""

import ast
import json
from pathlib import Path

import pytest

from e2e.bench import planning_memory
from e2e.bench.engines import build_deployment
from e2e.model import objects
from tests.planning.memory.test_caches import ASKED
from tests.planning.models.documents import document
from tokenfleet import contract

KINDS = Path(objects.__file__).with_name("kinds.py")


def test_it_asks_for_every_model_that_is_made() -> None:
    made = next(
        node.value
        for node in ast.parse(KINDS.read_text()).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "KINDS"
    )
    assert isinstance(made, ast.Dict)
    names = tuple(key.value for key in made.keys if isinstance(key, ast.Constant))
    assert names == planning_memory.MODELS == tuple(ASKED)


def test_its_sources_fit_into_a_config_map() -> None:
    data = objects.build_sources(objects.KINDS)["data"]
    assert set(data) == {"kinds.py", "train.py", "corpus.txt"}
    assert sum(len(text.encode()) for text in data.values()) < 900_000


@pytest.mark.parametrize(
    "log",
    [
        pytest.param("(EngineCore pid=1) INFO CPU KV cache size: 1,048,576 tokens, Maximum concurrency", id="on a CPU"),
        pytest.param("GPU KV cache size: 16 tokens\nGPU KV cache size: 1,048,576 tokens", id="the last start counts"),
    ],
)
def test_vllms_log_says_how_many_tokens(log: str) -> None:
    assert planning_memory._measured(log) == 1_048_576


def test_a_log_without_it_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="does not say how large its KV cache is"):
        planning_memory._measured("Application startup complete.")


def test_the_plan_is_that_of_the_pods_line_and_the_spec() -> None:
    """1 GiB, as an engine on a CPU has, of 131,072 bytes a token."""
    line = f"starting\n{contract.INSPECTION_PREFIX}{json.dumps({'model': document('Llama-3.1-8B'), 'draft': None})}\n"
    body = build_deployment("kind-llama", {"maxModelLen": 4096})
    assert planning_memory._predicted(line, body) == (1 << 30) // 131_072
