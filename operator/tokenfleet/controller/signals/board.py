"""What is known of the load: the last report of every router pod, and what these come to for one LLMDeployment.

Missing is never nought: a router that is ready and has not told anything lately makes the load incomplete, and what it last
told counts no more. Routers that leave are listened to as long as they talk, since what is in flight on a replica through
them is in flight. Nothing here waits, and nothing talks to anybody.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenfleet import contract
from tokenfleet.controller.observed import Load, TrackLoad
from tokenfleet.controller.signals import sums
from tokenfleet.controller.signals.report import Levels, Report
from tokenfleet.controller.signals.sums import Use
from tokenfleet.controller.signals.windows import Counted, Window, percentile
from tokenfleet.controller.store import Key

LOST_SECONDS: Final = 3.0
"""After the loss of its connection a router's last report counts for so long."""
MIXED: Final = "mixed"
_TRACKS: Final = (contract.TRACK_STABLE, contract.TRACK_CANARY)


@dataclass(slots=True, eq=False, kw_only=True)
class Source:
    """One router pod."""

    owner: Key
    """Its LLMDeployment or LLMRouter."""
    ready: bool
    report: Report | None = None
    told_at: float = 0.0
    """When the report came."""
    heard_at: float = 0.0
    """When the last byte came."""
    lost_at: float | None = None
    """When the connection was lost; None: it stands."""
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    """By LLMDeployment and track."""

    def fresh(self, now: float) -> bool:
        """Whether its report still counts."""
        if self.report is None or now - self.heard_at > contract.REPORT_STALE_SECONDS:
            return False
        return self.lost_at is None or now - self.lost_at <= LOST_SECONDS


@dataclass(frozen=True, slots=True)
class _Told:
    """What one router says of one LLMDeployment."""

    source: Source
    levels: Levels


class Board:
    """Of all routers that are followed."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        routers_of: Callable[[Key], Iterable[Key]],
        slots_of: Callable[[Key], int | None],
        changed: Callable[[Key], None],
    ) -> None:
        """clock: monotonic seconds. routers_of: whose routers serve an LLMDeployment: its own, its LLMRouter's. slots_of: how
        many requests an engine of it works on at once. changed: told of each LLMDeployment whose load may be another now."""
        self._clock, self._routers_of, self._slots_of, self._changed = clock, routers_of, slots_of, changed
        self._sources: dict[Key, dict[str, Source]] = {}
        """By owner, then by the pod's uid."""
        self._gone: dict[tuple[Key, str], Counted] = {}
        """By LLMDeployment and track: what routers counted that are no more."""

    # --- What is told

    def add(self, uid: str, owner: Key, *, ready: bool) -> Source:
        """A router pod that is followed from now on."""
        source = self._sources.setdefault(owner, {})[uid] = Source(owner=owner, ready=ready)
        return source

    def remove(self, uid: str, owner: Key) -> None:
        """It is followed no more."""
        sources = self._sources.get(owner, {})
        source = sources.pop(uid, None)
        if not sources:
            self._sources.pop(owner, None)
        if source is not None:
            for (name, track), window in source.windows.items():
                key = (contract.KIND, owner[1], name)
                self._gone[key, track] = Counted.sum_of((self._gone.get((key, track), Counted()), window.counted))
            self._tell(source, source.report)

    def heard(self, source: Source) -> None:
        """A sign of life."""
        source.heard_at, source.lost_at = self._clock(), None

    def told(self, source: Source, report: Report) -> None:
        """A report."""
        now, before = self._clock(), source.report
        known = before.deployments if before is not None else {}
        news = Report(
            report.leaving,
            {name: levels for name, levels in report.deployments.items() if levels != known.get(name)}
            | {name: levels for name, levels in known.items() if name not in report.deployments},
        )
        was_fresh = source.fresh(now)
        source.report, source.told_at = report, now
        self.heard(source)
        for name, levels in report.deployments.items():
            if name in news.deployments:
                self._count(source, name, levels, now, whole=before is not None)
        leaving = before is not None and before.leaving != report.leaving
        self._tell(source, news if was_fresh and not leaving else report)

    def lost(self, source: Source) -> None:
        """Its connection broke."""
        if source.lost_at is None:
            source.lost_at = self._clock()

    def faded(self, source: Source) -> None:
        """Its report may count no more by now."""
        self._tell(source, source.report)

    def set_ready(self, source: Source, ready: bool) -> None:
        if source.ready != ready:
            source.ready = ready
            self._tell(source, source.report)

    # --- What is known

    def load(self, key: Key) -> Load | None:
        """Of an LLMDeployment; None: none of its routers tells anything of it."""
        now = self._clock()
        told, complete = self._told(key, now)
        if not told:
            return None
        levels = [one.levels for one in told]
        in_flight = sums.in_flight(levels)
        beyond = sums.beyond(in_flight, self._slots_of(key))
        return Load(
            complete=complete,
            waiting=sums.waiting(levels) + beyond,
            beyond=beyond,
            in_flight=in_flight,
            states=_states(told),
            idle_seconds=_idle(told, now),
            tracks=self._tracks(key, told, now),
        )

    def use(self, key: Key) -> Use | None:
        """Likewise, and no more than what costs are counted with: it is asked for with every report."""
        told, complete = self._told(key, self._clock())
        if not told:
            return None
        busy = any(replica.in_flight for one in told for replica in one.levels.replicas.values())
        return Use(complete, busy, Counted.sum_of(self._counted(key, track) for track in _TRACKS))

    def told_at(self, key: Key) -> float | None:
        """When a router last told that requests for it wait; None: none does."""
        told = [(one.told_at, levels) for one in self._sources_of(key) if (levels := _of(one, key[2])) is not None]
        return max((at for at, levels in told if levels.waiting or levels.pending), default=None)

    def has_routers(self, key: Key) -> bool:
        """Whether any router pod of it is ready, followed with success or not."""
        return any(source.ready for source in self._sources_of(key))

    def counts(self) -> tuple[int, int]:
        """Routers whose reports are fresh, and others."""
        now = self._clock()
        fresh = [source.fresh(now) for sources in self._sources.values() for source in sources.values()]
        return sum(fresh), len(fresh) - sum(fresh)

    def _told(self, key: Key, now: float) -> tuple[list[_Told], bool]:
        """What counts now, and whether that is all."""
        sources = self._sources_of(key)
        fresh = [source for source in sources if source.fresh(now)]
        told = [_Told(source, levels) for source in fresh if (levels := _of(source, key[2])) is not None]
        ready = [source for source in sources if source.ready]
        return told, bool(ready) and all(source in fresh for source in ready)

    def _sources_of(self, key: Key) -> list[Source]:
        return [source for owner in self._routers_of(key) for source in self._sources.get(owner, {}).values()]

    def _count(self, source: Source, name: str, levels: Levels, now: float, *, whole: bool) -> None:
        """whole: the router was heard before, so a track that it tells of for the first time has begun since."""
        for track, counted in levels.tracks.items():
            window = source.windows.get((name, track))
            if window is None:
                source.windows[name, track] = Window(counted, now, whole=whole)
            else:
                window.add(counted, now)

    def _tracks(self, key: Key, told: list[_Told], now: float) -> Mapping[str, TrackLoad]:
        found = {}
        for track in _TRACKS:
            windows = [window for one in told if (window := one.source.windows.get((key[2], track))) is not None]
            requests, failed, prompt_tokens, completion_tokens = counted = self._counted(key, track)
            if windows or any(counted):
                found[track] = TrackLoad(
                    requests=requests,
                    failed=failed,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=completion_tokens,
                    ttft_p95=percentile(contract.REPORT_TTFT_BOUNDS, (window.ttft(now) for window in windows)),
                    itl_p95=percentile(contract.REPORT_ITL_BOUNDS, (window.itl(now) for window in windows)),
                )
        return found

    def _counted(self, key: Key, track: str) -> Counted:
        """Since this controller follows; of silent routers too: counts that went and came back would look like new requests."""
        windows = (source.windows.get((key[2], track)) for source in self._sources_of(key))
        counted = [window.counted for window in windows if window is not None]
        return Counted.sum_of((self._gone.get((key, track), Counted()), *counted))

    def _tell(self, source: Source, report: Report | None) -> None:
        for name in report.deployments if report is not None else ():
            self._changed((contract.KIND, source.owner[1], name))


def _of(source: Source, name: str) -> Levels | None:
    return source.report.deployments.get(name) if source.report is not None else None


def _states(told: list[_Told]) -> dict[str, str]:
    """By pod: what all routers that take requests say; MIXED where they do not agree, or one does not know it yet."""
    asked = [
        one for one in told if one.source.ready and one.source.report is not None and not one.source.report.leaving
    ] or told
    states = {}
    for pod in dict.fromkeys(pod for one in asked for pod in one.levels.replicas):
        said = {replica.state if (replica := one.levels.replicas.get(pod)) is not None else MIXED for one in asked}
        states[pod] = said.pop() if len(said) == 1 else MIXED
    return states


def _idle(told: Iterable[_Told], now: float) -> float | None:
    """Since the last request at any of them. Routers tell nothing while nothing changes, so their figures grow on."""
    seconds = []
    for one in told:
        if one.levels.busy:
            return 0.0
        if one.levels.idle_seconds is not None:
            seconds.append(one.levels.idle_seconds + now - one.source.told_at)
    return min(seconds, default=None)
