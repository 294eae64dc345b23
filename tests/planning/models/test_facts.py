"""ModelFacts of well-known models, against their model cards: parameters, bytes, and what each layer keeps."""

import json
from typing import Any

import pytest

from tests.planning.models.documents import CONFIGS, document, plain
from tokenfleet.planning.model import Attention, ModelFacts
from tokenfleet.planning.model_facts import facts_of


def _facts(name: str, **changed: Any) -> ModelFacts:
    return facts_of(document(name, stored="F8_E4M3" if name == "DeepSeek-V3" else None, **changed))


@pytest.mark.parametrize(
    ("name", "parameters", "active"),
    [
        pytest.param("Llama-2-7B", 6_738_415_616, 6_607_339_520, id="a dense model with as many key heads as query heads"),
        pytest.param("Llama-3.1-8B", 8_030_261_248, 7_504_920_576, id="the embedding is looked up and is not gone through"),
        pytest.param("Llama-3.1-70B", 70_553_706_496, 69_503_025_152, id="a large dense model"),
        pytest.param("Mistral-7B-v0.1", 7_241_732_096, 7_110_656_000, id="a model whose layers all slide"),
        pytest.param("Qwen2.5-7B", 7_615_616_512, 7_070_615_552, id="biases of queries, keys and values count"),
        pytest.param("Qwen3-0.6B", 596_049_920, 596_048_896, id="a head that is the embedding counts once"),
        pytest.param("Gemma-2-9B", 9_241_705_984, 9_241_702_400, id="Gemma's head is its embedding without saying so"),
        pytest.param("Qwen3-30B-A3B", 30_532_122_624, 3_041_865_728, id="eight of 128 experts"),
        pytest.param("Mixtral-8x7B", 46_702_792_704, 12_748_849_152, id="two of eight experts"),
        pytest.param("gpt-oss-20b", 20_914_757_184, 3_608_304_384, id="experts of four bits, two to a byte"),
        pytest.param("DeepSeek-V3", 671_026_419_200, 36_625_611_264, id="the layer for the token after the next is not loaded"),
    ],
)
def test_parameters_are_those_of_the_model_card(name: str, parameters: int, active: int) -> None:
    facts = _facts(name)
    assert (facts.parameters, facts.active_parameters) == (parameters, active)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("Llama-3.1-8B", 16_060_522_496, id="two bytes for each parameter"),
        pytest.param("Gemma-2-9B", 4 * 9_241_705_984, id="four bytes, as the files are before they are cast"),
        pytest.param("gpt-oss-20b", 13_761_264_768, id="half a byte and a scale for each 32 of the experts' weights"),
    ],
)
def test_bytes_are_those_of_the_files(name: str, size: int) -> None:
    assert _facts(name).weight_bytes == size


def _kept(layers: int, keeping: Any, heads: int, kv_heads: int, head_dim: int, **more: Any) -> Attention:
    return Attention(layers=layers, keeping=keeping, heads=heads, kv_heads=kv_heads, head_dim=head_dim, **more)


def _state(layers: int, convolution: int, recurrence: int) -> Attention:
    """Of so many numbers."""
    size, in_float32 = 2 * (convolution + recurrence), 2 * convolution + 4 * recurrence
    return _kept(layers, "state", 0, 0, 0, state_bytes=size, state_bytes_float32=in_float32)


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        pytest.param("Llama-3.1-8B", [_kept(32, "full", 32, 8, 128)], id="grouped queries"),
        pytest.param("Llama-2-7B", [_kept(32, "full", 32, 32, 128)], id="a key head for each query head"),
        pytest.param("Mistral-7B-v0.1", [_kept(32, "sliding", 32, 8, 128, window=4096)], id="one window for all layers"),
        pytest.param("Mixtral-8x7B", [_kept(32, "full", 32, 8, 128)], id="a window that is null is none"),
        pytest.param("Qwen2.5-7B", [_kept(28, "full", 28, 4, 128)], id="use_sliding_window: false"),
        pytest.param("Qwen3-0.6B", [_kept(28, "full", 16, 8, 128)], id="a head_dim that hidden_size does not tell"),
        pytest.param(
            "Gemma-2-9B", [_kept(21, "sliding", 16, 8, 256, window=4096), _kept(21, "full", 16, 8, 256)],
            id="every second layer slides, without layer_types",
        ),
        pytest.param(
            "Gemma-3-27B", [_kept(52, "sliding", 32, 16, 128, window=1024), _kept(10, "full", 32, 16, 128)],
            id="five of six layers slide, and the numbers are in text_config",
        ),
        pytest.param(
            "gpt-oss-20b", [_kept(12, "sliding", 64, 8, 64, window=128), _kept(12, "full", 64, 8, 64)], id="gpt-oss alternates",
        ),
        pytest.param(
            "Llama-4-Scout", [_kept(36, "chunked", 40, 8, 128, window=8192), _kept(12, "full", 40, 8, 128)],
            id="layers with rotary embeddings keep a chunk",
        ),
        pytest.param(
            "DeepSeek-V3", [_kept(61, "latent", 128, 1, 192, value_dim=128, latent_dim=576, rotary_dim=64)],
            id="MLA keeps 512 numbers and 64 of the position",
        ),
        pytest.param(
            # conv: (2·128·16 + 128·32) · 3 numbers, recurrence: 32·128·128, of two bytes each
            "Qwen3-Next-80B-A3B",
            [_state(36, 24_576, 524_288), _kept(12, "full", 16, 2, 256)],
            id="three of four layers keep a state",
        ),
        pytest.param(
            # Mamba of width 2·4096: 3 numbers of a convolution and 16 of a state for each, of two bytes
            "Jamba-v0.1", [_state(28, 8192 * 3, 8192 * 16), _kept(4, "full", 32, 8, 128)],
            id="every eighth layer attends",
        ),
        pytest.param("Falcon-7B", [_kept(32, "full", 71, 1, 64)], id="multi_query is one key head"),
        pytest.param("GPT-2", [_kept(12, "full", 12, 12, 64)], id="the older names of GPT-2"),
        pytest.param("GPT-NeoX-20B", [_kept(44, "full", 64, 64, 96)], id="no field for key heads: as many as query heads"),
        pytest.param("OPT-125M", [_kept(12, "full", 12, 12, 64)], id="OPT"),
    ],
)  # fmt: skip
def test_layers_keep_what_their_configuration_says(name: str, attention: list[Attention]) -> None:
    config = CONFIGS[name]
    facts = facts_of(plain(config, [("model.embed_tokens.weight", (16, 8), 1), ("model.layers.*.w.weight", (8, 8), 1)]))
    assert list(facts.attention) == attention


@pytest.mark.parametrize(
    ("changed", "keeping"),
    [
        pytest.param({"sliding_window": 0}, {"full": 32}, id="a window of 0 is none"),
        pytest.param({"layer_types": ["full_attention"] * 32}, {"full": 32}, id="layer_types win over a window of all"),
        pytest.param(
            {"layer_types": ["sliding_attention", "full_attention"] * 16}, {"sliding": 16, "full": 16}, id="as they are listed"
        ),
        pytest.param({"use_sliding_window": True, "max_window_layers": 0}, {"sliding": 32}, id="Qwen slides from layer 0 on"),
        pytest.param(
            {"use_sliding_window": True, "max_window_layers": 32}, {"full": 32}, id="Qwen slides behind the last layer"
        ),
        pytest.param({"num_kv_shared_layers": 12}, {"sliding": 20}, id="layers that share another's cache keep nothing"),
    ],
)
def test_windows(changed: dict[str, Any], keeping: dict[str, int]) -> None:
    facts = facts_of(document("Mistral-7B-v0.1", **changed))
    assert {each.keeping: each.layers for each in facts.attention} == keeping


@pytest.mark.parametrize(
    ("body", "method", "kv_dtype"),
    [
        pytest.param(None, None, None, id="not quantized"),
        pytest.param({"quant_method": "awq", "bits": 4}, "awq", None, id="AWQ"),
        pytest.param({"quant_method": "gptq", "bits": 4}, "gptq", None, id="GPTQ"),
        pytest.param({"quant_method": "compressed_tensors"}, "compressed-tensors", None, id="an older spelling"),
        pytest.param(
            {"quant_method": "compressed-tensors", "kv_cache_scheme": {"type": "float", "num_bits": 8}},
            "compressed-tensors", "fp8", id="with a KV cache of fp8",
        ),
        pytest.param(
            {"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}},
            "modelopt_fp4", "fp8", id="NVIDIA's four bits",
        ),
    ],
)  # fmt: skip
def test_quantization_is_named_as_vllm_does(body: Any, method: str | None, kv_dtype: str | None) -> None:
    facts = facts_of(document("Llama-3.1-8B", quantization_config=body))
    assert (facts.quantization, facts.kv_dtype) == (method, kv_dtype)


def test_weights_that_are_packed_are_counted_one_by_one() -> None:
    packed = plain(
        CONFIGS["Llama-3.1-8B"] | {"quantization_config": {"quant_method": "awq", "bits": 4}},
        [
            ("model.layers.*.self_attn.q_proj.qweight", (4096, 512), 32),
            ("model.layers.*.self_attn.q_proj.scales", (32, 4096), 32),
            ("model.layers.*.self_attn.q_proj.qzeros", (32, 512), 32),
        ],
        dtype="I32",
    )
    assert facts_of(packed).parameters == 4096 * 4096 * 32


@pytest.mark.parametrize(
    ("changed", "dtype", "expected"),
    [
        pytest.param({"torch_dtype": "float16"}, "BF16", "float16", id="torch_dtype"),
        pytest.param({"torch_dtype": None, "dtype": "float32"}, "BF16", "float32", id="dtype, as newer files call it"),
        pytest.param({"torch_dtype": None}, "F16", "float16", id="none said: that of the weights"),
    ],
)
def test_what_it_computes_in(changed: dict[str, Any], dtype: str, expected: str) -> None:
    assert facts_of(document("Llama-3.1-8B", stored=dtype, **changed)).dtype == expected


def test_long_rope_serves_the_length_of_its_training_by_itself() -> None:
    facts = facts_of(document("Phi-3-mini-128k"))
    assert (facts.context_tokens, facts.served_tokens) == (131_072, 4096)


def test_what_a_configuration_within_another_leaves_out_is_as_transformers_has_it() -> None:
    """google/gemma-3-4b-it says no more of its language model than this."""
    text = {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34,
        "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }  # fmt: skip
    config = CONFIGS["Gemma-3-27B"] | {"text_config": text}
    facts = facts_of(plain(config, [("language_model.model.embed_tokens.weight", (262_208, 2560), 1)]))
    assert facts.attention == (_kept(29, "sliding", 8, 4, 256, window=1024), _kept(5, "full", 8, 4, 256))
    assert (facts.vocabulary, facts.context_tokens) == (262_208, 131_072)


def test_a_vision_tower_belongs_to_no_layer() -> None:
    entries = [
        ("language_model.model.embed_tokens.weight", (100, 8), 1),
        ("language_model.model.layers.*.self_attn.q_proj.weight", (8, 8), 62),
        ("vision_tower.vision_model.encoder.layers.*.self_attn.q_proj.weight", (4, 4), 27),
        ("multi_modal_projector.mm_input_projection_weight", (4, 8), 1),
    ]
    parts = {each.part: each.elements for each in facts_of(plain(CONFIGS["Gemma-3-27B"], entries)).weights}
    assert parts == {"embedding": 800, "layers": 62 * 64, "other": 27 * 16 + 32}


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "DeepSeek-V3", "gpt-oss-20b", "Mistral-7B-v0.1"])
def test_facts_come_back_from_json(name: str) -> None:
    facts = _facts(name)
    assert ModelFacts.from_json(json.loads(json.dumps(facts.as_json()))) == facts
