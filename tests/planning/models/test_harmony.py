"""The engine checks a model's files by numbers of its own; on the same configurations they are those that plans count with."""

import pytest

from tests.planning.models.documents import CONFIGS, plain
from tokenfleet.planning.model_facts import facts_of
from tokenfleet_engine.launch.model_config import cache_elements_per_token, longest_sequence

TENSORS = [("model.layers.*.self_attn.q_proj.weight", (8, 8), 1)]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_longest_sequence_is_the_engines(name: str) -> None:
    config = CONFIGS[name]
    assert facts_of(plain(config, TENSORS)).context_tokens == longest_sequence(config)


@pytest.mark.parametrize("name", ["Llama-2-7B", "Llama-3.1-8B", "Llama-3.1-70B", "Qwen2.5-7B", "Qwen3-0.6B", "Qwen3-30B-A3B"])
def test_what_a_token_takes_is_the_engines_wherever_it_knows(name: str) -> None:
    config = CONFIGS[name]
    facts = facts_of(plain(config, TENSORS))
    known = cache_elements_per_token(config, architecture=config["architectures"][0])
    assert known == sum(each.layers * each.kv_heads * 2 * each.head_dim for each in facts.attention)


def test_the_engine_stays_silent_where_layers_keep_less() -> None:
    for name, config in CONFIGS.items():
        kept = {each.keeping for each in facts_of(plain(config, TENSORS)).attention}
        if cache_elements_per_token(config, architecture=config["architectures"][0]) is not None:
            assert kept == {"full"}, name
