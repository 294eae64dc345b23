"""Which schedule holds, over nights, weekends and changes of the clocks."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tokenfleet.planning.scaling.policy import Policy, Schedule
from tokenfleet.planning.scaling.schedules import Bounds, Calendar, last_fired, next_firing

PARIS = "Europe/Paris"


def schedule(cron: str, timezone: str = "UTC", least: int = 2, most: int | None = None) -> Schedule:
    return Schedule(cron=cron, timezone=timezone, min_replicas=least, max_replicas=most)


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize(
    ("cron", "now", "last", "following"),
    [
        pytest.param(
            "0 8 * * 1-5",
            "2026-11-21T12:00:00+01:00",
            "2026-11-20T08:00:00+01:00",
            "2026-11-23T08:00:00+01:00",
            id="on a Saturday, Friday's holds",
        ),
        pytest.param(
            "0 8 * * *",
            "2026-11-21T08:00:00+01:00",
            "2026-11-21T08:00:00+01:00",
            "2026-11-22T08:00:00+01:00",
            id="it holds from its very second on",
        ),
        pytest.param(
            "0 8 * * *",
            "2026-11-21T07:59:59.5+01:00",
            "2026-11-20T08:00:00+01:00",
            "2026-11-21T08:00:00+01:00",
            id="half a second before",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-03-29T01:59:00+01:00",
            "2026-03-28T02:30:00+01:00",
            "2026-03-29T03:00:00+02:00",
            id="a time that the clocks skip comes after the gap",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-03-29T03:20:00+02:00",
            "2026-03-29T03:00:00+02:00",
            "2026-03-30T02:30:00+02:00",
            id="and has come",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-10-25T02:15:00+01:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-26T02:30:00+01:00",
            id="a time that the clocks repeat comes once, the first time",
        ),
        pytest.param(
            "0 0 29 2 *",
            "2026-03-01T00:00:00+01:00",
            "2024-02-29T00:00:00+01:00",
            "2028-02-29T00:00:00+01:00",
            id="years ago",
        ),
    ],
)
def test_when_it_fired_and_when_it_will(cron: str, now: str, last: str, following: str) -> None:
    one = schedule(cron, PARIS)
    assert last_fired(one, seconds(now)) == seconds(last)
    assert next_firing(one, seconds(now)) == seconds(following)


@pytest.mark.parametrize("zone", ["UTC", PARIS, "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 8 * * 1-5", "*/20 * * * *", "15 1,2,3 * * 0"])
def test_looking_back_finds_what_looking_forward_found(cron: str, zone: str) -> None:
    one = schedule(cron, zone)
    for begin in ("2026-03-28T12:00:00+00:00", "2026-10-24T12:00:00+00:00", "2026-04-04T12:00:00+00:00"):
        now = seconds(begin)
        fired = last_fired(one, now)
        for hour in range(60):
            upcoming = next_firing(one, now)
            assert upcoming is not None and upcoming > now
            local = datetime.fromtimestamp(now, ZoneInfo(zone))
            now += 1740.0
            while upcoming is not None and upcoming <= now:
                fired, upcoming = upcoming, next_firing(one, upcoming)
            assert last_fired(one, now) == fired, (hour, local)


def test_the_one_that_fired_last_holds_and_of_two_the_later_in_the_list() -> None:
    policy = Policy(
        min_replicas=1,
        max_replicas=9,
        schedules=(schedule("0 8 * * *", least=3, most=5), schedule("0 20 * * *", least=1), schedule("0 8 * * 0", least=2)),
    )
    calendar = Calendar(policy)
    assert calendar.at(seconds("2026-11-21T09:00:00+00:00")) == Bounds(3, 5, "the schedule '0 8 * * *' (UTC)")
    assert calendar.next_change(seconds("2026-11-21T09:00:00+00:00")) == seconds("2026-11-21T20:00:00+00:00")
    assert calendar.at(seconds("2026-11-21T20:00:00+00:00")) == Bounds(1, 9, "the schedule '0 20 * * *' (UTC)")
    assert calendar.at(seconds("2026-11-22T08:00:00+00:00")) == Bounds(2, 9, "the schedule '0 8 * * 0' (UTC)")


def test_without_schedules_nothing_ever_changes() -> None:
    calendar = Calendar(Policy(min_replicas=1, max_replicas=9))
    assert calendar.at(0) == Bounds(1, 9)
    assert calendar.next_change(0) is None
