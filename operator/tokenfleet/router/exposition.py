"""The counts of metrics.py, and gauges read off the living objects, as Prometheus' text. Runs only when someone scrapes."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tokenfleet import contract
from tokenfleet.router.metrics import Histogram
from tokenfleet.router.replicas import State
from tokenfleet.router.shared import Shared


class RouterCollector(Collector):
    """Reads the numbers at the moment of a scrape."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def collect(self) -> Iterable[Metric]:
        shared, numbers = self._shared, self._shared.metrics
        requests = CounterMetricFamily(contract.METRIC_REQUESTS, "Requests that ended", labels=["code", "reason"])
        for (code, reason), count in numbers.requests.items():
            requests.add_metric([str(code), reason], count)
        yield requests
        yield _counter(contract.METRIC_RETRIES, "Requests given to a replica again, by cause", "cause", numbers.retries)
        watch = "Times that a list or a watch broke, by resource"
        yield _counter(contract.METRIC_WATCH_FAILURES, watch, "resource", numbers.watch_failures)
        yield _histogram(contract.METRIC_TIME_TO_FIRST_BYTE, "From a whole request to its answer's start", numbers.first_byte)
        yield _histogram(contract.METRIC_REQUEST_SECONDS, "From a whole request to its answer's end", numbers.seconds)
        yield GaugeMetricFamily(contract.METRIC_CLIENT_CONNECTIONS, "Open", len(shared.clients))
        yield GaugeMetricFamily(contract.METRIC_UPSTREAM_IDLE, "Spare connections", shared.upstreams.idle_total())
        yield GaugeMetricFamily(contract.METRIC_WATCH_SYNCED, "1: the API was read", int(shared.catalog.synced))
        yield from self._replicas()

    def _replicas(self) -> Iterable[Metric]:
        in_flight = GaugeMetricFamily(contract.METRIC_IN_FLIGHT, "Requests on a replica", labels=["replica"])
        states = GaugeMetricFamily(contract.METRIC_REPLICAS, "Replicas by state", labels=["state"])
        models = self._shared.catalog.models()
        for state in State:
            states.add_metric([state.value], sum(model.replicas.count(state) for model in models))
        for model in models:
            for replica in model.replicas.all():
                in_flight.add_metric([replica.name], replica.in_flight)
        yield states
        yield in_flight


def _counter(name: str, text: str, label: str, counts: Counter[str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=histogram.sum)


class Exposition:
    """The text of a scrape."""

    __slots__ = ("_registry",)

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)
