"""What cannot be told of a model is said in one sentence, with the field, instead of guessed."""

from typing import Any

import pytest

from tests.planning.models.documents import CONFIGS, plain
from tokenfleet.planning.model_facts import UnknownModel, facts_of

LLAMA = CONFIGS["Llama-3.1-8B"]
TENSORS = [("model.layers.*.self_attn.q_proj.weight", (8, 8), 32)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"architectures": None}, "names no architecture", id="no architecture"),
        pytest.param({"num_hidden_layers": None}, "has no num_hidden_layers", id="no number of layers"),
        pytest.param({"num_attention_heads": "32"}, "has no num_attention_heads", id="a number that is a text"),
        pytest.param({"vocab_size": 0}, "has no vocab_size", id="a number that is 0"),
        pytest.param({"is_encoder_decoder": True}, "an encoder with a decoder", id="an encoder with a decoder"),
        pytest.param({"layer_types": ["hyena"] * 32}, "layers of the kind hyena", id="layers of an unknown kind"),
        pytest.param({"layer_types": ["full_attention"]}, "the kinds of 1 layers, and num_hidden_layers", id="too few kinds"),
        pytest.param({"layer_types": ["linear_attention"] * 32}, "whose state cannot be told", id="a new state"),
        pytest.param({"index_topk": 2048, "kv_lora_rank": 512}, "config.json has index_topk", id="indexes of sparse attention"),
        pytest.param({"kv_lora_rank": 256}, "how vLLM keeps the tokens of a llama model", id="a latent of another model"),
    ],
)
def test_a_configuration_that_does_not_tell(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UnknownModel) as refused:
        facts_of(plain(LLAMA | changed, TENSORS))
    assert words in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param({"tensors": []}, "has no config.json", id="no configuration"),
        pytest.param({"config": LLAMA}, "tensors is incomplete", id="no tensors"),
        pytest.param({"config": LLAMA, "tensors": []}, "The model has no tensors", id="an empty list of tensors"),
        pytest.param({"config": LLAMA, "tensors": [{"name": "a"}]}, "tensors is incomplete", id="half of an entry"),
        pytest.param(
            {"config": LLAMA, "tensors": [{"name": "a", "dtype": "Q5", "shape": [1], "count": 1}]}, "of the type Q5",
            id="a type that nobody knows",
        ),
    ],
)  # fmt: skip
def test_a_document_that_is_none(body: dict[str, Any], words: str) -> None:
    with pytest.raises(UnknownModel, match=words):
        facts_of(body)


def test_what_is_missing_of_a_state_is_named() -> None:
    config = CONFIGS["Qwen3-Next-80B-A3B"] | {"linear_conv_kernel_dim": None}
    with pytest.raises(UnknownModel, match="has no linear_conv_kernel_dim"):
        facts_of(plain(config, TENSORS))
