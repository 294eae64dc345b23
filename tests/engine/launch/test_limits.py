"""What the flags ask of a model that it cannot give."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.models import KNOWN, make_model
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.limits import check_limits, check_room, count
from tokenfleet_engine.launch.model_files import inspect_model
from tokenfleet_engine.launch.user_flags import read_flags


def _check(path: Path, *flags: str, environment: dict[str, str] | None = None) -> None:
    check_limits(inspect_model(path), user=read_flags(flags, known=None), known=KNOWN, environment=environment or {})


@pytest.mark.parametrize(
    ("config", "flags", "reason", "message"),
    [
        pytest.param(
            {}, ("--max-model-len", "4096"), contract.REASON_ENGINE_CONFIG_INVALID,
            "maxModelLen is 4096, and {path} was made for sequences of 2048 tokens at most. Set maxModelLen to 2048 or less.",
            id="a longer context than the model's",
        ),
        pytest.param(
            {"rope_scaling": {"type": "linear", "factor": 2.0}}, ("--max-model-len", "4097"),
            contract.REASON_ENGINE_CONFIG_INVALID, "sequences of 4096 tokens", id="longer than scaled",
        ),
        pytest.param(
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, ("--max-model-len", "3k"),
            contract.REASON_ENGINE_CONFIG_INVALID, "maxModelLen is 3000", id="a length that is scaled already",
        ),
        pytest.param(
            {}, ("-tp", "3"), contract.REASON_ENGINE_CONFIG_INVALID,
            "parallelism.tensor is 3, and the model's 4 attention heads do not divide by it. Set it to one of 1, 2, 4.",
            id="cards that do not divide the heads",
        ),
        pytest.param(
            {"architectures": ["NobodyForCausalLM"]}, (), contract.REASON_MODEL_INVALID,
            "vLLM 0.32.0 does not know the architecture NobodyForCausalLM of {path}. Choose another model, or an engine image "
            "with a vLLM that knows it.",
            id="an architecture that nobody knows",
        ),
        pytest.param(
            {"architectures": ["MPTForCausalLM"]}, (), contract.REASON_MODEL_INVALID, "vLLM dropped it after 0.28.0",
            id="an architecture that vLLM knows no more",
        ),
        pytest.param(
            {"intermediate_size": 6}, (), contract.REASON_MODEL_INVALID,
            "config.json and the weights in {path} belong to different models: intermediate_size is 6 in the one and 12 in the "
            "others. Copy them all from one.",
            id="a configuration of another model",
        ),
        pytest.param({"num_hidden_layers": 2}, (), contract.REASON_MODEL_INVALID, "num_hidden_layers is 2", id="more layers"),
        pytest.param({"vocab_size": 32}, (), contract.REASON_MODEL_INVALID, "vocab_size is 32", id="another vocabulary"),
        pytest.param({"hidden_size": 4}, (), contract.REASON_MODEL_INVALID, "hidden_size is 4", id="another width"),
    ],
)  # fmt: skip
def test_what_vllm_would_refuse_later_is_refused_at_once(
    tmp_path: Path, config: dict[str, Any], flags: tuple[str, ...], reason: str, message: str
) -> None:
    path = make_model(tmp_path / "m", **config)
    with pytest.raises(EngineFailure) as failure:
        _check(path, *flags)
    assert failure.value.reason == reason
    assert message.format(path=path) in failure.value.message


@pytest.mark.parametrize(
    ("config", "flags", "environment"),
    [
        pytest.param({}, ("--max-model-len", "2048", "-tp", "2"), {}, id="all that the model gives"),
        pytest.param({}, ("--max-model-len", "-1"), {}, id="as long as there is room"),
        pytest.param({}, ("--max-model-len", "auto"), {}, id="as long as there is room, in a word"),
        pytest.param({"model_max_length": 8192}, ("--max-model-len", "8192"), {}, id="a longer length of its own"),
        pytest.param(
            {"rope_parameters": {"full": {"rope_type": "dynamic", "factor": 4}}}, ("--max-model-len", "8k"), {},
            id="scaled for some layers",
        ),
        pytest.param({"max_position_embeddings": None}, ("--max-model-len", "9999"), {}, id="a model that states no length"),
        pytest.param({}, ("--max-model-len", "4096"), {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}, id="longer on purpose"),
        pytest.param({}, ("--max-model-len", "4096", "--hf-overrides", "{{}}"), {}, id="a configuration that is changed later"),
        pytest.param({"architectures": ["MineForCausalLM"], "auto_map": {}}, (), {}, id="a model with code of its own"),
        pytest.param({"architectures": ["MineForCausalLM"]}, ("--trust-remote-code",), {}, id="code that is trusted"),
        pytest.param({"vocab_size": 32, "quantization_config": {}}, (), {}, id="packed weights are not compared"),
    ],
)  # fmt: skip
def test_what_vllm_may_take_passes(
    tmp_path: Path, config: dict[str, Any], flags: tuple[str, ...], environment: dict[str, str]
) -> None:
    _check(make_model(tmp_path / "m", **config), *flags, environment=environment)


def _room(path: Path, cache_bytes: int, *flags: str) -> None:
    check_room(inspect_model(path), cache_bytes=cache_bytes, user=read_flags(flags, known=None))


PER_TOKEN = 1 * 2 * 2 * 2 * 2
"""Layers, keys and values, heads, their size, bytes."""


@pytest.mark.parametrize(
    ("flags", "cache", "message"),
    [
        pytest.param(
            ("--max-model-len", "2048"), 1024 * PER_TOKEN,
            "One sequence of 2048 tokens needs 0.0 MiB of KV cache, and there is 0.0 MiB. Set maxModelLen to 896 or less, or "
            "give the pod more memory (engine.resources, or --kv-cache-memory-bytes where extraArgs sets it).",
            id="a length that is asked for",
        ),
        pytest.param((), 2047 * PER_TOKEN, "One sequence of 2048 tokens", id="the model's own length"),
        pytest.param(("--block-size", "32"), 1024 * PER_TOKEN, "maxModelLen to 992 or less", id="smaller blocks"),
        pytest.param(("--dtype", "float32"), 2048 * PER_TOKEN, "maxModelLen to 896 or less", id="larger numbers"),
        pytest.param(("--kv-cache-dtype", "fp8"), 512 * PER_TOKEN, "maxModelLen to 896 or less", id="smaller numbers"),
        pytest.param((), 100, "Give the pod more memory", id="no room for a block"),
    ],
)  # fmt: skip
def test_a_sequence_that_finds_no_room(tmp_path: Path, flags: tuple[str, ...], cache: int, message: str) -> None:
    with pytest.raises(EngineFailure) as failure:
        _room(make_model(tmp_path / "m"), cache, *flags)
    assert failure.value.reason == contract.REASON_OUT_OF_MEMORY
    assert message in failure.value.message


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        pytest.param({"sliding_window": 128}, (), id="layers that forget"),
        pytest.param({"layer_types": ["sliding_attention"]}, (), id="some layers that forget"),
        pytest.param({"architectures": ["DeepseekV3ForCausalLM"]}, (), id="a cache of another kind"),
        pytest.param({}, ("-tp", "2"), id="several cards"),
        pytest.param({}, ("--max-model-len", "-1"), id="as long as there is room"),
        pytest.param({}, ("--kv-cache-dtype", "nvfp4"), id="numbers of a size that we do not know"),
        pytest.param({"torch_dtype": None}, (), id="a model that does not say its own"),
    ],
)
def test_where_it_is_not_sure_it_is_left_to_vllm(tmp_path: Path, config: dict[str, Any], flags: tuple[str, ...]) -> None:
    _room(make_model(tmp_path / "m", **config), 100, *flags)


@pytest.mark.parametrize("config", [{"sliding_window": 128, "use_sliding_window": False}, {"layer_types": ["full_attention"]}])
def test_layers_that_could_forget_and_do_not(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(EngineFailure, match="One sequence of 2048 tokens"):
        _room(make_model(tmp_path / "m", **config), 100)


@pytest.mark.parametrize(
    ("text", "number"),
    [("512", 512), ("4k", 4000), ("4K", 4096), ("1.5k", 1500), ("-1", None), ("auto", None), ("", None), (None, None)],
)
def test_numbers_as_vllm_reads_them(text: str | None, number: int | None) -> None:
    assert count(text) == number
