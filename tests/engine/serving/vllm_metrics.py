"""vLLM's metrics, as its server registers them."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LABELS = ("model_name", "engine")


@dataclass
class VllmMetrics:
    """Of a server with `engines` engines. `speculative`: one of them guesses."""

    registry: CollectorRegistry
    engines: int = 1
    speculative: bool = False

    def __post_init__(self) -> None:
        self.waiting = self._gauge("num_requests_waiting")
        self.kv_cache = self._gauge("kv_cache_usage_perc")
        self.first_token = self._histogram("time_to_first_token_seconds")
        self.inter_token = self._histogram("inter_token_latency_seconds")
        self.tokens = self._counter("generation_tokens")
        self.hits = self._counter("prefix_cache_hits")
        self.queries = self._counter("prefix_cache_queries")
        if self.speculative:
            self.accepted = self._counter("spec_decode_num_accepted_tokens")
            self.drafted = self._counter("spec_decode_num_draft_tokens")

    def _gauge(self, name: str) -> list[Gauge]:
        gauge = Gauge(f"vllm:{name}", "A gauge.", LABELS, registry=self.registry)
        return [gauge.labels("demo", str(index)) for index in range(self.engines)]

    def _counter(self, name: str) -> list[Counter]:
        counter = Counter(f"vllm:{name}", "A counter.", LABELS, registry=self.registry)
        return [counter.labels("demo", str(index)) for index in range(self.engines)]

    def _histogram(self, name: str) -> list[Histogram]:
        histogram = Histogram(f"vllm:{name}", "A histogram.", LABELS, registry=self.registry, buckets=(0.1, 1.0))
        return [histogram.labels("demo", str(index)) for index in range(self.engines)]
