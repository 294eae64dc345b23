"""vLLM's own metrics, under its names and with its labels and buckets, of a simulated engine.

Those that scaling, routing and dashboards go by; what the simulator has nothing to say about (FLOPs, multi-modal caches) is
left out. The fleet's names are made from these by admission's collector, as they are for a real engine.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tokenfleet_engine.simulation.scheduler import Limits, Scheduler, Step
from tokenfleet_engine.simulation.sequences import Finish, Sequence

REQUEST_BUCKETS: Final = (
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip
FIRST_TOKEN_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)  # fmt: skip
NEXT_TOKEN_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
STEP_BUCKETS: Final = tuple(2**power for power in (0, *range(3, 15)))
PREEMPTION_BUCKETS: Final = (1, 2, 3, 4, 5, 10, 20)


class Metrics:
    """An Observer of the engine."""

    def __init__(self, registry: CollectorRegistry, *, model: str, limits: Limits, max_model_len: int) -> None:
        labels = {"model_name": model, "engine": "0"}

        def gauge(name: str, text: str, **more: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, [*labels, *more], registry=registry).labels(**labels, **more)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"vllm:{name}", text, list(labels), registry=registry).labels(**labels)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"vllm:{name}", text, list(labels), buckets=buckets, registry=registry).labels(**labels)

        self._running = gauge("num_requests_running", "Number of requests in model execution batches.")
        self._waiting = gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self._kv_cache = gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        cache = {
            "block_size": limits.block_size,
            "num_gpu_blocks": limits.blocks,
            "enable_prefix_caching": limits.prefix_caching,
        }
        gauge(
            "cache_config_info",
            "Information of the LLMEngine CacheConfig",
            **{name: str(value) for name, value in cache.items()},
        ).set(1)
        self._queries = counter("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.")
        self._hits = counter("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.")
        self._preemptions = counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt_tokens = counter("prompt_tokens", "Number of prefill tokens processed.")
        self._generated = counter("generation_tokens", "Number of generation tokens processed.")
        ended = Counter(
            "vllm:request_success", "Count of successfully processed requests.", [*labels, "finished_reason"], registry=registry
        )
        self._ended = {reason: ended.labels(**labels, finished_reason=reason) for reason in Finish}
        self._step = histogram("iteration_tokens_total", "Histogram of number of tokens per engine_step.", STEP_BUCKETS)
        tokens = one_two_five(max_model_len)
        self._request_prompt = histogram("request_prompt_tokens", "Number of prefill tokens processed.", tokens)
        self._request_generated = histogram("request_generation_tokens", "Number of generation tokens processed.", tokens)
        self._first = histogram(
            "time_to_first_token_seconds", "Histogram of time to first token in seconds.", FIRST_TOKEN_BUCKETS
        )
        self._next = histogram(
            "inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", NEXT_TOKEN_BUCKETS
        )
        per_token = "Histogram of time_per_output_token_seconds per request."
        self._per_token = histogram("request_time_per_output_token_seconds", per_token, NEXT_TOKEN_BUCKETS)
        self._request = histogram(
            "e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", REQUEST_BUCKETS
        )
        phase = "Histogram of time spent in {} phase for request."
        self._queued = histogram("request_queue_time_seconds", phase.format("WAITING"), REQUEST_BUCKETS)
        self._inference = histogram("request_inference_time_seconds", phase.format("RUNNING"), REQUEST_BUCKETS)
        self._prefill = histogram("request_prefill_time_seconds", phase.format("PREFILL"), REQUEST_BUCKETS)
        self._decode = histogram("request_decode_time_seconds", phase.format("DECODE"), REQUEST_BUCKETS)
        preempted = "Histogram of the number of times a request was preempted."
        self._request_preemptions = histogram("request_num_preemptions", preempted, PREEMPTION_BUCKETS)
        late = "Seconds by which the simulator fell behind its timing model, since it had too little CPU."
        self._late = Counter("tokenfleet_simulator_late_seconds", late, registry=registry)
        self._seen_queries = self._seen_hits = 0

    def stepped(self, step: Step, scheduler: Scheduler, generated: int) -> None:
        self._running.set(len(scheduler.running))
        self._waiting.set(len(scheduler.waiting))
        self._kv_cache.set(scheduler.pool.usage)
        if step.preempted:
            self._preemptions.inc(len(step.preempted))
        if step.admitted:
            self._queries.inc(scheduler.queried_tokens - self._seen_queries)
            self._hits.inc(scheduler.hit_tokens - self._seen_hits)
            self._seen_queries, self._seen_hits = scheduler.queried_tokens, scheduler.hit_tokens
        if step.parts:
            self._generated.inc(generated)
            self._step.observe(step.work.prompt_tokens + step.work.decodes)

    def first_token(self, sequence: Sequence, now: float) -> None:
        self._first.observe(now - sequence.times.arrived)
        self._prompt_tokens.inc(sequence.prompt_tokens)

    def next_token(self, seconds: float) -> None:
        self._next.observe(seconds)

    def finished(self, sequence: Sequence, now: float) -> None:
        if sequence.finish is not None:
            self._ended[sequence.finish].inc()
        times = sequence.times
        scheduled = now if times.scheduled is None else times.scheduled
        first = times.first or now
        self._request.observe(now - times.arrived)
        self._queued.observe(max(0.0, scheduled - times.arrived))
        self._inference.observe(max(0.0, now - scheduled))
        self._prefill.observe(max(0.0, first - scheduled))
        self._decode.observe(now - first)
        self._request_prompt.observe(sequence.prompt_tokens)
        self._request_generated.observe(sequence.generated)
        self._request_preemptions.observe(sequence.preemptions)
        if sequence.generated > 1:
            self._per_token.observe((times.last - first) / (sequence.generated - 1))

    def late(self, seconds: float) -> None:
        self._late.inc(seconds)


def one_two_five(most: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, … up to so many tokens."""
    return tuple(step * 10**power for power in range(len(str(most))) for step in (1, 2, 5) if step * 10**power <= most)
