"""What of the spec reaches the engine's command line."""

import json
from typing import Any

import pytest

from tests.controller.objects import llm_deployment, spec_of
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.disaggregation import DECODE, PREFILL, Part
from tokenfleet.controller.resources.engine_command import engine_arguments, model_claim, model_path
from tokenfleet.planning.accelerators import find_accelerator

OWN = ["serve", "--model", "/models/llama", "--served-name", "llama", "--port", "8000", "--drain-seconds", "600", "--"]
DEFAULTS = [
    *("--kv-cache-memory-bytes", "1073741824", "--dtype", "auto", "--enable-chunked-prefill", "--enable-prefix-caching"),
]


def arguments(**spec: Any) -> list[str]:
    parsed = spec_of(llm_deployment(**spec))
    return engine_arguments("llama", parsed, find_accelerator(parsed.accelerator))


def test_the_smallest_spec_passes_only_what_the_crd_defaults() -> None:
    assert arguments() == [*OWN, *DEFAULTS]


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        pytest.param({"dtype": "float16"}, ["--dtype", "float16"], id="dtype"),
        pytest.param({"maxModelLen": 4096}, ["--max-model-len", "4096"], id="maxModelLen"),
        pytest.param({"batching": {"maxNumSeqs": 9}}, ["--max-num-seqs", "9"], id="maxNumSeqs"),
        pytest.param({"batching": {"maxNumBatchedTokens": 9}}, ["--max-num-batched-tokens", "9"], id="maxNumBatchedTokens"),
        pytest.param({"batching": {"chunkedPrefill": False}}, ["--no-enable-chunked-prefill"], id="chunkedPrefill off"),
        pytest.param({"prefixCaching": False}, ["--no-enable-prefix-caching"], id="prefixCaching off"),
    ],
)
def test_a_field_is_a_flag(engine: Json, flags: list[str]) -> None:
    made = arguments(engine=engine)
    at = made.index(flags[0])
    assert made[at : at + len(flags)] == flags


def test_a_gpu_gives_vllm_its_share_and_a_cpu_a_fixed_size() -> None:
    on_gpu = arguments(accelerator="nvidia", engine={"gpuMemoryUtilization": "0.5"})
    assert on_gpu[on_gpu.index("--gpu-memory-utilization") + 1] == "0.5"
    assert "--kv-cache-memory-bytes" not in on_gpu
    assert "--gpu-memory-utilization" not in arguments(engine={"gpuMemoryUtilization": "0.5"})


def test_parallelism_is_passed_where_there_is_any() -> None:
    made = arguments(accelerator="nvidia", parallelism={"tensor": 4, "pipeline": 2})
    assert made[-4:] == ["--tensor-parallel-size", "4", "--pipeline-parallel-size", "2"]


def test_extra_arguments_come_last_so_that_they_win() -> None:
    assert arguments(engine={"extraArgs": ["--dtype", "float32", "-q"]})[-3:] == ["--dtype", "float32", "-q"]


def test_the_served_name_is_the_users_where_there_is_one() -> None:
    made = arguments(model={"source": "pvc://weights/llama", "servedName": "meta/llama"})
    assert made[made.index("--served-name") + 1] == "meta/llama"


@pytest.mark.parametrize(
    ("source", "claim", "path"),
    [
        pytest.param("pvc://weights/org/llama", "weights", "/models/org/llama", id="a folder in a claim"),
        pytest.param("pvc://weights", "weights", "/models", id="a whole claim"),
    ],
)
def test_a_source_is_a_claim_and_a_path(source: str, claim: str, path: str) -> None:
    assert (model_claim(source), model_path(source)) == (claim, path)


@pytest.mark.parametrize(
    ("part", "role"),
    [
        pytest.param(DECODE, "kv_consumer", id="who answers fetches KV blocks"),
        pytest.param(PREFILL, "kv_producer", id="who reads prompts keeps them"),
    ],
)
def test_a_disaggregated_engine_knows_its_part_and_reads_a_prompt_that_it_cannot_fetch(part: Part, role: str) -> None:
    parsed = spec_of(llm_deployment(disaggregation={}, engine={"extraArgs": ["-q"]}))
    *_, flag, transfer, last = engine_arguments("llama", parsed, find_accelerator("cpu"), part)
    assert (flag, last) == ("--kv-transfer-config", "-q")
    expected = {"kv_connector": "NixlConnector", "kv_role": role, "kv_load_failure_policy": "recompute"}
    assert json.loads(transfer) == expected
