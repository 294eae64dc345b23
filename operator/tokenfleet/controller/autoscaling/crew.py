"""An LLMDeployment's engine pods as the scaling policy counts them. Pure.

One serves where all its routers say so; one that has a node and does not serve yet is starting; one without a node is pending,
and holds up nothing. Those that drain, are being deleted or are on a node under notice are no replicas any more, so what is in
flight on them needs none. A canary is there beside the replicas, but its load would be theirs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet.controller import pods
from tokenfleet.controller.goodbyes.notices import is_doomed
from tokenfleet.controller.observed import Json, Load
from tokenfleet.planning.scaling import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One pod."""

    name: str
    up: bool
    """All of it is ready, but perhaps that routers use it."""
    placed: bool
    going: bool
    canary: bool


def engines(found: Iterable[Json], doomed_nodes: frozenset[str]) -> list[Engine]:
    """Those of an LLMDeployment that there are, or were a moment ago."""
    return [
        Engine(
            name=pod["metadata"]["name"],
            up=pods.is_routable(pod),
            placed=bool((pod.get("spec") or {}).get("nodeName")),
            going=not pods.is_active(pod) or pods.is_draining(pod) or is_doomed(pod, doomed_nodes),
            canary=pods.track(pod) == contract.TRACK_CANARY,
        )
        for pod in found
    ]


def signal(load: Load, crew: Iterable[Engine]) -> Signal:
    """What the policy goes by."""
    staying = [one for one in crew if not one.going]
    replicas = [one for one in staying if not one.canary]
    serving = [one for one in replicas if load.states.get(one.name) == "routable"]
    others = [one for one in replicas if one not in serving]
    stable = load.tracks.get(contract.TRACK_STABLE)
    return Signal(
        waiting=load.waiting,
        in_flight=max(0, sum(load.in_flight.get(one.name, 0) for one in staying) - load.beyond),
        ready=len(serving),
        starting=sum(one.placed for one in others),
        pending=sum(not one.placed for one in others),
        idle_seconds=load.idle_seconds,
        ttft_p95=stable.ttft_p95 if stable is not None else None,
        itl_p95=stable.itl_p95 if stable is not None else None,
    )
