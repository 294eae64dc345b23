"""What others would have decided: the rules of Kubernetes' HorizontalPodAutoscaler and of KEDA, on the depth of the queue.

Written after their documents and sources:
- https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (algorithm, tolerance, behavior and its defaults)
- kubernetes/kubernetes pkg/controller/podautoscaler: replica_calculator.go, GetExternalPerPodMetricReplicas; horizontal.go,
  stabilizeRecommendationWithBehaviors and convertDesiredReplicasWithBehaviorRate
- https://keda.sh/docs/latest/reference/scaledobject-spec/ (pollingInterval 30, cooldownPeriod 300, activation)
- kedacore/keda pkg/scaling/executor/scale_scaledobjects.go, RequestScale
"""

from collections import deque
from collections.abc import Callable
from math import ceil
from typing import Final

from tokenfleet.planning.scaling import Signal

SYNC_SECONDS: Final = 15.0
"""--horizontal-pod-autoscaler-sync-period."""
TOLERANCE: Final = 0.1
"""--horizontal-pod-autoscaler-tolerance."""
STABILIZATION_SECONDS: Final = 300.0
"""behavior.scaleDown.stabilizationWindowSeconds' default; downwards 100 % may go at once."""
UP_SECONDS: Final = 15.0
UP_PODS: Final = 4
UP_FACTOR: Final = 2.0
"""behavior.scaleUp's default policies: 4 pods or 100 % in 15 s, whichever is more."""
SCRAPE_SECONDS: Final = 15.0
"""Between two scrapes of a gauge: what the metrics adapter answers is as old as the last one."""
SCRAPE_OFFSET: Final = 7.0
"""Of scrapes from syncs: half a period, as it is on average."""
POLLING_SECONDS: Final = 30.0
COOLDOWN_SECONDS: Final = 300.0
"""KEDA's: between looks at a deployment without replicas, and from the last activity to none."""


Gauge = Callable[[Signal], int]


def waiting(signal: Signal) -> int:
    return signal.waiting


def load(signal: Signal) -> int:
    """What runs and what waits: what one would scale by who knows how many requests a replica should have."""
    return signal.load


class Hpa:
    """A HorizontalPodAutoscaler with an External metric, `target: {type: AverageValue, averageValue: 5}`."""

    def __init__(self, *, least: int, most: int, replicas: int, average: int = 5, gauge: Gauge = waiting) -> None:
        self._least, self._most, self._average = least, most, average
        self._gauge = gauge
        self._replicas = replicas
        self._metric = 0
        self._scraped = self._synced = float("-inf")
        self._recommended: deque[tuple[float, int]] = deque([(0.0, replicas)])
        self._added: deque[tuple[float, int]] = deque()

    def __call__(self, now: float, signal: Signal) -> int:
        if now >= self._scraped + SCRAPE_SECONDS and now % SCRAPE_SECONDS >= SCRAPE_OFFSET:
            self._scraped, self._metric = now - (now % SCRAPE_SECONDS - SCRAPE_OFFSET), self._gauge(signal)
        if now >= self._synced + SYNC_SECONDS:
            self._synced = now
            self._sync(now)
        return self._replicas

    def set(self, replicas: int, now: float) -> None:
        """Somebody else, KEDA, set the count."""
        self._replicas = replicas
        self._recommended.append((now, replicas))

    @property
    def replicas(self) -> int:
        return self._replicas

    def _sync(self, now: float) -> None:
        current = self._replicas
        if not current:  # "ScalingDisabled": it leaves a count of 0 alone
            return
        ratio = self._metric / (self._average * current)
        wanted = current if abs(1 - ratio) <= TOLERANCE else ceil(self._metric / self._average)
        self._recommended.append((now, wanted))
        while self._recommended[0][0] < now - STABILIZATION_SECONDS:
            self._recommended.popleft()
        if wanted < current:
            wanted = min(current, max(each for _, each in self._recommended))
        elif wanted > current:
            wanted = min(wanted, self._up_limit(now))
        self._replicas = min(max(wanted, self._least), self._most)
        if self._replicas > current:
            self._added.append((now, self._replicas - current))

    def _up_limit(self, now: float) -> int:
        while self._added and self._added[0][0] <= now - UP_SECONDS:
            self._added.popleft()
        at_first = self._replicas - sum(count for _, count in self._added)
        return max(at_first + UP_PODS, ceil(at_first * UP_FACTOR))


class Keda:
    """A ScaledObject on the same metric: between none and one replica KEDA decides, above it an HPA that it makes.

    It counts as active while anything waits or runs, which is kinder than the queue alone: by that it would put busy replicas
    to sleep.
    """

    def __init__(self, *, least: int, most: int, replicas: int, average: int = 5) -> None:
        self._least = least
        self._hpa = Hpa(least=max(least, 1), most=most, replicas=replicas, average=average)
        self._polled = float("-inf")
        self._active_at = 0.0

    def __call__(self, now: float, signal: Signal) -> int:
        if now >= self._polled + POLLING_SECONDS:
            self._polled = now
            self._poll(now, active=signal.load > 0)
        return self._hpa(now, signal)

    def _poll(self, now: float, *, active: bool) -> None:
        if active:
            self._active_at = now
            if not self._hpa.replicas:
                self._hpa.set(max(self._least, 1), now)
        elif self._hpa.replicas and not self._least and now >= self._active_at + COOLDOWN_SECONDS:
            self._hpa.set(0, now)
