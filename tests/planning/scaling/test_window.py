"""The highest value of a window, beside the plain way to find it."""

from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.planning.scaling.window import Highest

SECONDS = 10.0


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 9)), min_size=1, max_size=30), st.integers(0, 30))
def test_each_value_holds_until_the_next(told: list[tuple[int, int]], later: int) -> None:
    window, pushed, now = Highest(seconds=SECONDS), [], 0
    for wait, value in told:
        now += wait
        window.push(value, now)
        pushed.append((now, value))
    now += later
    ends = [*(at for at, _ in pushed[1:]), float("inf")]
    assert window.highest(now) == max(value for (_, value), end in zip(pushed, ends, strict=True) if end + SECONDS > now)


def test_it_says_when_it_changes() -> None:
    window = Highest(seconds=SECONDS)
    for now, value in enumerate((5, 3, 1)):
        window.push(value, now)
    assert window.changes_at() == 11
    assert not window.settled(10, within=1)
    assert window.settled(9, within=1)
    assert window.highest(11) == 3
    assert window.highest(12) == 1
    assert window.changes_at() is None
    assert window.settled(12, within=100)


def test_it_keeps_no_more_than_its_window() -> None:
    window = Highest(seconds=SECONDS)
    for now in range(1_000):
        window.push(-now, now)
    assert len(window) == SECONDS + 1


def test_a_restart_forgets() -> None:
    window = Highest(seconds=SECONDS)
    window.push(9, 0)
    window.restart(2, 1)
    assert window.highest(1) == 2
