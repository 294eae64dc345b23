"""Flags, environment and vLLM's errors, without vLLM."""

import os
import subprocess
import sys

import pytest

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.profiling import starting


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        pytest.param("--model=/x", "it stands before --", id="the model is not the flags' to say"),
        pytest.param("-dp", "one engine is measured at a time", id="several engines"),
        pytest.param("--pipeline_parallel_size=2", "several steps are under way at once", id="a pipeline, with underscores"),
    ],
)
def test_flags_that_cannot_be_profiled_are_refused_with_the_reason(flag: str, words: str) -> None:
    with pytest.raises(EngineFailure) as caught:
        starting.check_flags(["--max-model-len", "512", flag])
    assert caught.value.reason == contract.REASON_ENGINE_CONFIG_INVALID
    assert words in caught.value.message


def flags(*given: str, cpu: bool = True, compiler: bool = False, cache_chosen: bool = False) -> list[str]:
    return starting.all_flags(given, model="/m", cpu=cpu, compiler=compiler, cache_chosen=cache_chosen)


def test_on_a_gpu_only_what_makes_steps_measurable_is_added() -> None:
    own = ["--no-enable-prefix-caching", "--no-async-scheduling", "--disable-log-stats"]
    assert flags("--dtype", "auto", cpu=False) == ["--model", "/m", "--dtype", "auto", *own]


def test_ours_come_last_and_win() -> None:
    given = flags("--enable-prefix-caching", cpu=False)
    assert given.index("--no-enable-prefix-caching") > given.index("--enable-prefix-caching")


@pytest.mark.parametrize(
    ("given", "kwargs", "eager", "cache"),
    [
        pytest.param([], {}, True, True, id="no compiler and no cache chosen"),
        pytest.param([], {"compiler": True}, False, True, id="a compiler"),
        pytest.param(["--kv-cache-memory-bytes=99"], {}, True, False, id="a cache by flag"),
        pytest.param([], {"cache_chosen": True}, True, False, id="a cache by environment"),
    ],
)
def test_on_a_cpu_what_the_image_lacks_is_added(given: list[str], kwargs: dict[str, bool], eager: bool, cache: bool) -> None:
    made = flags(*given, **kwargs)
    assert ("--enforce-eager" in made) is eager
    assert ("--kv-cache-memory-bytes" in made) is cache


def test_the_engine_runs_in_this_process_and_the_users_environment_wins() -> None:
    environment = {"VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    starting.prepare_environment(environment, cpu=True)
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert environment["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert int(environment["OMP_NUM_THREADS"]) >= 1


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        pytest.param(
            ValueError("Free memory on device cuda:0 (1.2/79.2 GiB) on startup is less than desired GPU memory utilization"),
            contract.REASON_OUT_OF_MEMORY, "Where an engine serves on the same device, it holds the memory",
            id="a device that another engine fills",
        ),
        pytest.param(
            RuntimeError("CUDA out of memory. Tried to allocate 14.00 GiB."),
            contract.REASON_OUT_OF_MEMORY, "Tried to allocate 14.00 GiB", id="a model too large for the device",
        ),
        pytest.param(
            ValueError("User-specified max_model_len (9999) is greater than the derived max_model_len (2048)"),
            contract.REASON_ENGINE_CONFIG_INVALID, "derived max_model_len (2048)", id="a context beyond the model's",
        ),
        pytest.param(
            KeyError("what"), contract.REASON_ENGINE_START_FAILED, "vLLM could not be profiled: KeyError: 'what'",
            id="what no row of the table knows",
        ),
    ],
)  # fmt: skip
def test_an_exception_of_vllms_becomes_one_sentence(error: Exception, reason: str, words: str) -> None:
    with pytest.raises(EngineFailure) as caught, starting.explained():
        raise error
    assert caught.value.reason == reason
    assert words in caught.value.message


def test_stdout_is_ours_alone() -> None:
    code = (
        "import os\nfrom tokenfleet_engine.profiling.starting import stdout_for_us\n"
        "with stdout_for_us():\n    print('from Python')\n    os.write(1, b'from native code')\nprint('the table')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "the table\n"
    assert "from Python" in done.stderr and "from native code" in done.stderr
