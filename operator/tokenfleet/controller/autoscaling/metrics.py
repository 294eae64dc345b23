"""What autoscaling counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tokenfleet import contract
from tokenfleet.controller.store import Key

_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class ScalingMetrics:
    """In the controller's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        whose = ["namespace", "deployment"]
        self._desired = Gauge(contract.METRIC_SCALING_DESIRED, "Replicas that autoscaling wants.", whose, registry=registry)
        self._decisions = Counter(
            contract.METRIC_SCALING_DECISIONS, "Changes of that count, by reason.", [*whose, "reason"], registry=registry
        )
        self._wakes = Histogram(
            contract.METRIC_WAKE_SECONDS, "From a request for a sleeping model to a replica that serves.", ["part"],
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._reports = Gauge(
            contract.METRIC_ROUTER_REPORTS, "Routers whose reports are followed: fresh, stale.", ["state"], registry=registry
        )

    def routers(self, counts: Callable[[], tuple[int, int]]) -> None:
        """Where the number of fresh and stale reports is read from."""
        for index, state in enumerate(("fresh", "stale")):
            self._reports.labels(state).set_function(lambda index=index: counts()[index])  # type: ignore[misc]

    def wants(self, key: Key, count: int) -> None:
        self._desired.labels(key[1], key[2]).set(count)

    def decided(self, key: Key, reason: str) -> None:
        self._decisions.labels(key[1], key[2], reason).inc()

    def woke(self, parts: dict[str, float]) -> None:
        for part, seconds in parts.items():
            self._wakes.labels(part).observe(seconds)

    def forget(self, key: Key) -> None:
        """It is not autoscaled any more. What was decided stays counted."""
        self._desired.remove(key[1], key[2])
