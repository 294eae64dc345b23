"""How long a replica is left alone after one bad sign, and what it gets then."""

import pytest

from tokenfleet.router.balancing.pauses import CAP_SECONDS, FIRST_SECONDS, FULL_SECONDS, Pause

LIMIT = 64


def after(pause: Pause, now: float, *, in_flight: int = 0) -> int:
    """What it may have then."""
    pause.look(now, in_flight, LIMIT)
    return pause.room(LIMIT)


def test_what_cannot_be_reached_gets_nothing_and_then_one_request_more_than_it_has() -> None:
    pause = Pause()
    assert pause.room(LIMIT) == LIMIT
    pause.begin(10.0)
    assert after(pause, 10.0 + FIRST_SECONDS * 0.9) == 0
    assert after(pause, 10.0 + FIRST_SECONDS, in_flight=3) == 4
    assert after(pause, 1000.0, in_flight=9) == 4, "one request must show that it is there, however long that takes"
    assert pause.end(answered=False)
    assert (pause.room(LIMIT), pause.on, pause.passes) == (LIMIT, False, False)


def test_pauses_become_longer_up_to_a_cap_and_short_again_after_a_good_sign() -> None:
    def lengths(count: int) -> list[float]:
        found = []
        for _ in range(count):
            pause.begin(0.0)
            found.append(next(step / 4 for step in range(100) if after(pause, step / 4)))
        return found

    pause = Pause()
    assert lengths(7) == [0.25, 0.5, 1, 2, 4, CAP_SECONDS, CAP_SECONDS]
    assert pause.end(answered=False)
    assert lengths(2) == [0.25, 0.5]


def test_many_who_find_out_at_once_make_one_pause() -> None:
    pause = Pause()
    for _ in range(100):
        pause.begin(0.0)
    assert after(pause, FIRST_SECONDS) == 1


@pytest.mark.parametrize(
    ("answered", "ends"), [pytest.param(False, False, id="a connection"), pytest.param(True, True, id="an answer")]
)
def test_what_drains_can_be_reached_and_must_answer_to_be_back(answered: bool, ends: bool) -> None:
    pause = Pause()
    pause.begin(0.0, drains=True)
    assert pause.end(answered=answered) is ends


def test_what_is_full_gets_no_more_than_it_has_and_soon_a_little_more() -> None:
    pause = Pause()
    pause.fill(8, now=0.0)
    assert not pause.end(answered=True), "an answer to another request does not mean room"
    rooms = [after(pause, FULL_SECONDS * turn, in_flight=8) for turn in range(7)]
    assert rooms == [8, 9, 11, 15, 23, 39, LIMIT]
    assert not pause.on


def test_what_is_full_again_begins_anew() -> None:
    pause = Pause()
    pause.fill(8, now=0.0)
    after(pause, FULL_SECONDS)
    pause.fill(8, now=FULL_SECONDS)
    assert after(pause, FULL_SECONDS * 1.5) == 8
    assert after(pause, FULL_SECONDS * 2) == 9


def test_nothing_to_end_is_nothing() -> None:
    assert not Pause().end(answered=True)
