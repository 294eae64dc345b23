"""Flags behind `--`: what they mean, and what is said of those that make no sense."""

import json
from pathlib import Path

import pytest

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.simulation.faults import Orders
from tokenfleet_engine.simulation.scheduler import Limits
from tokenfleet_engine.simulation.settings import read_settings
from tokenfleet_engine.simulation.timing import Coefficients, Timing, Work, read_timing


def test_without_flags() -> None:
    settings = read_settings([])
    assert settings.limits == Limits(max_num_seqs=256, max_num_batched_tokens=8192, block_size=16, blocks=8192)
    assert settings.orders == Orders()
    assert settings.timing.fitted["model"] == "tokenfleet-demo"


def test_flags_that_a_deployment_gives() -> None:
    settings = read_settings(
        [
            "--max-model-len", "512", "--max-num-seqs=8", "--max-num-batched-tokens", "256", "--block-size", "32",
            "--no-enable-prefix-caching", "--dtype", "auto", "--gpu-memory-utilization", "0.9",
        ]
    )  # fmt: skip
    assert settings.max_model_len == 512
    assert settings.limits == Limits(8, 256, 32, 4096, prefix_caching=False)
    assert settings.ignored == ("--dtype", "--gpu-memory-utilization")


def test_a_constant_timing() -> None:
    settings = read_settings(["--ttft-ms", "260", "--itl-ms", "30", "--max-num-batched-tokens", "512"])
    assert settings.timing.seconds.step == 0.03
    assert settings.timing.seconds == Coefficients(step=0.03, prompt_token=settings.timing.seconds.prompt_token)
    assert settings.timing.seconds.prompt_token == pytest.approx((0.26 - 2 * 0.03) / 1000)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param("--nonsense", "unrecognized arguments: --nonsense. It knows --abort-rate, --answer-tokens", id="unknown"),
        pytest.param("--max-num", "unrecognized arguments: --max-num", id="a flag cut short"),
        pytest.param("--max-num-seqs 0", "--max-num-seqs: 0 is less than 1", id="no place"),
        pytest.param("--fail-rate 2", "--fail-rate: 2 is no share from 0 to 1", id="more than all"),
        pytest.param("--startup-seconds inf", "--startup-seconds: inf is no number from 0", id="for ever"),
        pytest.param("--speed 0", "give a factor above 0", id="no speed"),
        pytest.param("--kv-tokens 1000", "room for 992 tokens and one sequence may have 8192", id="a cache below one sequence"),
        pytest.param(
            "--no-enable-chunked-prefill --max-num-batched-tokens 512", "is less than --max-model-len 8192",
            id="a prompt that no step can read",
        ),
        pytest.param("--ttft-ms 100", "--ttft-ms and --itl-ms belong together", id="half of a timing"),
        pytest.param("--ttft-ms 5 --itl-ms 10", "--ttft-ms 5 is less than the 1 step(s) of --itl-ms 10", id="too quick"),
        pytest.param("--timing /nowhere.json", "/nowhere.json is no timing file (FileNotFoundError", id="no such timing"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(flags: str, message: str) -> None:
    with pytest.raises(EngineFailure) as failure:
        read_settings(flags.split())
    assert failure.value.reason == contract.REASON_ENGINE_CONFIG_INVALID
    assert message in failure.value.message


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param({"nonsense": 1.0}, id="an unknown coefficient"),
        pytest.param({"step": -1.0}, id="less than nothing"),
        pytest.param({"step": "soon"}, id="no number"),
        pytest.param([], id="no table"),
    ],
)
def test_a_timing_file_that_is_none_is_refused(tmp_path: Path, seconds: object) -> None:
    path = tmp_path / "timing.json"
    path.write_text(json.dumps({"seconds": seconds}))
    with pytest.raises(EngineFailure, match="is no timing file"):
        read_timing(path)


def test_a_timing_is_read_as_it_was_written(tmp_path: Path) -> None:
    timing = Timing(Coefficients(request=0.004, step=0.01, decode=0.001), {"model": "demo", "hardware": "a card"})
    timing.write(tmp_path / "timing.json")
    assert read_timing(tmp_path / "timing.json") == timing


def test_a_step_costs_what_is_in_it() -> None:
    coefficients = Coefficients(request=99, step=1, decode=2, context_token=3, prompt_token=5, attended_token=7)
    work = Work(decodes=10, context_tokens=100, prompt_tokens=1000, attended_tokens=10000)
    assert coefficients.seconds(work) == 1 + 20 + 300 + 5000 + 70000
    assert coefficients.scaled(0.5).seconds(work) == coefficients.seconds(work) / 2
