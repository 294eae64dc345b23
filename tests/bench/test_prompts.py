"""Prompts that are made up: their lengths, what they share, and that a seed asks the same."""

from itertools import islice
from random import Random
from statistics import mean, median

import pytest

from tokenfleet.bench.prompts import Lengths, Numbers, Prompt, Synthetic
from tokenfleet.bench.wording import WORDS, Words

ONE = Words(1.0, 0.0, "test")
BYTES = Words(5.0, 9.0, "test")


def made(many: int, *, seed: int = 0, **changed: object) -> list[Prompt]:
    fields: dict[str, object] = {"input": Lengths("fixed", 20), "output": Lengths("fixed", 5), "wording": Numbers()}
    return list(islice(Synthetic(**{**fields, **changed}).prompts(Random(seed)), many))  # type: ignore[arg-type]


def test_token_numbers_are_exact_and_do_not_begin_alike() -> None:
    prompts = made(50)
    assert {len(prompt.token_ids or ()) for prompt in prompts} == {20}
    assert {(prompt.input_tokens, prompt.output_tokens) for prompt in prompts} == {(20, 5)}
    assert len({(prompt.token_ids or ())[:4] for prompt in prompts}) == 50
    assert prompts == made(50)
    assert prompts != made(50, seed=1)


def test_prefixes_are_shared_and_come_in_front() -> None:
    prompts = made(60, prefix=8, prefixes=3)
    beginnings = {(prompt.token_ids or ())[:8] for prompt in prompts}
    assert len(beginnings) == 3
    assert {len(prompt.token_ids or ()) for prompt in prompts} == {28}
    assert len({(prompt.token_ids or ())[8:] for prompt in prompts}) == 60


@pytest.mark.parametrize(
    ("lengths", "expected", "least", "most"),
    [
        pytest.param(Lengths("fixed", 512), 512, 512, 512, id="one length"),
        pytest.param(Lengths("normal", 512, 128), 512, 128, 896, id="around a mean, within three deviations"),
        pytest.param(Lengths("uniform", 64, 900), 482, 64, 900, id="between two"),
        pytest.param(Lengths("normal", 2, 50), 21, 1, 152, id="never less than one token"),
    ],
)
def test_lengths(lengths: Lengths, expected: float, least: int, most: int) -> None:
    chance = Random(7)
    drawn = [lengths.draw(chance) for _ in range(5_000)]
    assert mean(drawn) == pytest.approx(expected, rel=0.05)
    assert least <= min(drawn) <= max(drawn) <= most


def test_lognormal_lengths_have_their_median() -> None:
    chance = Random(7)
    drawn = [Lengths("lognormal", 200, 0.8).draw(chance) for _ in range(5_000)]
    assert median(drawn) == pytest.approx(200, rel=0.05)
    assert mean(drawn) > 1.2 * 200


def test_words_all_have_four_letters_and_differ() -> None:
    assert {len(word) for word in WORDS} == {4}
    assert len(set(WORDS)) == len(WORDS) > 400


@pytest.mark.parametrize(
    ("words", "tokens", "expected"),
    [
        pytest.param(ONE, 100, 100, id="a token a word"),
        pytest.param(BYTES, 509, 100, id="five tokens a word, and nine around them"),
        pytest.param(BYTES, 3, 1, id="shorter than what is around: one word"),
    ],
)
def test_words_for_a_length(words: Words, tokens: int, expected: int) -> None:
    prompt = words.prompt(Random(1), tokens=tokens, prefix=None)
    assert len((prompt.text or "").split()) == expected


def test_a_conversation_grows_by_what_both_said() -> None:
    (prompt,) = made(1, wording=ONE, turns=3)
    assert (prompt.conversation, len(prompt.turns)) == (0, 2)
    second = prompt.after("One.")
    assert second is not None
    assert [message["role"] for message in second.messages or ()] == ["user", "assistant", "user"]
    assert (second.messages or ())[1]["content"] == "One."
    assert (second.turn, second.output_tokens, second.text) == (1, 5, None)
    third = second.after("Two.")
    assert third is not None
    assert len(third.messages or ()) == 5
    assert third.after("Three.") is None
