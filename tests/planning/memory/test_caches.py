"""What a token takes of the KV cache, and how many of them find room, as vLLM counts."""

from dataclasses import replace
from typing import Any, Final

import pytest

from tests.planning.memory.known import A100, B200, CPU, GIB, H100, facts, planned, serving
from tests.planning.models.documents import CONFIGS, plain
from tokenfleet.planning.memory import estimate_memory, sequences_at
from tokenfleet.planning.model import Attention, ModelFacts, Weights
from tokenfleet.planning.model_facts import facts_of


def _tiny(*attention: Attention, layers: int, hidden: int = 128) -> ModelFacts:
    weights = (Weights(part="layers", dtype="BF16", elements=100_000, bytes=200_000),)
    return ModelFacts(
        architecture="AnyForCausalLM", layers=layers, hidden_size=hidden, vocabulary=261, dtype="bfloat16",
        attention=attention, weights=weights, context_tokens=4096, intermediate_size=256,
    )  # fmt: skip


def _kept(layers: int, keeping: Any, heads: int, kv_heads: int, head_dim: int, **more: Any) -> Attention:
    return Attention(layers=layers, keeping=keeping, heads=heads, kv_heads=kv_heads, head_dim=head_dim, **more)


ASKED: Final = {
    # 4 layers · 2 sides · 2 heads · 32 numbers · 2 bytes = 1,024 B a token; 1 GiB holds 1,048,576
    "gqa": (_tiny(_kept(4, "full", 4, 2, 32), layers=4), 1_048_576),
    # 3 · 2 · 4 · 32 · 2 = 1,536 B; 1 GiB holds 5,461 blocks of 128 tokens
    "mha": (_tiny(_kept(3, "full", 4, 4, 32), layers=3), 699_008),
    # 5 · 2 · 1 · 64 · 2 = 1,280 B; 6,553 blocks
    "mqa": (_tiny(_kept(5, "full", 4, 1, 64), layers=5, hidden=256), 838_784),
    # 4 · 2 · 2 · 64 · 2 = 2,048 B, whatever the experts do
    "moe": (_tiny(_kept(4, "full", 4, 2, 64), layers=4), 524_288),
    # a sequence holds ⌈(255 + 2,048) / 128⌉ + 1 = 19 of 8,192 blocks: 8,192 / 19 · 4,096 tokens
    "sliding": (_tiny(_kept(4, "sliding", 4, 2, 32, window=256), layers=4), 1_766_022),
    # seven layers slide, one does not: eight groups of one layer; blocks of 32 KiB, 32 of them for the one and
    # ⌈(511 + 2,048) / 128⌉ + 1 = 21 for each of the seven: 32,768 / 179 · 4,096
    "interleaved": (
        _tiny(_kept(7, "sliding", 4, 1, 64, window=512), _kept(1, "full", 4, 1, 64), layers=8), 749_819,
    ),
    # 3 · 576 · 2 = 3,456 B, in blocks of 16
    "latent": (
        _tiny(_kept(3, "latent", 4, 1, 192, value_dim=128, latent_dim=576, rotary_dim=64), layers=3), 310_688,
    ),
}  # fmt: skip
"""The models of e2e/model/kinds.py, and the tokens that vLLM 0.32 says: on a CPU, 1 GiB, sequences of 4,096."""


@pytest.mark.parametrize("kind", ASKED)
def test_tokens_are_those_of_vllms_start_up_log(kind: str) -> None:
    model, tokens = ASKED[kind]
    assert estimate_memory(model, serving(CPU, kv_cache_bytes=GIB)).kv_tokens == tokens


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        # seven layers that slide and two that do not are groups of two: ⌈7 / 2⌉ = 4 and one; blocks of 64 KiB, 16,384 of them;
        # 24 for the one and ⌈(299 + 2,048) / 128⌉ + 1 = 20 for each of the others: 16,384 / 104 · 3,000
        pytest.param(
            _tiny(_kept(7, "sliding", 4, 1, 64, window=300), _kept(2, "full", 4, 1, 64), layers=9), 472_615,
            id="a group that is not filled",
        ),
        # five and four hardly differ, so there are two groups, of five; blocks of 160 KiB, 6,553 of them; 24 and
        # ⌈(511 + 2,048) / 128⌉ + 1 = 21: 6,553 / 45 · 3,000
        pytest.param(
            _tiny(_kept(5, "sliding", 4, 1, 64, window=512), _kept(4, "full", 4, 1, 64), layers=9), 436_866,
            id="kinds that are nearly as many",
        ),
        # a state of 3,072 B and, in float32, 65,536 B; a token of 512 B: so blocks are of 256 tokens; four groups of two
        # layers; blocks of 256 KiB, 4,096 of them; 12 for the layers that keep all, and two for each of three groups of states
        pytest.param(
            _tiny(
                _kept(6, "state", 0, 0, 0, state_bytes=35_840, state_bytes_float32=68_608), _kept(2, "full", 4, 2, 64), layers=8
            ),
            682_666, id="states beside layers that keep all",
        ),
    ],
)  # fmt: skip
def test_groups_are_filled_up_as_vllm_does(model: ModelFacts, tokens: int) -> None:
    """These, too, are what vLLM 0.32 said."""
    assert estimate_memory(model, serving(CPU, kv_cache_bytes=GIB, max_model_len=3000)).kv_tokens == tokens


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        pytest.param({}, 131_072, id="as the model computes"),
        pytest.param({"kv_dtype": "fp8"}, 65_536, id="a byte for each number"),
        pytest.param({"kv_dtype": "int8_per_token_head"}, 32 * 2 * 8 * (128 + 4), id="a scale for each head and side"),
        pytest.param({"kv_dtype": "int4_per_token_head"}, 32 * 2 * 8 * (64 + 4), id="half a byte, and a scale"),
        pytest.param({"kv_dtype": "nvfp4"}, 32 * 2 * 8 * (64 + 8), id="half a byte, and a scale for 16"),
        pytest.param({"dtype": "float32"}, 262_144, id="in float32"),
        pytest.param({"tensor": 4}, 32_768, id="two of eight heads on each device"),
        pytest.param({"tensor": 8}, 16_384, id="one head on each device"),
        pytest.param({"tensor": 16}, 16_384, id="more devices than heads: each head twice"),
        pytest.param({"pipeline": 2}, 65_536, id="half of the layers"),
    ],
)
def test_bytes_of_a_token_on_one_device(settings: dict[str, Any], size: int) -> None:
    assert planned("Llama-3.1-8B", H100, **settings).kv_bytes_per_token == size


@pytest.mark.parametrize("tensor", [1, 8])
def test_each_device_holds_the_whole_latent_vector(tensor: int) -> None:
    assert planned("DeepSeek-V3", B200, tensor=tensor).kv_bytes_per_token == (512 + 64) * 2 * 61


@pytest.mark.parametrize(
    ("name", "growth"),
    [
        pytest.param("Mistral-7B-v0.1", 0, id="all slide: a long sequence keeps what it has"),
        pytest.param("gpt-oss-20b", 12 * 2 * 8 * 64 * 2, id="half of the layers slide"),
        pytest.param("Gemma-3-27B", 10 * 2 * 16 * 128 * 2, id="one of six layers keeps all"),
        pytest.param("Llama-4-Scout", 48 * 2 * 8 * 128 * 2, id="chunks beside full layers keep all, which vLLM finds faster"),
    ],
)
def test_what_a_long_sequence_grows_by(name: str, growth: int) -> None:
    model = facts_of(plain(CONFIGS[name], [("model.layers.*.mlp.up_proj.weight", (64, 64), 48)]))
    assert estimate_memory(model, serving(A100, max_model_len=32_768)).kv_bytes_per_token == growth


def test_a_state_is_as_large_however_long_the_sequence() -> None:
    """24,576 numbers of convolution and 524,288 of recurrence, of 2 bytes: 1,097,728 B a layer, and a token's keys and values
    2 · 2 · 256 · 2 = 2,048 B. So blocks are of 16 · ⌈1,097,728 / 32,768⌉ = 544 tokens; 12 layers in each of four groups; one
    sequence of 54,400 tokens takes 100 blocks, and two states in each of three groups."""
    model = facts_of(plain(CONFIGS["Qwen3-Next-80B-A3B"], [("model.layers.*.mlp.up_proj.weight", (64, 64), 48)]))
    memory = estimate_memory(model, serving(H100, max_model_len=54_400))
    assert memory.block_size == 544
    blocks = memory.kv_cache // (12 * 544 * 2048)
    assert memory.max_concurrency == pytest.approx(blocks / (100 + 3 * 2))
    without = estimate_memory(model, serving(H100, max_model_len=54_400, prefix_caching=False))
    assert without.max_concurrency == pytest.approx(blocks / (100 + 3), rel=1e-3)


def test_shorter_sequences_are_more() -> None:
    model, setting = facts("Llama-3.1-8B"), serving(H100)
    memory = estimate_memory(model, setting)
    assert sequences_at(model, setting, memory, memory.max_model_len) == memory.max_concurrency
    assert sequences_at(model, setting, memory, 1024) == pytest.approx(memory.kv_tokens / 1024, rel=0.01)
    assert sequences_at(model, setting, memory, 1000) == sequences_at(model, setting, memory, 1008)  # whole blocks of 16


@pytest.mark.parametrize(
    ("name", "accelerator", "settings", "size"),
    [
        pytest.param("Llama-3.1-8B", H100, {}, 16, id="vLLM's own"),
        pytest.param("Llama-3.1-8B", CPU, {}, 128, id="on a CPU"),
        pytest.param("Llama-3.1-8B", H100, {"block_size": 64}, 64, id="as it is told"),
        pytest.param("DeepSeek-V3", H100, {}, 16, id="MLA on Hopper"),
        pytest.param("DeepSeek-V3", H100, {"kv_dtype": "fp8"}, 64, id="MLA in fp8 on Hopper: FlashMLA"),
        pytest.param("DeepSeek-V3", B200, {}, 32, id="MLA on Blackwell: FlashInfer"),
        pytest.param("DeepSeek-V3", CPU, {"block_size": 128}, 16, id="MLA on a CPU, whatever it is told"),
    ],
)
def test_blocks(name: str, accelerator: str, settings: dict[str, Any], size: int) -> None:
    assert planned(name, accelerator, **settings).block_size == size


def test_the_files_may_want_a_smaller_kv_cache() -> None:
    model = replace(facts("Llama-3.1-8B"), kv_dtype="fp8")
    assert estimate_memory(model, serving(H100)).kv_bytes_per_token == 65_536


def test_a_draft_models_layers_keep_tokens_too() -> None:
    memory = planned("Llama-3.1-70B", H100, tensor=8, draft=facts("Llama-3.1-8B"), draft_tokens=5)
    assert memory.kv_bytes_per_token == (80 + 32) * 2 * 1 * 128 * 2
    assert memory.draft == pytest.approx(facts("Llama-3.1-8B").weight_bytes / 8, rel=0.01)
