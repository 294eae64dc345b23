"""Speculative decoding before vLLM sees it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.models import VOCABULARY, make_model, write_tokenizer
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.model_files import Model, inspect_model
from tokenfleet_engine.launch.speculation import Request, plan_speculation, read_request

DRAFT = Request(method="draft", num_tokens=3)
EAGLE = Request(method="eagle3", num_tokens=3)
HEAD_SHAPES = {"fc.weight": (4, 24), "midlayer.self_attn.q_proj.weight": (4, 8)}


@pytest.fixture
def llama(tmp_path: Path) -> Model:
    return inspect_model(make_model(tmp_path / "models" / "llama"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "--speculative is not valid JSON", id="no JSON"),
        pytest.param('{"num_tokens": 3}', "needs a method, one of draft, ngram, eagle3", id="no method"),
        pytest.param('{"method": "medusa", "num_tokens": 3}', "needs a method", id="a method that we do not offer"),
        pytest.param('{"method": "draft"}', "num_tokens is a whole number of at least 1, not None", id="no number of tokens"),
        pytest.param('{"method": "draft", "num_tokens": 0}', "not 0", id="no tokens"),
        pytest.param('{"method": "draft", "num_tokens": 3, "x": 1}', "--speculative has no x", id="a key that there is not"),
        pytest.param(
            '{"method": "draft", "num_tokens": 3, "prompt_lookup_max": 3}', "for the method ngram alone", id="another's key"
        ),
        pytest.param(
            '{"method": "ngram", "num_tokens": 3, "prompt_lookup_min": 4, "prompt_lookup_max": 2}',
            r"promptLookup.min \(4\) is above promptLookup.max \(2\)", id="least above most",
        ),
    ],
)  # fmt: skip
def test_a_request_that_says_nothing_sensible(text: str, message: str) -> None:
    with pytest.raises(EngineFailure, match=message) as failure:
        read_request(text)
    assert failure.value.reason == contract.REASON_ENGINE_CONFIG_INVALID


def _flag(flags: tuple[str, ...]) -> dict[str, Any]:
    assert flags[0] == "--speculative-config"
    return dict(json.loads(flags[1]))


def test_ngram_needs_no_model(llama: Model) -> None:
    request = read_request('{"method": "ngram", "num_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 5}')
    planned = plan_speculation(request, model=llama, draft=None)
    assert _flag(planned.flags()) == {
        "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 5,
    }  # fmt: skip
    assert planned.describe() == "4 tokens a step (ngram) from earlier text of the same sequence"


def test_a_draft_of_the_same_family(llama: Model, tmp_path: Path) -> None:
    draft = make_model(tmp_path / "draft", hidden_size=4)
    planned = plan_speculation(DRAFT, model=llama, draft=draft)
    assert _flag(planned.flags()) == {"method": "draft_model", "model": str(draft), "num_speculative_tokens": 3}
    assert planned.describe() == f"3 tokens a step (draft) from {draft}"


def test_a_draft_made_for_shorter_sequences_takes_part_only_in_those(llama: Model, tmp_path: Path) -> None:
    draft = make_model(tmp_path / "draft", max_position_embeddings=512)
    planned = plan_speculation(DRAFT, model=llama, draft=draft)
    assert planned.describe().endswith("; no gain while a sequence of the batch is beyond 512 tokens")


def test_an_eagle_head(llama: Model, tmp_path: Path) -> None:
    head = make_model(tmp_path / "head", shapes=HEAD_SHAPES, max_position_embeddings=512)
    planned = plan_speculation(EAGLE, model=llama, draft=head)
    assert _flag(planned.flags()) == {"method": "eagle3", "model": str(head), "num_speculative_tokens": 3}
    assert planned.reaches is None, "vLLM stretches a head to the model's length"


def _differently(path: Path) -> None:
    write_tokenizer(make_model(path), {text: 15 - number for text, number in VOCABULARY.items()})


def _as_list(path: Path) -> None:
    write_tokenizer(make_model(path), [[f"u{number}", 0.0] for number in range(16)])


@pytest.mark.parametrize(
    ("request_", "make", "words"),
    [
        pytest.param(
            DRAFT, lambda path: make_model(path, vocab_size=32),
            "has a vocabulary of 32 tokens and the model one of 16", id="a vocabulary of another size",
        ),
        pytest.param(DRAFT, _differently, "number their tokens differently: 0 of 16 agree", id="other numbers"),
        pytest.param(DRAFT, _as_list, "0 of 16 agree", id="other tokens, in a list"),
        pytest.param(
            DRAFT, lambda path: make_model(path, shapes=HEAD_SHAPES), "use method eagle3 with it", id="a head as a draft"
        ),
        pytest.param(EAGLE, make_model, "is no EAGLE-3 head", id="a whole model as a head"),
        pytest.param(
            EAGLE, lambda path: make_model(path, shapes={"fc.weight": (4, 30)}),
            "takes 30 numbers, which is no multiple of this model's hidden size, 8", id="a head for another model",
        ),
        pytest.param(
            EAGLE, lambda path: make_model(path, shapes=HEAD_SHAPES, vocab_size=32),
            "vocabulary of 32", id="a head of another family",
        ),
        pytest.param(
            DRAFT, None, "Speculative method draft needs a draft model's files", id="no draft",
        ),
        pytest.param(
            Request(method="ngram", num_tokens=3), make_model, "takes no draftModel", id="a draft where none is used"
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_together_is_refused(
    llama: Model, tmp_path: Path, request_: Request, make: Callable[[Path], object] | None, words: str
) -> None:
    if make is not None:
        make(tmp_path / "draft")
    with pytest.raises(EngineFailure) as failure:
        plan_speculation(request_, model=llama, draft=tmp_path / "draft" if make else None)
    assert failure.value.reason == contract.REASON_ENGINE_CONFIG_INVALID
    assert words in failure.value.message


def test_special_tokens_may_differ_within_a_family(llama: Model, tmp_path: Path) -> None:
    draft = make_model(tmp_path / "draft")
    write_tokenizer(draft, {**{text: number for text, number in VOCABULARY.items() if number < 15}, "other": 15})
    assert plan_speculation(DRAFT, model=llama, draft=draft).draft


def test_a_tokenizer_of_an_unknown_kind_is_left_to_vllm(llama: Model, tmp_path: Path) -> None:
    draft = make_model(tmp_path / "draft")
    (draft / "tokenizer.json").write_text("{}")
    assert plan_speculation(DRAFT, model=llama, draft=draft).draft


def test_a_draft_that_is_not_whole_is_named(llama: Model, tmp_path: Path) -> None:
    draft = make_model(tmp_path / "draft")
    (draft / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(EngineFailure, match=r"draft/model\.safetensors is damaged") as failure:
        plan_speculation(DRAFT, model=llama, draft=draft)
    assert failure.value.reason == contract.REASON_MODEL_INVALID
