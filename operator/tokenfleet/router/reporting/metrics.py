"""What the router counts, as plain numbers while requests run; exposition.py makes them into Prometheus' text.

Labels are bounded: codes are those of HTTP, reasons those of rejections.py and the few below, models and replicas those that
there are, keys those of the keyring, and no more than `MAX_KEYS` of them. Counting a request costs under a
microsecond, a part of a stream under a third of one; so there is no object per label and no lock, and nothing is computed here.
"""

from bisect import bisect_left
from collections import Counter
from typing import Final

from tokenfleet.router.reporting.record import Record

RELAYED: Final = "relayed"
"""A replica's answer reached the client whole."""
TRUNCATED: Final = "truncated"
"""A replica was lost in the middle of its answer."""
ENGINE_ERROR: Final = "engine_error"
"""The engine ended its stream with an error of its own."""
CLIENT_GONE: Final = "client_gone"
CLIENT_STALLED: Final = "client_stalled"
SHUTDOWN: Final = "shutdown"
"""It outlasted this router's drain, and was cut."""
ANSWERED: Final = "answered"
"""By the router itself: the models."""
CODE_CLIENT_GONE: Final = 499

OTHER: Final = "other"
"""All keys beyond MAX_KEYS."""
MAX_KEYS: Final = 500
"""Of all models together: a key counts once for each model that it uses. A scrape writes two lines for each, on the loop."""

LONG_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_SECONDS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0),
)
GAP_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0),
)
"""Fine where objectives lie: a histogram answers well only what one of its edges asks."""


class Histogram:
    """Counts by duration, in seconds."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: tuple[float, ...]) -> None:
        """edges: the upper bounds of all buckets but the last."""
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.edges, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus has them."""
        total, rows = 0, []
        for edge, count in zip((*map(str, self.edges), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((edge, float(total)))
        return rows


class Tokens:
    """Of one key and one model."""

    __slots__ = ("completion", "prompt")

    def __init__(self) -> None:
        self.prompt = 0
        self.completion = 0


class ModelMetrics:
    """Of one model."""

    __slots__ = ("first_byte", "gaps", "queued", "requests", "seconds")

    def __init__(self) -> None:
        self.requests: Counter[tuple[int, str]] = Counter()
        self.queued = Histogram(LONG_SECONDS)
        """Of those that had to wait."""
        self.first_byte = Histogram(FIRST_SECONDS)
        self.gaps = Histogram(GAP_SECONDS)
        """Between two parts of a stream."""
        self.seconds = Histogram(LONG_SECONDS)


class Metrics:
    """Of one router."""

    __slots__ = ("models", "prefills", "requests", "retries", "tokens", "watch_failures")

    def __init__(self) -> None:
        self.requests: Counter[tuple[int, str]] = Counter()
        """All of them, those too that were refused before their model was known."""
        self.models: dict[str, ModelMetrics] = {}
        self.tokens: dict[tuple[str, str], Tokens] = {}
        """By model and key."""
        self.retries: Counter[str] = Counter()
        self.prefills: Counter[str] = Counter()
        """Of disaggregated deployments, by result: prefill.py's words."""
        self.watch_failures: Counter[str] = Counter()

    def of(self, model: str) -> ModelMetrics:
        """That model's; only for models that are served."""
        found = self.models.get(model)
        if found is None:
            found = self.models[model] = ModelMetrics()
        return found

    def ended(self, record: Record) -> None:
        """Count a request that has ended."""
        outcome = record.code, record.reason
        self.requests[outcome] += 1
        name = record.model
        if not name:
            return
        model = self.models.get(name) or self.of(name)
        model.requests[outcome] += 1
        model.seconds.observe(record.seconds)
        if record.first_byte is not None:
            model.first_byte.observe(record.first_byte)
        if record.queued:
            model.queued.observe(record.queued)
        if (prompt := record.prompt_tokens) is not None:
            tokens = self.tokens.get((name, record.key)) or self._tokens(name, record.key)
            tokens.prompt += prompt
            tokens.completion += record.completion_tokens or 0

    def _tokens(self, model: str, key: str) -> Tokens:
        """Of a key that was not seen with this model."""
        name = key if len(self.tokens) < MAX_KEYS else OTHER
        return self.tokens.setdefault((model, name), Tokens())
