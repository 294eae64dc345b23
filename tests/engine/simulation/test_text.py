"""The simulated model's language: tokens that add up, and a text that goes on from wherever it is told to."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet_engine.simulation import text
from tokenfleet_engine.simulation.text import Writer

SALT = b"0\0demo"


def _write(pieces: list[bytes], count: int) -> str:
    writer = Writer.begin(pieces, salt=SALT)
    return text.join(writer.write() for _ in range(count))


@given(st.text())
def test_tokens_are_the_text_again(words: str) -> None:
    pieces = text.split(words)
    assert b"".join(pieces) == words.encode("utf-8", "surrogatepass")
    assert all(1 <= len(piece) <= 6 for piece in pieces)


@given(st.text())
def test_numbers_are_the_tokens_again(words: str) -> None:
    pieces = [text.BEGIN, *text.split(words), text.END]
    numbers = text.to_numbers(pieces)
    assert text.from_numbers(numbers) == pieces
    assert all(0 <= number < 2**53 for number in numbers)


@given(st.lists(st.integers(min_value=0, max_value=2**63)))
def test_every_number_is_some_token(numbers: list[int]) -> None:
    assert len(text.from_numbers(numbers)) == len(numbers)


@given(st.text(), st.integers(1, 40))
def test_a_prompt_and_what_was_written_have_the_tokens_of_both(prompt: str, count: int) -> None:
    written = _write(text.split(prompt), count)
    assert text.split(prompt + written) == text.split(prompt) + text.split(written)
    assert len(text.split(written)) == count


@given(st.text(), st.integers(0, 30), st.integers(1, 30))
def test_whoever_goes_on_writes_the_same(prompt: str, done: int, left: int) -> None:
    whole = _write(text.split(prompt), done + left)
    so_far = _write(text.split(prompt), done)
    assert so_far + _write(text.split(prompt + so_far), left) == whole


def test_a_chat_is_continued_as_if_it_had_not_stopped() -> None:
    asked = [("user", "Tell me a story")]
    whole = _write(text.conversation(asked, answer=True, open_ended=False), 20)
    so_far = _write(text.conversation(asked, answer=True, open_ended=False), 7)
    again = text.conversation([*asked, ("assistant", so_far)], answer=False, open_ended=True)
    assert so_far + _write(again, 13) == whole


@pytest.mark.parametrize(
    ("words", "count"),
    [
        pytest.param("word", 1, id="a short word"),
        pytest.param("word " * 7, 8, id="white space begins a token, so the last one is its own"),
        pytest.param("streaming", 2, id="a longer word"),
        pytest.param("äöü", 2, id="bytes count, not characters"),
        pytest.param("", 0, id="nothing"),
    ],
)
def test_how_many_tokens(words: str, count: int) -> None:
    assert len(text.split(words)) == count


def test_english_has_about_four_characters_a_token() -> None:
    words = text.__doc__ or ""
    assert 3.5 < len(words) / len(text.split(words)) < 4.8


def test_words_are_many_and_one_token_each() -> None:
    assert len(set(text.WORDS)) == 256
    assert all(text.PIECE.fullmatch(word) for word in text.WORDS)


def test_answers_end_by_themselves_after_as_many_tokens_as_told_in_the_mean() -> None:
    lengths = []
    for number in range(2000):
        writer = Writer.begin(text.split(f"Tell me of {number}"), salt=SALT, mean_tokens=50)
        length = 0
        while not writer.ends():
            writer.write()
            length += 1
        lengths.append(length)
    assert 45 < fmean(lengths) < 55
    assert len(set(lengths)) > 100


def test_another_salt_writes_another_text() -> None:
    writers = [Writer.begin(text.split("Tell me"), salt=salt) for salt in (b"a", b"b", b"c")]
    assert len({text.join(writer.write() for _ in range(8)) for writer in writers}) == 3


@given(st.text(min_size=1), st.integers(1, 8))
def test_a_block_is_known_by_all_before_it(words: str, size: int) -> None:
    pieces = text.split(words)
    hashes = text.block_hashes(pieces, salt=SALT, block_size=size)
    assert len(hashes) == len(pieces) // size
    if hashes:
        other = text.block_hashes([b"x", *pieces[1:]], salt=SALT, block_size=size)
        assert (other == hashes) is (pieces[0] == b"x")
        assert hashes[-1] == Writer.begin(pieces[: len(hashes) * size], salt=SALT).state
