"""What the user wants of autoscaling, as plain values, and the constants that the policy adds to them.

Every constant is a trade between latency and idle replicas; docs/scaling.md says what each is for.
"""

from dataclasses import dataclass
from typing import Final

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec

DEFAULT_MAX_IN_FLIGHT: Final = 256
"""The router's, where the spec says nothing."""
FIT_CONCURRENCY: Final = 0.9
"""The part of `concurrency` that a replica carries with room to spare."""
FIT_MAX_IN_FLIGHT: Final = 0.6
"""Likewise, of what a replica takes at most: an engine becomes slower well before it is full."""
FIT_SLO: Final = 0.8
"""The part of the promise, and of a load at which it was broken, up to which fewer replicas may be tried."""
SLO_WINDOW_SECONDS: Final = 30.0
"""Of the 95th percentiles, and how long all replicas must have served until a broken promise asks for one more."""
LESSON_SECONDS: Final = 6 * 3600.0
"""How long a load that was too much for a replica is remembered."""
MISSING_SECONDS: Final = 120.0
"""How long the count is held without a signal, until a deployment that is asleep is woken to be on the safe side."""
WARM_UP_SECONDS: Final = 900.0
"""How long a broken promise waits for pods that load while none becomes ready."""
SETTLE_SECONDS: Final = 3.0
"""How long a replica that has just become ready is taken to have its share of the queue before it."""
GATHER_PART: Final = 0.1
"""Of the stabilisation window: a step down waits while the need will fall further within this time, and goes all the way."""
BUDGET_SECONDS: Final = 15.0
"""When to ask again for a budget that did not suffice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Other bounds from a time on."""

    cron: str
    """Five fields."""
    timezone: str
    min_replicas: int
    max_replicas: int | None = None
    """None: the policy's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`spec.autoscaling` and `spec.slo`."""

    min_replicas: int
    max_replicas: int
    queue_depth: int = 5
    concurrency: int | None = None
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    """Requests that a replica works on at once: what routers give it, and what its engine takes of that."""
    ttft_seconds: float | None = None
    itl_seconds: float | None = None
    stabilization_seconds: float = 300
    scale_to_zero_seconds: float | None = None
    schedules: tuple[Schedule, ...] = ()

    @property
    def carries(self) -> float:
        """Requests that a replica has with room to spare: with no more, it needs no other one beside it."""
        if self.concurrency is None:
            return max(FIT_MAX_IN_FLIGHT * self.max_in_flight, 1.0)
        return max(min(FIT_CONCURRENCY * self.concurrency, self.max_in_flight), 1.0)


def policy_of(spec: LLMDeploymentSpec, *, router_max_in_flight: int | None = None) -> Policy | None:
    """None where the spec does not autoscale. router_max_in_flight: that of the LLMRouter, with spec.routerRef."""
    if (scaling := spec.autoscaling) is None:
        return None
    ttft, itl = (spec.slo.ttft_milliseconds, spec.slo.itl_milliseconds) if spec.slo else (None, None)
    bounds = (router_max_in_flight if spec.router_ref else spec.router.max_in_flight, spec.engine.batching.max_num_seqs)
    return Policy(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        queue_depth=scaling.queue_depth,
        concurrency=scaling.concurrency,
        max_in_flight=min((bound for bound in bounds if bound), default=DEFAULT_MAX_IN_FLIGHT),
        ttft_seconds=ttft / 1000 if ttft else None,
        itl_seconds=itl / 1000 if itl else None,
        stabilization_seconds=scaling.scale_down.stabilization_seconds,
        scale_to_zero_seconds=scaling.scale_to_zero_after_seconds,
        schedules=tuple(
            Schedule(cron=one.cron, timezone=one.timezone, min_replicas=one.min_replicas, max_replicas=one.max_replicas)
            for one in scaling.schedules
        ),
    )
