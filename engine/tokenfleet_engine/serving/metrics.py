"""The fleet's metrics: one collector in vLLM's own registry, so that they stand on the same /metrics.

What vLLM measures already is its figure under the fleet's name, made when somebody scrapes, so that a token costs nothing
more: times between tokens, tokens, caches. vLLM is right about these on streams and aborts alike: it counts a token when it is
there, whether or not it is sent. What it does not know is ours: how requests ended for the client, and how long they took. A
ratio of nothing is left out, since neither 0 nor NaN would be true.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from tokenfleet import contract
from tokenfleet_engine.serving.gate import Gate
from tokenfleet_engine.serving.requests import Requests
from tokenfleet_engine.serving.signals import read_sums

_HISTOGRAMS: Final = {
    contract.METRIC_ENGINE_TIME_TO_FIRST_TOKEN: "vllm:time_to_first_token_seconds",
    contract.METRIC_ENGINE_INTER_TOKEN: "vllm:inter_token_latency_seconds",
}
_RATIOS: Final = {
    contract.METRIC_ENGINE_PREFIX_HITS: ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
    contract.METRIC_ENGINE_SPECULATIVE: (
        "vllm:spec_decode_num_accepted_tokens_total",
        "vllm:spec_decode_num_draft_tokens_total",
    ),
}
_KV_CACHE: Final = "vllm:kv_cache_usage_perc"
_TOKENS: Final = "vllm:generation_tokens_total"
_MODEL: Final = "model_name"
_HELP: Final = {
    contract.METRIC_ENGINE_ACTIVE: "Requests in flight, from their head to the last byte of their answer.",
    contract.METRIC_ENGINE_QUEUE_DEPTH: "Sequences that wait in the engine's queue.",
    contract.METRIC_ENGINE_LOAD: "How near admission is to the nearest of its bounds; at 1 it refuses new requests.",
    contract.METRIC_ENGINE_TIME_TO_FIRST_TOKEN: "Seconds from a sequence's arrival in the engine to its first token, whether "
    "it is streamed or not, and also where the client left later.",
    contract.METRIC_ENGINE_INTER_TOKEN: "Seconds between two steps that gave a sequence tokens: one token each, or more where "
    "speculation was right.",
    contract.METRIC_ENGINE_TOKENS: "Tokens that the engine has generated, also for clients that left.",
    contract.METRIC_ENGINE_KV_CACHE: "Share of the KV cache's blocks that running sequences hold.",
    contract.METRIC_ENGINE_PREFIX_HITS: "Share of prompt tokens that were found in the prefix cache, since the engine started.",
    contract.METRIC_ENGINE_SPECULATIVE: "Share of speculated tokens that the model accepted, since the engine started.",
    contract.METRIC_ENGINE_GPU_MEMORY: "Memory in use on a GPU of this engine, by whatever process.",
}


class FleetMetrics(Collector):
    """`memory` is in bytes by GPU."""

    def __init__(
        self, registry: CollectorRegistry, requests: Requests, gate: Gate, *, memory: Callable[[], Mapping[str, int]]
    ) -> None:
        self._registry = registry
        self._requests = requests
        self._gate = gate
        self._memory = memory

    def describe(self) -> Iterator[Metric]:
        """The names alone: the registry asks for them when it takes us in, before there is an engine."""
        yield from self._own()
        for name, text in _HELP.items():
            kind = "histogram" if name in _HISTOGRAMS else "counter" if name == contract.METRIC_ENGINE_TOKENS else "gauge"
            yield Metric(name, text, kind)

    def collect(self) -> Iterator[Metric]:
        yield from self._own()
        figures = self._gate.peek()
        yield _gauge(contract.METRIC_ENGINE_ACTIVE, figures.in_flight)
        yield _gauge(contract.METRIC_ENGINE_QUEUE_DEPTH, figures.waiting)
        yield _gauge(contract.METRIC_ENGINE_LOAD, self._gate.load(figures).factor)
        for name, source in _HISTOGRAMS.items():
            yield self._histogram(name, source)
        yield self._tokens()
        shares = [sample.value for sample in self._samples(_KV_CACHE)]
        if shares:  # one for each engine of this server, of the same size
            yield _gauge(contract.METRIC_ENGINE_KV_CACHE, sum(shares) / len(shares))
        yield from self._ratios()
        memory = GaugeMetricFamily(contract.METRIC_ENGINE_GPU_MEMORY, _HELP[contract.METRIC_ENGINE_GPU_MEMORY], labels=["gpu"])
        for gpu, used in self._memory().items():
            memory.add_metric([gpu], used)
        yield memory

    def _own(self) -> Iterator[Metric]:
        for own in (self._requests.total, self._requests.refused, self._requests.seconds):
            for metric in own.collect():
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric

    def _histogram(self, name: str, source: str) -> Metric:
        """Of all engines of this server together."""
        buckets: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        sums: dict[str, float] = defaultdict(float)
        names = (f"{source}_bucket", f"{source}_sum")
        for sample in self._samples(*names):
            model = sample.labels.get(_MODEL, "")
            if sample.name == names[0]:
                buckets[model][sample.labels["le"]] += sample.value
            else:
                sums[model] += sample.value
        family = HistogramMetricFamily(name, _HELP[name], labels=["model"])
        for model, counts in buckets.items():
            family.add_metric([model], list(counts.items()), sums[model])
        return family

    def _tokens(self) -> Metric:
        tokens: dict[str, float] = defaultdict(float)
        for sample in self._samples(_TOKENS):
            tokens[sample.labels.get(_MODEL, "")] += sample.value
        family = CounterMetricFamily(contract.METRIC_ENGINE_TOKENS, _HELP[contract.METRIC_ENGINE_TOKENS], labels=["model"])
        for model, count in tokens.items():
            family.add_metric([model], count)
        return family

    def _ratios(self) -> Iterator[Metric]:
        for name, (part, whole) in _RATIOS.items():
            sums = read_sums(self._registry, part, whole)
            if sums.get(whole):
                yield _gauge(name, sums.get(part, 0.0) / sums[whole])

    def _samples(self, *names: str) -> Iterator[Sample]:
        for metric in self._registry.restricted_registry(names).collect():
            yield from metric.samples


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, _HELP[name], value=value)
