"""Stop strings: found across tokens, held back while they may still come, and never shown unless asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet_engine.simulation.choices import Choice, Delta
from tokenfleet_engine.simulation.sequences import Finish, Sequence
from tokenfleet_engine.simulation.text import Writer

STATE = 7


def _plain(count: int) -> str:
    writer = Writer(STATE)
    return b"".join(writer.write() for _ in range(count)).decode()


def _deltas(*stops: str, limit: int = 40, least: int = 0, keep: bool = False) -> list[Delta]:
    sequence = Sequence(prompt_tokens=3, limit=limit, block_size=16, hashes=[], writer=Writer(STATE), least=least)
    choice = Choice(0, sequence, stops, keep)
    deltas = [choice.advance()]
    while deltas[-1].finish is None:
        deltas.append(choice.advance())
    return deltas


def _text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_without_a_stop_string_each_token_is_shown_as_it_comes() -> None:
    deltas = _deltas(limit=9)
    assert _text(deltas) == _plain(9)
    assert all(delta.text for delta in deltas)
    assert (deltas[-1].finish, deltas[-1].stop) == (Finish.LENGTH, None)


@given(st.integers(0, 150), st.integers(1, 14))
def test_the_text_ends_before_the_first_of_its_stop_strings(start: int, length: int) -> None:
    plain = _plain(40)
    stop = plain[start : start + length]
    deltas = _deltas(stop) if stop else _deltas()
    if stop:
        assert _text(deltas) == plain[: plain.index(stop)]
        assert (deltas[-1].finish, deltas[-1].stop) == (Finish.STOP, stop)
        assert _text(_deltas(stop, keep=True)) == plain[: plain.index(stop) + len(stop)]


@given(st.lists(st.text(alphabet="aeot ", min_size=1, max_size=6), min_size=1, max_size=3))
def test_nothing_of_a_stop_string_gets_out(stops: list[str]) -> None:
    deltas = _deltas(*stops)
    plain = _plain(40)
    found = [plain.index(stop) for stop in stops if stop in plain]
    assert _text(deltas) == plain[: min(found)] if found else plain


def test_a_stop_string_counts_only_after_the_least_number_of_tokens() -> None:
    assert _deltas(" ", least=5)[-1].tokens == 6


@pytest.mark.parametrize("limit", [pytest.param(1, id="one token"), pytest.param(5, id="some")])
def test_what_was_held_back_comes_with_the_last_token(limit: int) -> None:
    assert _text(_deltas("never to be found", limit=limit)) == _plain(limit)


def test_an_answer_that_ends_by_itself_has_one_more_token_and_no_more_text() -> None:
    sequence = Sequence(prompt_tokens=3, limit=900, block_size=16, hashes=[], writer=Writer(STATE, mean_tokens=20))
    choice = Choice(0, sequence)
    while (delta := choice.advance()).finish is None:
        pass
    assert (delta.finish, delta.text, delta.stop) == (Finish.STOP, "", None)
    assert sequence.generated == delta.tokens
