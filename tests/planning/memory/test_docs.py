"""The numbers of docs/memory.md, computed anew."""

import re
from itertools import takewhile
from pathlib import Path

import pytest

from tests.planning.memory.known import CPU, GIB, H100, L4, facts, serving
from tests.planning.memory.test_caches import ASKED
from tests.planning.models.documents import CONFIGS, plain
from tokenfleet.planning.memory import Memory, estimate_memory
from tokenfleet.planning.memory.working import cuda_memory
from tokenfleet.planning.model_facts import facts_of

DOCS = (Path(__file__).parents[3] / "docs" / "memory.md").read_text()


def _table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    section = DOCS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = takewhile(lambda line: line, section[section.index("\n|") + 1 :].splitlines())
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in list(rows)[2:]]


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _example(memory: Memory) -> dict[str, float]:
    return {
        "memory": memory.device,
        "what CUDA has of it": cuda_memory(memory.device),
        "of which vLLM may take": memory.usable,
        "weights": memory.weights,
        "activations": memory.activations,
        "CUDA graphs": memory.graphs,
        "runtime": memory.runtime,
        "left for the KV cache": memory.kv_cache,
        "of a token": memory.kv_bytes_per_token,
        "tokens": memory.kv_tokens,
        "sequences of 16,384 tokens": round(memory.max_concurrency, 2),
    }


@pytest.mark.parametrize(("column", "accelerator"), [pytest.param(1, L4, id="L4"), pytest.param(2, H100, id="H100")])
def test_the_worked_example(column: int, accelerator: str) -> None:
    said = {row[0]: _number(row[column]) for row in _table("A worked example")}
    assert said == _example(estimate_memory(facts("Llama-3.1-8B"), serving(accelerator, max_model_len=16_384)))


def test_what_a_token_takes_of_well_known_models() -> None:
    said = {row[0]: _number(row[2]) for row in _table("What a token takes")}
    found = {}
    for name in said:
        model = facts_of(plain(CONFIGS[name], [("model.layers.*.mlp.up_proj.weight", (64, 64), 48)]))
        found[name] = estimate_memory(model, serving("nvidia-b200-180gb")).kv_bytes_per_token
    assert found == said


def test_the_advice_for_a_small_gpu() -> None:
    memory = estimate_memory(facts("Llama-3.1-8B"), serving(L4))
    section = DOCS.partition("## Where it does not fit")[2].partition("```\n\n")[0]
    assert tuple(re.findall(r"^  - (.+)$", section, re.MULTILINE)) == memory.fixes
    assert f"{memory.shortage / GIB:.2f} GiB are missing" in section


def test_the_log_of_another_machine() -> None:
    memory = estimate_memory(facts("gpt-oss-20b"), serving("nvidia-a100-80gb", utilization=0.65, eager=True))
    planned, found = memory.kv_cache / GIB, 36.56
    assert f"{planned:.2f} GiB are planned and {found:.2f} GiB were found: {planned / found - 1:.1%} too many" in DOCS.replace(
        " %", "%"
    ).replace("\n", " ")


def test_the_kinds_of_models_that_vllm_was_asked_about() -> None:
    said = [(_number(row[1]), _number(row[2]), row[3]) for row in _table("How far off it is")]
    planned = [estimate_memory(model, serving(CPU)).kv_tokens for model, _ in ASKED.values()]
    assert said == [
        (ours, theirs, f"{ours / theirs - 1:.2%}".replace("%", " %"))
        for ours, (_, theirs) in zip(planned, ASKED.values(), strict=True)
    ]


def test_a_kv_cache_on_a_cpu_has_a_gibibyte() -> None:
    memory = estimate_memory(facts("Qwen3-0.6B"), serving(CPU))
    assert memory.kv_cache == GIB
    assert memory.runtime == 2 * GIB
