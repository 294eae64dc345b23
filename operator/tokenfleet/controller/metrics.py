"""What the controller counts, for Prometheus."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from tokenfleet import contract

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One registry, and what goes into it."""

    def __init__(
        self, *, queue_depth: Callable[[], float], deployments: Callable[[], float], routers: Callable[[], float]
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._reconciles = Counter(
            contract.METRIC_RECONCILES, "Reconciles by result: done, retried, failed.", ["result"], registry=self.registry
        )
        self._seconds = Histogram(
            contract.METRIC_RECONCILE_SECONDS, "Time of one reconcile.", buckets=_BUCKETS, registry=self.registry
        )
        self.leader = Gauge(contract.METRIC_LEADER, "1 while this replica leads.", registry=self.registry)
        depth = Gauge(
            contract.METRIC_QUEUE_DEPTH, "LLMDeployments and LLMRouters in line to be reconciled.", registry=self.registry
        )
        depth.set_function(queue_depth)
        count = Gauge(contract.METRIC_DEPLOYMENTS, "LLMDeployments that there are.", registry=self.registry)
        count.set_function(deployments)
        shared = Gauge(contract.METRIC_ROUTERS, "LLMRouters that there are.", registry=self.registry)
        shared.set_function(routers)
        for result in ("done", "retried", "failed"):
            self._reconciles.labels(result)

    @contextmanager
    def timed(self) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self._seconds.observe(perf_counter() - began)

    def count(self, result: str) -> None:
        self._reconciles.labels(result).inc()
