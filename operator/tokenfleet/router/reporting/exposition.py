"""The counts of metrics.py, and gauges read off the living objects, as Prometheus' text. Runs only when someone scrapes."""

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tokenfleet import contract
from tokenfleet.router.balancing.replicas import Replicas, State
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.reporting.metrics import FIRST_SECONDS, GAP_SECONDS, Histogram
from tokenfleet.router.shared import Shared


class RouterCollector(Collector):
    """Reads the numbers at the moment of a scrape."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def collect(self) -> Iterable[Metric]:
        shared, numbers = self._shared, self._shared.metrics
        yield self._requests()
        yield _counter(contract.METRIC_RETRIES, "Requests given to a replica again, by cause", "cause", numbers.retries)
        cut = "Streams whose replica was lost, by what came of them"
        yield _counter(contract.METRIC_CONTINUATIONS, cut, "result", numbers.continuations)
        yield _counter(contract.METRIC_PREFILLS, "Prompts for prefill replicas, by result", "result", numbers.prefills)
        watch = "Times that a list or a watch broke, by resource"
        yield _counter(contract.METRIC_WATCH_FAILURES, watch, "resource", numbers.watch_failures)
        shed = Counter({priority.name.lower(): count for priority, count in shared.shedder.shed.items()})
        yield _counter(contract.METRIC_SHED, "Requests refused by chance under load, by priority", "priority", shed)
        yield from self._durations()
        yield from self._tokens()
        yield from self._queues()
        yield from self._replicas()
        running = shared.async_worker.running if shared.async_worker is not None else 0
        yield _gauge(contract.METRIC_CLIENT_CONNECTIONS, "Open", len(shared.clients) - running)
        yield from self._durable_queue()
        yield _gauge(contract.METRIC_UPSTREAM_IDLE, "Spare connections to replicas", shared.upstreams.idle_total())
        yield _gauge(contract.METRIC_WATCH_SYNCED, "1: the API was read", shared.catalog.synced)
        available = getattr(shared.rates, "redis_available", None)
        if available is not None:
            yield _gauge(contract.METRIC_REDIS_UP, "1: limits are shared; 0: Redis is away, each router has its own", available)

    def _requests(self) -> Metric:
        family = CounterMetricFamily(contract.METRIC_REQUESTS, "Requests that ended", labels=["code", "reason", "model"])
        early = Counter(self._shared.metrics.requests)
        for name, model in self._shared.metrics.models.items():
            early.subtract(model.requests)
            for (code, reason), count in model.requests.items():
                family.add_metric([str(code), reason, name], count)
        for (code, reason), count in early.items():
            if count:
                family.add_metric([str(code), reason, ""], count)
        return family

    def _durations(self) -> Iterable[Metric]:
        models = self._shared.metrics.models
        first = "From a whole request to its answer's first byte"
        tracks = {name: model.tracks.values() for name, model in models.items()}
        firsts = {
            name: [one for track in found for one in (track.first_token, track.first_byte)] for name, found in tracks.items()
        }
        gaps = {name: [track.gaps for track in found] for name, found in tracks.items()}
        yield _histograms(contract.METRIC_TIME_TO_FIRST_BYTE, first, _summed(FIRST_SECONDS, firsts))
        yield _histograms(contract.METRIC_INTER_TOKEN, "Between two parts of a stream", _summed(GAP_SECONDS, gaps))
        seconds = {name: model.seconds for name, model in models.items()}
        yield _histograms(contract.METRIC_REQUEST_SECONDS, "From a whole request to its end", seconds)
        waits = "In the queue, of requests that had to wait, until a place or the end"
        yield _histograms(contract.METRIC_QUEUE_SECONDS, waits, {name: model.queued for name, model in models.items()})

    def _tokens(self) -> Iterable[Metric]:
        labels = ["model", "key"]
        prompt = CounterMetricFamily(contract.METRIC_PROMPT_TOKENS, "Tokens of prompts, by the answers' usage", labels=labels)
        completion = CounterMetricFamily(contract.METRIC_COMPLETION_TOKENS, "Tokens generated, likewise", labels=labels)
        for pair, tokens in self._shared.metrics.tokens.items():
            prompt.add_metric(pair, tokens.prompt)
            completion.add_metric(pair, tokens.completion)
        return prompt, completion

    def _queues(self) -> Iterable[Metric]:
        depth = GaugeMetricFamily(contract.METRIC_ROUTER_QUEUE_DEPTH, "Requests that wait", labels=["model", "priority"])
        load = GaugeMetricFamily(contract.METRIC_LOAD, "What shedding goes by, for whom it hits hardest", labels=["model"])
        for model in self._shared.catalog.models():
            load.add_metric([model.name], model.load.worst())
            for priority in Priority:
                depth.add_metric([model.name, priority.name.lower()], model.queue.waiting(priority))
        return depth, load

    def _replicas(self) -> Iterable[Metric]:
        in_flight = GaugeMetricFamily(contract.METRIC_IN_FLIGHT, "Requests on a replica", labels=["replica"])
        foreign = GaugeMetricFamily(contract.METRIC_FOREIGN_LOAD, "Those of other routers, estimated", labels=["replica"])
        pools = self._pools()
        for pool in pools:
            for replica in pool.all():
                in_flight.add_metric([replica.name], replica.in_flight)
                foreign.add_metric([replica.name], replica.foreign.load)
        states = GaugeMetricFamily(contract.METRIC_REPLICAS, "Replicas by state", labels=["state"])
        for state in State:
            states.add_metric([state.value], sum(pool.count(state) for pool in pools))
        ejected = sum(replica.ejected for pool in pools for replica in pool.all())
        ejections = sum((pool.ejections for pool in pools), Counter[str]())
        yield from (states, in_flight, foreign, _gauge(contract.METRIC_EJECTED, "Replicas that are ejected now", ejected))
        yield _counter(contract.METRIC_EJECTIONS, "Replicas left alone for a while, by the last failure", "kind", ejections)

    def _durable_queue(self) -> Iterable[Metric]:
        worker = self._shared.async_worker
        if worker is None:
            return
        pending = GaugeMetricFamily(contract.METRIC_ASYNC_PENDING, "Of the durable queue, not ended", labels=["model"])
        for model, count in worker.pending.items():
            pending.add_metric([model], count)
        yield pending
        yield _gauge(contract.METRIC_ASYNC_RUNNING, "Of the durable queue, run by this router", worker.running)
        yield _counter(contract.METRIC_ASYNC_TRIES, "Of the durable queue, by what came of them", "result", worker.ended)

    def _pools(self) -> list[Replicas]:
        """Each once, though several models may share it."""
        pools = [pool for model in self._shared.catalog.models() for pool in model.pools]
        found = (replicas for pool in pools for replicas in (pool.replicas, pool.prefill) if replicas is not None)
        return list(dict.fromkeys(found))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _histograms(name: str, text: str, models: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=["model"])
    for model, histogram in models.items():
        family.add_metric([model], histogram.buckets(), histogram.sum)
    return family


def _summed(edges: tuple[float, ...], models: Mapping[str, list[Histogram]]) -> dict[str, Histogram]:
    return {model: Histogram.sum_of(edges, parts) for model, parts in models.items()}


class Exposition:
    """The text of a scrape."""

    __slots__ = ("_registry",)

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)
