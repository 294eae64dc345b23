"""vLLM's own figures, out of the metrics that it keeps in this process: how many wait, how many it has begun.

Read by the registry's public ways, at most every tenth of a second and only when somebody asks, since each look costs as much
as some hundred bytes of answer. They are as old as vLLM's last step; with nothing in flight that may be long ago, so then
nothing waits, whatever the gauge still says. An engine started with --disable-log-stats tells nothing: then only what we count
ourselves bounds it.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry

from tokenfleet_engine.serving.load import Figures, Queue

SAMPLE_SECONDS: Final = 0.1
WAITING: Final = "vllm:num_requests_waiting"
BEGUN: Final = "vllm:time_to_first_token_seconds_count"


class Signals:
    def __init__(self, registry: CollectorRegistry, *, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._clock = clock
        self._queue = Queue()
        self._fresh_until = float("-inf")
        self._waiting = 0.0
        self._queue_seconds = 0.0

    def figures(self, in_flight: int) -> Figures:
        if not in_flight:
            self._queue.rest()
            self._fresh_until = float("-inf")
            return Figures(0)
        now = self._clock()
        if now >= self._fresh_until:
            self._fresh_until = now + SAMPLE_SECONDS
            sums = read_sums(self._registry, WAITING, BEGUN)
            self._waiting = sums.get(WAITING, 0.0)
            self._queue_seconds = self._queue.look(now, waiting=self._waiting, begun=sums.get(BEGUN, 0.0))
        return Figures(in_flight, self._waiting, self._queue_seconds)

    def peek(self, in_flight: int) -> Figures:
        """Without learning from it: for a scrape, which vLLM answers in a thread of its own."""
        if not in_flight:
            return Figures(0)
        return Figures(in_flight, read_sums(self._registry, WAITING).get(WAITING, 0.0), self._queue_seconds)


def read_sums(registry: CollectorRegistry, *names: str) -> dict[str, float]:
    """Of each sample's name the sum over its labels; what is not there is left out."""
    sums: dict[str, float] = {}
    for metric in registry.restricted_registry(names).collect():
        for sample in metric.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums
