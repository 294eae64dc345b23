"""Which bounds hold now: those of the schedule that fired last, in its own time zone, over every change of the clocks.

The lines are read by cronsim, which does as Debian's cron: a time that the clocks skip fires right after the gap, one that
they repeat fires once. The API has checked that they can be read. Looking is cheap between two firings, since the bounds are
kept until the next.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from tokenfleet.planning.scaling.policy import Policy, Schedule


@dataclass(frozen=True, slots=True)
class Bounds:
    """Replicas at least and at most."""

    least: int
    most: int
    source: str = ""
    """For messages: of which schedule they are; empty: of autoscaling itself."""


def last_fired(schedule: Schedule, now: float) -> float | None:
    """When it fired last, now included, in Unix seconds; None: never before."""
    zone = _zone(schedule)
    fired = None
    # Backwards gives a moment to begin at; in the hour that the clocks repeat it may be one firing too early, or too late.
    for moment in CronSim(schedule.cron, _local(now, zone) + timedelta(seconds=1), reverse=True):
        if moment.timestamp() <= now:
            fired = moment
            break
    while fired is not None:
        following = next(CronSim(schedule.cron, fired), None)
        if following is None or following.timestamp() > now or following.timestamp() <= fired.timestamp():
            return fired.timestamp()
        fired = following
    return None


def next_firing(schedule: Schedule, now: float) -> float | None:
    """When it fires next, in Unix seconds."""
    for moment in CronSim(schedule.cron, _local(now, _zone(schedule)) - timedelta(hours=2)):
        if moment.timestamp() > now:
            return moment.timestamp()
    return None


class Calendar:
    """The bounds of a policy by time."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._bounds = Bounds(policy.min_replicas, policy.max_replicas)
        self._since = float("inf") if policy.schedules else float("-inf")
        self._until: float | None = None

    def at(self, now: float) -> Bounds:
        if now < self._since or (self._until is not None and now >= self._until):
            self._look(now)
        return self._bounds

    def next_change(self, now: float) -> float | None:
        """When other bounds may hold, in Unix seconds."""
        self.at(now)
        return self._until

    def _look(self, now: float) -> None:
        policy = self._policy
        fired = [(last_fired(one, now), place, one) for place, one in enumerate(policy.schedules)]
        # Of two that fire together the later one in the list holds.
        holding = max(((at, place, one) for at, place, one in fired if at is not None), key=lambda each: each[:2], default=None)
        if holding is not None:
            schedule = holding[2]
            most = policy.max_replicas if schedule.max_replicas is None else schedule.max_replicas
            self._bounds = Bounds(schedule.min_replicas, most, f"the schedule {schedule.cron!r} ({schedule.timezone})")
        upcoming = [at for one in policy.schedules if (at := next_firing(one, now)) is not None]
        self._since, self._until = now, min(upcoming, default=None)


def _zone(schedule: Schedule) -> ZoneInfo:
    return ZoneInfo(schedule.timezone)


def _local(now: float, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(now, zone)
