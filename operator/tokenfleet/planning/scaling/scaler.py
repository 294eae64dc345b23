"""The decision: one object for each deployment, told of each new signal, that says how many replicas there should be.

Up at once, by whichever check wants most. Down only to the highest need of a whole window, which then begins anew, so that two
steps down are a window apart. Need is kept as the load has it, without the bounds: when a schedule's minimum ends, what was
idle before is known already. Bounds and budget are applied last.
"""

from collections.abc import Iterator
from math import ceil

from tokenfleet.planning.scaling import reasons
from tokenfleet.planning.scaling.demand import Want, by_concurrency, by_latency, by_queue, counted, strained
from tokenfleet.planning.scaling.fleet import Fleet
from tokenfleet.planning.scaling.lessons import Lessons
from tokenfleet.planning.scaling.policy import BUDGET_SECONDS, GATHER_PART, MISSING_SECONDS, SLO_WINDOW_SECONDS, Policy
from tokenfleet.planning.scaling.schedules import Bounds, Calendar
from tokenfleet.planning.scaling.signal import Decision, Signal
from tokenfleet.planning.scaling.sleep import Sleep
from tokenfleet.planning.scaling.verdict import bounded, held
from tokenfleet.planning.scaling.window import Highest


class Scaler:
    """Of one deployment. `now` is in Unix seconds; a clock that goes back stands still here."""

    def __init__(self, policy: Policy, *, desired: int, now: float) -> None:
        self._policy = policy
        self._calendar = Calendar(policy)
        self._lessons = Lessons()
        self._fleet = Fleet(now)
        self._shares = Highest(seconds=SLO_WINDOW_SECONDS)
        """Requests for each replica that serves."""
        self._shares.push(0, now)
        self._now = now
        self._missing_since: float | None = None
        self._looks: tuple[float, ...] = ()
        self._set_at: float | None = None
        self._begin(desired, now)

    def _begin(self, desired: int, now: float) -> None:
        """Nothing is known of the load, so nothing is taken away until a whole window was seen."""
        self._desired = desired
        self._needs, self._loads = (Highest(seconds=self._policy.stabilization_seconds) for _ in range(2))
        self._needs.push(desired, now)
        self._need_now = desired
        self._loads.push(0, now)
        self._sleep = Sleep(now)

    @property
    def desired(self) -> int:
        return self._desired

    @property
    def next_look(self) -> float | None:
        """Seconds after the last decision at which time alone may make another one; None: never."""
        return min((at - self._now for at in self._looks if at > self._now), default=None)

    def adopt(self, policy: Policy) -> None:
        """The spec changed. What was seen of the load stays, what was learned of the replicas only where they are the same."""
        before, self._policy = self._policy, policy
        self._calendar = Calendar(policy)
        self._needs.seconds = self._loads.seconds = policy.stabilization_seconds
        if _replica(before) != _replica(policy):
            self._lessons = Lessons()

    def restart(self, desired: int, *, now: float) -> None:
        """Somebody set spec.replicas: that is the count, within the bounds, and a new window begins."""
        self._now = now = max(now, self._now)
        bounds = self._calendar.at(now)
        self._begin(min(max(desired, bounds.least), bounds.most), now)
        self._set_at = now

    def decide(self, signal: Signal | None, *, now: float, budget: int | None = None) -> Decision:
        """How many there should be now. signal: None where any router's is missing or stale.

        budget: the most that may run, None without a bound; who cannot tell gives the present count, and it will not rise.
        """
        self._now = now = max(now, self._now)
        bounds = self._calendar.at(now)
        decision = self._blind(bounds, budget) if signal is None else self._seeing(signal, bounds, budget)
        if decision.desired != self._desired:
            self._set_at = None
            self._change(decision.desired)
        self._looks = tuple(at for at in self._times(signal, bounds) if at is not None)
        if decision.reason == reasons.BUDGET_EXHAUSTED:
            self._looks = (*self._looks, now + BUDGET_SECONDS)
        return decision

    def _blind(self, bounds: Bounds, budget: int | None) -> Decision:
        """Never fewer; and what sleeps is woken after a while, since requests may wait."""
        now = self._now
        self._missing_since = now if self._missing_since is None else self._missing_since
        self._needs.push(self._desired, now)
        self._sleep.busy(now)
        want = None
        if not self._desired and now >= self._missing_since + MISSING_SECONDS:
            want = Want(1, reasons.SIGNAL_MISSING, f"No load is known for {MISSING_SECONDS:.0f} s, and requests may wait")
        never_fewer = Bounds(bounds.least, max(bounds.most, self._desired), bounds.source)
        kept = f"Not every router reports its load: the count is held at {self._desired}."
        return bounded(self._desired, want, never_fewer, budget) or Decision(self._desired, reasons.SIGNAL_MISSING, kept)

    def _seeing(self, signal: Signal, bounds: Bounds, budget: int | None) -> Decision:
        now, window = self._now, self._policy.stabilization_seconds
        self._missing_since = None
        self._observe(signal)
        want = max(self._wants(signal), key=lambda each: each.count, default=None)
        self._need_now = self._need(signal, want)
        self._needs.push(self._need_now, now)
        if want is None or want.count <= self._desired:
            want = self._surplus(signal, bounds)
        need = self._needs.highest(now)
        decision = bounded(self._desired, want, bounds, budget)
        if decision is None:
            by_hand = self._set_at is not None and now < self._set_at + window
            return held(self._desired, need, signal, bounds, budget, by_hand=by_hand)
        if want is not None and decision.desired > self._desired:
            self._lessons.raised(self._policy, now)
        return decision

    def _observe(self, signal: Signal) -> None:
        now = self._now
        self._fleet.observe(signal, now)
        self._loads.push(signal.load, now)
        self._shares.push(signal.load / signal.ready if signal.ready else 0, now)
        if signal.load:
            self._sleep.busy(now)

    def _wants(self, signal: Signal) -> Iterator[Want]:
        now, policy = self._now, self._policy
        if not self._desired:
            wake = self._sleep.wake(signal, now)
            if wake is None:
                return
            yield wake
        carries = self._lessons.carries(policy, now)
        queue = by_queue(policy, signal, carries=carries, fresh=self._fleet.fresh(now))
        checks = [queue, by_concurrency(policy, signal)]
        settled = self._fleet.settled_at(now)
        if settled is not None and settled <= now and (slow := by_latency(policy, signal)):
            self._lessons.broke(self._shares.highest(now), now)
            checks.append(slow)
        yield from (each for each in checks if each is not None)

    def _need(self, signal: Signal, want: Want | None) -> int:
        """Of this moment: what would do, and what is asked for. Less than one only while it sleeps."""
        asked = 0 if want is None else want.count
        if strained(self._policy, signal):
            return max(asked, self._desired)
        fits = max(1, ceil(signal.load / self._lessons.carries(self._policy, self._now)))
        return max(asked, min(fits, self._desired))

    def _surplus(self, signal: Signal, bounds: Bounds) -> Want | None:
        """Fewer, where the load allows."""
        now, window = self._now, self._policy.stabilization_seconds
        idle_at = self._sleep.idle_at(self._policy, signal, now)
        if self._desired and not bounds.least and idle_at is not None and idle_at <= now:
            return Want(0, reasons.IDLE, f"No request for {self._policy.scale_to_zero_seconds:.0f} s")
        need = int(self._needs.highest(now))
        # A load that falls fast passes through every count: one step later saves all the windows between.
        if need >= self._desired or not self._needs.settled(now, within=GATHER_PART * window):
            return None
        peak = self._loads.highest(now)
        at_once = counted(int(peak), "request at a time", "requests at a time")
        text = f"At most {at_once} in the last {window:.0f} s" if peak else f"No request in the last {window:.0f} s"
        return Want(need, reasons.LOAD_FELL, text)

    def _change(self, desired: int) -> None:
        now = self._now
        if desired < self._desired:
            self._lessons.lowered(self._loads.highest(now), desired, now)
            self._needs.restart(desired, now)
            self._needs.push(self._need_now, now)
        if not desired:
            self._sleep.begins(now)
        self._desired = desired

    def _times(self, signal: Signal | None, bounds: Bounds) -> Iterator[float | None]:
        """When time alone may change the decision."""
        now, window = self._now, self._policy.stabilization_seconds
        yield self._calendar.next_change(now)
        if signal is None:
            yield None if self._missing_since is None else self._missing_since + MISSING_SECONDS
            return
        yield self._needs.changes_at()
        yield self._lessons.forgets_at()
        yield None if self._set_at is None else self._set_at + window
        if self._desired and not bounds.least:
            yield self._sleep.idle_at(self._policy, signal, now)
        slow = by_latency(self._policy, signal) is not None
        if signal.waiting or slow:
            yield from self._fleet.changes_at()
        if slow:
            yield self._fleet.settled_at(now)


def _replica(policy: Policy) -> tuple[object, ...]:
    """What says how much one replica carries."""
    return policy.concurrency, policy.max_in_flight, policy.ttft_seconds, policy.itl_seconds
