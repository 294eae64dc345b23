"""LoRA adapters before vLLM sees them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.models import make_adapter, make_model
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.adapters import RANKS, Adapters, inspect_adapters
from tokenfleet_engine.launch.model_files import Model, inspect_model
from tokenfleet_engine.launch.user_flags import UserFlags, read_flags


@pytest.fixture
def llama(tmp_path: Path) -> Model:
    return inspect_model(make_model(tmp_path / "models" / "llama"))


def _inspect(model: Model, *given: str, cpu: bool = False, user: UserFlags | None = None) -> Adapters:
    return inspect_adapters(given, model=model, served_name="llama", cpu=cpu, user=user or UserFlags())


def test_the_flags_for_several_adapters(llama: Model, tmp_path: Path) -> None:
    first, second = make_adapter(tmp_path / "a", rank=3), make_adapter(tmp_path / "b", rank=24, out=4, module="v_proj")
    adapters = _inspect(llama, f"one={first}", f"two={second}")
    assert adapters.flags(UserFlags()) == (
        "--enable-lora", "--max-lora-rank", "32", "--max-loras", "2", "--max-cpu-loras", "2",
        "--lora-modules", json.dumps({"name": "one", "path": str(first)}), json.dumps({"name": "two", "path": str(second)}),
    )  # fmt: skip
    assert adapters.describe() == "one (rank 3), two (rank 24)"


def test_no_adapter_needs_no_flag(llama: Model) -> None:
    assert _inspect(llama).flags(UserFlags()) == ()


def test_all_adapters_stay_in_memory_though_only_some_fit_into_a_batch(llama: Model, tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "a")
    adapters = _inspect(llama, *(f"n{number}={path}" for number in range(10)))
    flags = adapters.flags(UserFlags())
    assert flags[3:7] == ("--max-loras", "8", "--max-cpu-loras", "10")
    assert adapters.flags(read_flags(["--max-loras", "12"], known=None))[3:7] == ("--max-loras", "12", "--max-cpu-loras", "12")


def test_on_a_cpu_one_place_stays_empty_for_what_asks_for_no_adapter(llama: Model, tmp_path: Path) -> None:
    each = [f"n{number}={make_adapter(tmp_path / str(number))}" for number in range(10)]
    assert _inspect(llama, *each, cpu=True).flags(UserFlags())[3:7] == ("--max-loras", "11", "--max-cpu-loras", "11")
    with pytest.raises(EngineFailure, match="one place more than there are adapters") as refused:
        _inspect(llama, *each, cpu=True, user=read_flags(["--max-loras", "10"], known=None))
    assert refused.value.reason == contract.REASON_ENGINE_CONFIG_INVALID


@pytest.mark.parametrize(("rank", "taken"), [(1, 1), (2, 8), (8, 8), (9, 16), (257, 320), (512, 512)])
def test_the_rank_is_the_next_that_vllm_takes(llama: Model, tmp_path: Path, rank: int, taken: int) -> None:
    assert taken in RANKS
    assert _inspect(llama, f"a={make_adapter(tmp_path / 'a', rank=rank)}").rank == taken


def test_the_highest_rank_of_a_module_counts(llama: Model, tmp_path: Path) -> None:
    assert _inspect(llama, f"a={make_adapter(tmp_path / 'a', rank=8, rank_pattern={'v_proj': 60})}").rank == 64


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: make_adapter(path, rank=513), "has rank 513, and vLLM takes 512 at most", id="rank too high"),
        pytest.param(lambda path: make_adapter(path, rank=0), "a rank that is no whole number above 0", id="no rank at all"),
        pytest.param(lambda path: make_adapter(path, r=...), "does not say r, which vLLM needs", id="a rank that is not said"),
        pytest.param(lambda path: make_adapter(path, peft_type="IA3"), "is of the kind IA3, and vLLM takes LORA", id="no LoRA"),
        pytest.param(lambda path: make_adapter(path, use_dora=True), "uses use_dora=true, which vLLM cannot run", id="DoRA"),
        pytest.param(lambda path: make_adapter(path, bias="all"), 'uses bias="all"', id="a bias"),
        pytest.param(
            lambda path: make_adapter(path, modules_to_save=["embed_tokens"]), 'uses modules_to_save=["embed_tokens"]',
            id="whole modules beside the adapter's",
        ),
        pytest.param(
            lambda path: make_adapter(path, width=16),
            "q_proj.lora_A.weight is 8×16, and model.layers.0.self_attn.q_proj of", id="of a wider model",
        ),
        pytest.param(lambda path: make_adapter(path, out=32), "lora_B.weight is 32×8", id="of a model with more heads"),
        pytest.param(
            lambda path: make_adapter(path, module="c_attn"), "it changes c_attn, and LlamaForCausalLM", id="of another family"
        ),
        pytest.param(
            lambda path: (make_adapter(path) / "adapter_config.json").write_text("{"),
            "adapter_config.json is not valid JSON", id="a configuration that is cut off",
        ),
        pytest.param(
            lambda path: (make_adapter(path) / "adapter_config.json").unlink(),
            "no adapter_config.json in", id="no configuration",
        ),
        pytest.param(make_model, "It holds a whole model; an adapter belongs here.", id="a whole model"),
        pytest.param(
            lambda path: (make_adapter(path) / "adapter_model.safetensors").unlink(), "has no weights", id="no weights"
        ),
        pytest.param(
            lambda path: (make_adapter(path) / "adapter_model.safetensors").write_bytes(b"abc"), "is damaged", id="cut off"
        ),
    ],
)  # fmt: skip
def test_what_vllm_would_refuse_at_the_end_is_refused_at_once(
    llama: Model, tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "a")
    with pytest.raises(EngineFailure) as failure:
        _inspect(llama, f"mine={tmp_path / 'a'}")
    assert failure.value.reason == contract.REASON_MODEL_INVALID
    assert words in failure.value.message


def test_an_adapter_that_is_not_there(llama: Model, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=f"There is no {tmp_path}/a. {tmp_path} holds: models/.") as failure:
        _inspect(llama, f"mine={tmp_path / 'a'}")
    assert failure.value.reason == contract.REASON_MODEL_NOT_FOUND


@pytest.mark.parametrize("names", [("llama",), ("one", "one")], ids=["the model's", "another adapter's"])
def test_a_name_that_is_taken(llama: Model, tmp_path: Path, names: tuple[str, ...]) -> None:
    path = make_adapter(tmp_path / "a")
    with pytest.raises(EngineFailure, match="is taken twice") as failure:
        _inspect(llama, *(f"{name}={path}" for name in names))
    assert failure.value.reason == contract.REASON_ENGINE_CONFIG_INVALID


@pytest.mark.parametrize("given", ["name", "name=", "=/path"])
def test_an_adapter_needs_a_name_and_a_path(llama: Model, given: str) -> None:
    with pytest.raises(EngineFailure, match="takes NAME=PATH"):
        _inspect(llama, given)


def test_a_rank_that_the_users_flag_forbids(llama: Model, tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "a", rank=24)
    with pytest.raises(EngineFailure, match=r"has rank 24, and extraArgs allows 16 \(--max-lora-rank\)"):
        _inspect(llama, f"a={path}", user=read_flags(["--max-lora-rank", "16"], known=None))


def test_a_quantised_model_is_compared_no_further_than_its_tensors_allow(tmp_path: Path) -> None:
    shapes = {"model.layers.0.self_attn.q_proj.qweight": (1, 8), "model.embed_tokens.weight": (16, 8)}
    model = inspect_model(make_model(tmp_path / "awq", shapes=shapes, quantization_config={"quant_method": "awq"}))
    assert _inspect(model, f"a={make_adapter(tmp_path / 'a', width=16)}").each[0].rank == 8
