"""What the router counts, as plain numbers while requests run; exposition.py makes them into Prometheus' text.

Labels are bounded: codes are those of HTTP, reasons those of rejections.py and the few below, models and replicas those that
there are, keys those of the keyring, and no more than `MAX_KEYS` of them. Counting a request costs under a
microsecond, a part of a stream under a third of one; so there is no object per label and no lock, and nothing is computed here.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from operator import add
from typing import Final

from tokenfleet import contract
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
REPLICA_FAULTS: Final = frozenset((502, 503, 504))
"""Codes that a replica answers where it could not take a request, or not bring it to its end."""

OTHER: Final = "other"
"""All keys beyond MAX_KEYS."""
MAX_KEYS: Final = 500
"""Of all models together: a key counts once for each model that it uses. A scrape writes two lines for each, on the loop."""

LONG_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_SECONDS: Final = contract.REPORT_TTFT_BOUNDS
GAP_SECONDS: Final = contract.REPORT_ITL_BOUNDS


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

    @classmethod
    def sum_of(cls, edges: tuple[float, ...], parts: "Iterable[Histogram]") -> "Histogram":
        """All of these, which have the same edges, as one."""
        total = cls(edges)
        for part in parts:
            total.counts = list(map(add, total.counts, part.counts))
            total.sum += part.sum
        return total

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


class TrackMetrics:
    """Of one model's requests that an LLMDeployment's pods of one track had: the stable ones, or the canary's."""

    __slots__ = (
        "completion_tokens", "deployment", "ended", "failed", "first_byte", "first_token", "gaps", "name", "prompt_tokens",
        "unjudged",
    )  # fmt: skip

    def __init__(self, deployment: str, name: str) -> None:
        self.deployment = deployment
        self.name = name
        self.ended = 0
        """However."""
        self.failed = 0
        """Of these: by an error of the engine's own. What else a replica failed at, its Replicas count."""
        self.unjudged = 0
        """Of these: that say nothing of the replica, or of which it was lost."""
        self.prompt_tokens = 0
        """Of these, as far as their answers say what they used."""
        self.completion_tokens = 0
        self.first_token = Histogram(FIRST_SECONDS)
        """Of streams."""
        self.first_byte = Histogram(FIRST_SECONDS)
        """Of all else."""
        self.gaps = Histogram(GAP_SECONDS)
        """Between two parts of a stream."""

    @property
    def answers(self) -> int:
        """That came to their end, and of which no replica was lost."""
        return self.ended - self.unjudged

    def judge(self, code: int, reason: str) -> None:
        """One that has ended otherwise than well."""
        if reason == ENGINE_ERROR or (reason == RELAYED and code not in REPLICA_FAULTS):
            self.failed += 1
        else:
            self.unjudged += 1


class ModelMetrics:
    """Of one model."""

    __slots__ = ("queued", "requests", "seconds", "tracks", "usual")

    def __init__(self) -> None:
        self.requests: Counter[tuple[int, str]] = Counter()
        self.queued = Histogram(LONG_SECONDS)
        """Of those that had to wait."""
        self.seconds = Histogram(LONG_SECONDS)
        self.tracks: dict[tuple[str, str], TrackMetrics] = {}
        """By LLMDeployment and track."""
        self.usual: TrackMetrics | None = None
        """The one that was counted for last: mostly there is no other."""

    def track(self, deployment: str, name: str) -> TrackMetrics:
        """Of one track of an LLMDeployment, as far as it answers for this model."""
        found = self.tracks.get((deployment, name))
        if found is None:
            found = self.tracks[deployment, name] = TrackMetrics(deployment, name)
        self.usual = found
        return found


class Metrics:
    """Of one router."""

    __slots__ = ("continuations", "models", "prefills", "requests", "retries", "tokens", "tracks", "watch_failures")

    def __init__(self) -> None:
        self.requests: Counter[tuple[int, str]] = Counter()
        """All of them, those too that were refused before their model was known."""
        self.models: dict[str, ModelMetrics] = {}
        self.tokens: dict[tuple[str, str], Tokens] = {}
        """By model and key."""
        self.retries: Counter[str] = Counter()
        self.continuations: Counter[str] = Counter()
        """Of streams whose replica was lost, by result: the words of continuing/."""
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
        track = self._count(model, deployment, record) if (deployment := record.deployment) else None
        if record.queued:
            model.queued.observe(record.queued)
        if (prompt := record.prompt_tokens) is not None:
            tokens = self.tokens.get((name, record.key)) or self._tokens(name, record.key)
            completion = record.completion_tokens or 0
            tokens.prompt += prompt
            tokens.completion += completion
            if track is not None:
                track.prompt_tokens += prompt
                track.completion_tokens += completion

    def _count(self, model: ModelMetrics, deployment: str, record: Record) -> TrackMetrics:
        """For whoever had it."""
        track, code = model.usual, record.code
        if track is None or track.deployment != deployment or track.name != record.track:
            track = model.track(deployment, record.track)
        track.ended += 1
        if code >= 499 or record.reason != RELAYED:
            track.judge(code, record.reason)
        if (first := record.first_byte) is not None:
            tokens = record.stream and (code < 400 or code == CODE_CLIENT_GONE)
            (track.first_token if tokens else track.first_byte).observe(first)
        return track

    def _tokens(self, model: str, key: str) -> Tokens:
        """Of a key that was not seen with this model."""
        name = key if len(self.tokens) < MAX_KEYS else OTHER
        return self.tokens.setdefault((model, name), Tokens())
