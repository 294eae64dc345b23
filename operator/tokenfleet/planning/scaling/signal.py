"""What the policy goes by at one moment, and what it answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A deployment's load as all its routers have it, and its pods."""

    waiting: int
    """Requests in the queue."""
    in_flight: int
    """Requests that the replicas have."""
    ready: int
    """Replicas that routers send to: neither draining nor about to be taken away."""
    starting: int = 0
    """Replicas that have a node and load."""
    pending: int = 0
    """Replicas that have no node yet, and may never get one."""
    idle_seconds: float | None = None
    """Since the last request came, ran or ended; None: none came since the routers began."""
    ttft_p95: float | None = None
    """Time to the first token at the 95th percentile of the last `SLO_WINDOW_SECONDS`, in seconds; None: there was none."""
    itl_p95: float | None = None
    """Time between two tokens, likewise."""

    @property
    def load(self) -> int:
        return self.waiting + self.in_flight


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be, and why."""

    desired: int
    reason: str
    """Of REASONS."""
    message: str
    """A sentence. It has figures where the count changes, and stays the same while nothing is decided."""
