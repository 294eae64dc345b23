"""The flags behind `--`: read as vLLM's own parser reads them."""

import pytest

from tests.engine.models import KNOWN
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.user_flags import read_flags


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        pytest.param(["--max-model-len", "512"], "--max-model-len", "512", id="a flag and its value"),
        pytest.param(["--max-model-len=512"], "--max-model-len", "512", id="in one word"),
        pytest.param(["--max_model_len", "512"], "--max-model-len", "512", id="underscores"),
        pytest.param(["--max-model", "512"], "--max-model-len", "512", id="shortened"),
        pytest.param(["--max-model-len", "-1"], "--max-model-len", "-1", id="a negative number is a value"),
        pytest.param(["-tp", "2"], "--tensor-parallel-size", "2", id="a short name"),
        pytest.param(["-tp=2"], "--tensor-parallel-size", "2", id="a short name in one word"),
        pytest.param(["-tp", "2", "--tensor-parallel-size", "4"], "--tensor-parallel-size", "4", id="the last one holds"),
        pytest.param(["--compilation-config.mode", "3"], "--compilation-config", "3", id="a key of a JSON flag"),
        pytest.param(["--compilation_config.pass_config.x_y=1"], "--compilation-config", "1", id="a key below a key"),
        pytest.param(["-cc.mode=3"], "--compilation-config", "3", id="a key of a short name"),
        pytest.param(["-O3"], "--optimization-level", "3", id="-O with its number"),
        pytest.param(["-O", "3"], "--optimization-level", "3", id="-O and its number"),
        pytest.param(["--no-enable-lora"], "--enable-lora", "", id="a switch, off"),
        pytest.param(["--lora-modules", "a=b", "c=d"], "--lora-modules", "a=b c=d", id="several values"),
    ],
)
def test_every_spelling_that_vllm_takes(argv: list[str], name: str, value: str) -> None:
    user = read_flags(argv, known=KNOWN)
    assert user.has(name)
    assert user.value(name) == value
    assert user.argv == tuple(argv), "vLLM gets them as they were written"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(
            ["--max-modle-len", "5"],
            "vLLM 0.32.0 has no flag --max-modle-len; did you mean --max-model-len? Change extraArgs.",
            id="a slip of the finger",
        ),
        pytest.param(
            ["--max_modle_len=5"],
            "vLLM 0.32.0 has no flag --max-modle-len; did you mean --max-model-len? Change extraArgs.",
            id="a slip of the finger, with underscores",
        ),
        pytest.param(
            ["--zzz"],
            "vLLM 0.32.0 has no flag --zzz; `vllm serve --help=all` lists them. Change extraArgs.",
            id="nothing like it",
        ),
        pytest.param(
            ["--enforce-eager", "true"],
            "'true' in extraArgs belongs to no flag: vLLM's flags begin with -- and take their value behind them.",
            id="a value for a switch",
        ),
        pytest.param(
            ["--max-model-len"],
            "vLLM 0.32.0 refuses the flags: argument --max-model-len: expected one argument.",
            id="a flag without its value",
        ),
        pytest.param(
            ["--m", "5"],
            "vLLM 0.32.0 refuses the flags: ambiguous option: --m could match --max-model-len, --model.",
            id="shortened too far",
        ),
    ],
)
def test_what_vllm_would_not_take_is_refused_with_what_it_would(argv: list[str], message: str) -> None:
    with pytest.raises(EngineFailure) as failure:
        read_flags(argv, known=KNOWN)
    assert (failure.value.reason, failure.value.message) == (contract.REASON_ENGINE_CONFIG_INVALID, message)


@pytest.mark.parametrize(
    "argv", [["--port", "1"], ["--port=1"], ["--shutdown-timeout=0"], ["--api_server_count", "2"], ["-asc=2"]]
)
@pytest.mark.parametrize("known", [pytest.param(KNOWN, id="with a list"), pytest.param(None, id="without a list")])
def test_flags_that_would_break_the_fleet_are_refused_by_name(argv: list[str], known: object) -> None:
    with pytest.raises(EngineFailure, match="cannot be set in extraArgs") as failure:
        read_flags(["--max-model-len", "512", *argv], known=KNOWN if known else None)
    assert failure.value.reason == contract.REASON_ENGINE_CONFIG_INVALID


def test_a_shortened_name_of_such_a_flag_is_refused_too() -> None:
    with pytest.raises(EngineFailure, match="--shutdown-timeout cannot be set in extraArgs"):
        read_flags(["--shutdown", "0"], known=KNOWN)


def test_flags_in_a_file_are_refused_since_nobody_would_see_them() -> None:
    with pytest.raises(EngineFailure, match="--config cannot be set in extraArgs"):
        read_flags(["--config", "/f.yaml"], known=KNOWN)


def test_without_a_list_all_else_is_left_to_vllm() -> None:
    user = read_flags(["--zzz", "1", "--max-model-len", "512", "--max-mod", "5", "word"], known=None)
    assert user.value("--max-model-len") == "512"
