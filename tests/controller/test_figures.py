"""The load as status shows it: a new pair of figures every ten seconds at most, and none where nothing changed."""

from collections.abc import Callable

from tests.controller.world import KEY
from tokenfleet.controller.observed import Figures, Load
from tokenfleet.controller.signals.figures import EARLY_SECONDS, UNKNOWN, Display
from tokenfleet.controller.store import Key


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Hall:
    """A display, and time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.load: Load | None = None
        self.due: list[Key] = []
        self.timers: list[Timer] = []
        self.display = Display(lambda _: self.load, due=self.due.append, clock=lambda: self.now, call_later=self.call_later)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, call)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due, self.timers = [each for each in self.timers if each.at <= self.now], [e for e in self.timers if e.at > self.now]
        for timer in due:
            timer.call()

    def change(self, waiting: int, in_flight: int = 0) -> None:
        self.load = Load(complete=True, waiting=waiting, in_flight={"a": in_flight})
        self.display.heard(KEY)


def figures(waiting: int, in_flight: int = 0) -> Figures:
    return Figures(queue_depth=waiting, in_flight=in_flight)


def test_a_new_load_is_shown_at_once_and_the_next_after_ten_seconds() -> None:
    hall = Hall()
    hall.change(3, 2)
    hall.advance(0)
    assert hall.due == [KEY]
    assert hall.display.of(KEY) == figures(3, 2)
    for second in range(9):
        hall.change(second)
        hall.advance(1)
    assert hall.due == [KEY]
    assert hall.display.of(KEY) == figures(3, 2), "a reconcile that runs for another cause finds the same"
    hall.advance(1)
    assert hall.due == [KEY, KEY]
    assert hall.display.of(KEY) == figures(8)


def test_a_load_that_comes_back_to_what_is_shown_is_no_news() -> None:
    hall = Hall()
    hall.change(3)
    hall.advance(0)
    hall.display.of(KEY)
    hall.change(4)
    hall.change(3)
    hall.advance(60)
    assert hall.due == [KEY]


def test_what_is_not_known_is_not_told_before_it_could_be() -> None:
    hall = Hall()
    assert hall.display.of(KEY) is None, "what stands there stays"
    hall.advance(EARLY_SECONDS)
    assert hall.display.of(KEY) == UNKNOWN


def test_a_load_that_is_not_complete_is_not_shown() -> None:
    hall = Hall()
    hall.change(3)
    hall.advance(0)
    hall.display.of(KEY)
    hall.load = Load(complete=False, waiting=1)
    hall.display.heard(KEY)
    hall.advance(10)
    assert hall.display.of(KEY) == UNKNOWN


def test_the_end_stops_the_timers() -> None:
    hall = Hall()
    hall.change(3)
    hall.display.stop()
    assert [timer.cancelled for timer in hall.timers] == [True]
