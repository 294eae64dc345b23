"""The wheel of deadlines, on a clock that the test moves; and the logger that does not repeat itself."""

import logging

import pytest

from tokenfleet.router.reporting.logs import Logfmt, Sparingly
from tokenfleet.router.wire.deadlines import NEVER, TURN_SECONDS, Deadlines


class Waiter:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1
        self.deadline = NEVER


class Broken(Waiter):
    def expire(self) -> None:
        super().expire()
        raise RuntimeError


class Renews(Waiter):
    """Takes another one into use at its own end, as a request that goes on over a spare connection does."""

    def __init__(self, deadline: float) -> None:
        super().__init__(deadline)
        self.other: Waiter = self

    def expire(self) -> None:
        super().expire()
        self.other.deadline = NEVER


def test_what_was_due_but_is_in_use_again_does_not_expire() -> None:
    wheel = Deadlines(lambda: 100.0)
    one, two = Renews(99), Renews(99)
    one.other, two.other = two, one
    wheel.add(one)
    wheel.add(two)
    wheel.sweep()
    assert one.expired + two.expired == 1


def test_what_is_due_expires_once_and_the_rest_waits() -> None:
    now = [100.0]
    wheel = Deadlines(lambda: now[0])
    due, later, broken, gone = Waiter(wheel.after(5)), Waiter(wheel.after(6)), Broken(wheel.after(5)), Waiter(101)
    for one in (broken, due, later, gone):
        wheel.add(one)
    wheel.discard(gone)
    now[0] = 105.0
    wheel.sweep()
    assert (due.expired, later.expired) == (0, 0)
    now[0] += TURN_SECONDS
    wheel.sweep()
    wheel.sweep()
    assert (due.expired, later.expired, broken.expired, gone.expired) == (1, 0, 1, 0)
    assert wheel.waiting == 2


def test_a_deadline_is_up_to_two_turns_late_and_never_early() -> None:
    now = [0.0]
    wheel = Deadlines(lambda: now[0])
    for set_at in (0.0, 0.1, TURN_SECONDS):  # At a turn, between two, and where the next one is due and has not come.
        now[0] = 0.0
        wheel.sweep()
        now[0] = set_at
        assert set_at + 5 <= wheel.after(5) <= set_at + 5 + TURN_SECONDS


def test_a_line_that_repeats_is_told_once_an_interval_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    sparingly = Sparingly(logging.getLogger("test"), interval=1.0, clock=lambda: now[0])
    for moment in (0.0, 0.1, 0.2, 1.5):
        now[0] = moment
        sparingly.warning("lost %s", moment)
    assert caplog.messages == ["lost 0.0", "lost 1.5 (and 2 like it)"]


def test_a_log_line_is_one_line() -> None:
    record = logging.LogRecord("a.b", logging.WARNING, "", 0, 'said "%s"', ("x\ny",), None)
    text = Logfmt().format(record)
    assert text.endswith('level=warning logger=a.b msg="said \\"x\\ny\\""')
    assert "\n" not in text
