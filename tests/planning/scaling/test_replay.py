"""A policy on a recorded load: also where nothing is recorded for hours."""

from tokenfleet.planning.scaling import Policy, Signal, reasons
from tokenfleet.planning.scaling.replay import replay
from tokenfleet.planning.scaling.trace import Line

POLICY = Policy(min_replicas=1, max_replicas=8, max_in_flight=20)


def line(time: float, waiting: int, in_flight: int, ready: int, idle: float | None = None) -> Line:
    return Line(time, Signal(waiting=waiting, in_flight=in_flight, ready=ready, idle_seconds=idle))


def test_time_alone_decides_between_two_lines() -> None:
    told = [line(0, 0, 40, 4), line(10, 0, 10, 4), line(1000, 0, 10, 4)]
    result = replay(POLICY, told)
    assert [(change.time, change.before, change.decision.desired) for change in result.changes] == [(310, 4, 1)]
    assert result.wanted_seconds == 4 * 310 + 690
    assert result.recorded_seconds == 4 * 1000


def test_a_model_falls_asleep_and_wakes() -> None:
    policy = Policy(min_replicas=0, max_replicas=8, scale_to_zero_seconds=100)
    told = [line(0, 0, 1, 1), line(50, 0, 0, 1, 0.0), line(900, 1, 0, 0, 0.0), line(960, 0, 1, 1, 0.0)]
    result = replay(policy, told)
    assert [(change.time, change.decision.desired, change.decision.reason) for change in result.changes] == [
        (150, 0, reasons.IDLE),
        (900, 1, reasons.WAKE_UP),
    ]
    assert result.wanted_seconds == 150 + 60


def test_what_was_there_is_the_beginning_and_may_be_told() -> None:
    told = [line(0, 0, 30, 3), line(10, 0, 30, 3)]
    assert replay(POLICY, told).points[0].wanted == 3
    assert replay(POLICY, told, desired=5).points[0].wanted == 5
    assert replay(POLICY, [Line(0, None), Line(9, None)]).points[0].wanted == 1


def test_while_nothing_is_known_nothing_is_taken_away() -> None:
    result = replay(POLICY, [line(0, 0, 0, 4), Line(10, None), Line(5000, None)])
    assert result.changes == []
    assert result.wanted_seconds == 4 * 5000
    assert result.recorded_seconds == 4 * 10


def test_one_line_is_a_replay_too() -> None:
    result = replay(POLICY, [line(7, 60, 40, 2)])
    assert [change.decision.desired for change in result.changes] == [5]
    assert result.wanted_seconds == 0
