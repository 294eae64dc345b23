"""One way to run a model that keeps its promises, why a class has none, and what a search came to. Data alone."""

from dataclasses import dataclass

from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """So many replicas, run in one way."""

    serving: Serving
    replicas: int
    capacity: float
    """Requests a second that one replica takes while it keeps what is promised, the margin taken off."""
    memory: Memory
    speed: Speed
    """Of one replica, at its share of the rate."""
    hourly: float
    per_million_tokens: float
    """Prompts' and answers' together, at the asked rate."""
    utilization: float
    """Of the capacity."""
    currency: str

    @property
    def gpus(self) -> int:
        """Of all replicas; of a class without devices, 0."""
        return self.serving.devices * self.replicas if self.serving.accelerator.resource else 0

    @property
    def precision(self) -> str:
        return self.serving.quantization or "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """What a way of running it misses, which is the nearest that a class comes."""

    serving: Serving
    memory: Memory
    speed: Speed
    """With a single request at a time."""
    by: float
    """The promise that is missed most, as a multiple of what was promised: 1.2 is a fifth too slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a class is not the best."""

    accelerator: str
    reason: str
    """A phrase."""
    miss: Miss | None = None
    """Where it fits, and is too slow."""
    hourly: float | None = None
    """Where it does all that is asked, and costs more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one search."""

    best: Candidate | None
    runners_up: tuple[Candidate, ...]
    """The cheapest of each class, number of devices and precision, in the order of what they cost."""
    failures: tuple[Failure, ...]
    """One for each class but that of the best, in the order in which the classes were looked at."""
    tried: int
    """Ways of running it that were looked at."""

    @property
    def closest(self) -> Failure | None:
        """Where there is no best: of the classes that fit, that which is nearest to what was promised."""
        missed = [each for each in self.failures if each.miss is not None]
        return min(missed, key=lambda each: each.miss.by if each.miss else 0.0, default=None)
