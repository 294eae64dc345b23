"""The gate of an engine pod, which opens once routers use it: only then does a rollout take an old pod away. Pure.

Routers send to a pod as soon as its containers are ready, whatever its gate says; so a controller that is away stops rollouts,
and never traffic. An open gate stays open: whether the pod is ready from then on is its containers' affair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenfleet.controller import moments, pods
from tokenfleet.controller.goodbyes.replicas import Hearing
from tokenfleet.controller.observed import Json, Observed

NO_WORD_SECONDS: Final = 5.0
"""Without the word of all routers, a pod whose containers have been ready for so long counts as in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Which ones to open now, and when to look again."""

    to_open: tuple[str, ...] = ()
    """Names of pods."""
    waiting: bool = False
    """Others open when routers tell of them."""
    again_after: float | None = None


def gates(observed: Observed, candidates: Sequence[Json], hearing: Hearing) -> Gates:
    """Of the engine pods of all roles and tracks. A pod that drains before it was ever used needs no gate."""
    closed = [pod for pod in candidates if pods.is_active(pod) and pods.awaits_use(pod) and not pods.is_draining(pod)]
    if hearing.complete:
        states = observed.load.states if observed.load is not None else {}
        used = tuple(name for pod in closed if states.get(name := str(pod["metadata"]["name"])) == "routable")
        return Gates(to_open=used, waiting=len(used) < len(closed))
    left = {str(pod["metadata"]["name"]): _left(pod, hearing) for pod in closed}
    return Gates(
        to_open=tuple(name for name, seconds in left.items() if seconds <= 0),
        waiting=any(seconds > 0 for seconds in left.values()),
        again_after=min((seconds for seconds in left.values() if seconds > 0), default=None),
    )


def _left(pod: Json, hearing: Hearing) -> float:
    """Seconds until nobody's word is waited for any more."""
    since = (pods.condition(pod, "ContainersReady") or {}).get("lastTransitionTime")
    ready = moments.seconds(since) if since else hearing.now
    return max(ready, hearing.unheard_since) + NO_WORD_SECONDS - hearing.now
