"""What of the spec reaches the engine's command line."""

import json
from typing import Any

import pytest

from tests.controller.objects import llm_deployment, spec_of
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.disaggregation import DECODE, PREFILL, Part
from tokenfleet.controller.resources.engine_command import engine_arguments
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
        pytest.param({"quantization": "fp8"}, ["--quantization", "fp8"], id="quantization"),
        pytest.param({"kvCache": {"dtype": "fp8"}}, ["--kv-cache-dtype", "fp8"], id="the type of keys and values"),
        pytest.param({"kvCache": {"blockSize": 32}}, ["--block-size", "32"], id="blockSize"),
        pytest.param({"kvCache": {"cpuOffload": "16Gi"}}, ["--kv-offloading-size", "16"], id="cpuOffload, in GiB"),
        pytest.param({"kvCache": {"cpuOffload": "512Mi"}}, ["--kv-offloading-size", "0.5"], id="half a GiB"),
        pytest.param(
            {"kvCache": {"cpuOffload": "20G"}}, ["--kv-offloading-size", "18.626451"], id="cpuOffload in powers of ten"
        ),
    ],
)
def test_a_field_is_a_flag(engine: Json, flags: list[str]) -> None:
    made = arguments(accelerator="nvidia", engine=engine)
    assert made.index("--") < made.index(flags[0])
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


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        pytest.param(
            {"speculative": {"method": "ngram", "numTokens": 3, "promptLookup": {"min": 2, "max": 4}}},
            ["--speculative", '{"method":"ngram","num_tokens":3,"prompt_lookup_min":2,"prompt_lookup_max":4}'],
            id="guesses out of the prompt",
        ),
        pytest.param(
            {"speculative": {"method": "draft", "draftModel": "pvc://weights/small"}},
            ["--draft-model", "/models/small", "--speculative", '{"method":"draft","num_tokens":5}'],
            id="guesses of a small model",
        ),
        pytest.param(
            {"admission": {"maxInFlight": 8, "maxWaiting": 1, "maxQueueSeconds": 2}},
            ["--max-in-flight", "8", "--max-waiting", "1", "--max-queue-seconds", "2"],
            id="bounds",
        ),
        pytest.param({"sleep": True}, ["--sleep"], id="sleep"),
    ],
)
def test_what_takes_more_than_a_flag_is_told_to_serve(engine: Json, words: list[str]) -> None:
    made = arguments(accelerator="nvidia", engine=engine)
    own = made[: made.index("--")]
    assert own == [*OWN[:-1], *words]


def test_each_adapter_is_told_with_its_files() -> None:
    adapters = [{"name": "sql", "source": "pvc://weights/sql"}, {"name": "org/b:2", "source": "pvc://other/b"}]
    made = arguments(model={"source": "pvc://weights/llama", "adapters": adapters})
    assert made[: made.index("--")] == [
        *OWN[:-1],
        *("--adapter", "sql=/models/sql"),
        *("--adapter", "org/b:2=/claims/other/b"),
    ]


def test_a_simulator_hears_of_names_and_batches_and_not_of_files_or_hardware() -> None:
    made = arguments(
        accelerator="simulated",
        model={"source": "hf://org/llama", "adapters": [{"name": "sql", "source": "s3://adapters/sql"}]},
        parallelism={"tensor": 2},
        engine={
            "quantization": "fp8",
            "kvCache": {"dtype": "fp8", "blockSize": 32},
            "maxModelLen": 4096,
            "batching": {"maxNumSeqs": 64},
            "speculative": {"method": "ngram"},
            "admission": {"maxInFlight": 8},
            "extraArgs": ["--seed=7"],
        },
    )
    assert made == [
        *("simulate", "--served-name", "llama", "--port", "8000", "--drain-seconds", "600"),
        *("--adapter", "sql=-", "--max-in-flight", "8", "--", "--block-size", "32"),
        *("--max-model-len", "4096", "--max-num-seqs", "64"),
        *("--enable-chunked-prefill", "--enable-prefix-caching", "--seed=7"),
    ]
