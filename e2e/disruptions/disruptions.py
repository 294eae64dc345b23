"""Everything that may happen to a fleet, as one table: what is done, and who may be told of it.

Nothing may be lost and nothing may be cut in silence, whatever is done. An error may be announced only where an engine dies
without a goodbye, and only to streams that were told not to go on elsewhere.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from e2e import kills
from e2e.disruptions.fleet import REPLICAS, Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Disruption:
    """`act` returns when the fleet is on its way back; the runner waits until it is whole."""

    name: str
    act: Callable[[Fleet], None]
    deadly: bool = False
    """An engine dies without a goodbye."""
    short: bool = False
    """Also in the short form."""


def _scale_down(fleet: Fleet) -> None:
    fleet.scale(1)
    fleet.whole(1)
    fleet.scale(REPLICAS)


def _scale_down_cancelled(fleet: Fleet) -> None:
    fleet.scale(1)
    fleet.wait("a pod that drains", lambda: (fleet.kubectl.get("llmd", fleet.name) or {})["status"].get("draining"))
    fleet.scale(REPLICAS)


def _operator_killed(fleet: Fleet) -> None:
    fleet.scale(1)
    fleet.wait("a pod that drains", lambda: (fleet.kubectl.get("llmd", fleet.name) or {})["status"].get("draining"))
    fleet.kill_operator()
    fleet.whole(1)
    fleet.scale(REPLICAS)


def _to_one_and_back(fleet: Fleet) -> None:
    """With one replica alone there is nobody to fall back to."""
    fleet.scale(1)
    fleet.whole(1)
    fleet.change()
    fleet.whole(1)
    fleet.scale(REPLICAS)


def _reverted(fleet: Fleet) -> None:
    before = fleet.environment()
    old = {pod["metadata"]["name"] for pod in fleet.pods("engine")}
    fleet.change()
    fleet.wait("a new engine", lambda: {pod["metadata"]["name"] for pod in fleet.pods("engine")} - old)
    time.sleep(3)
    fleet.patch(engine={"env": {"CHANGED": None, **before} if isinstance(before, dict) else None})


def _fewer_routers(fleet: Fleet) -> None:
    fleet.patch(router={"replicas": 1})
    fleet.whole()
    fleet.patch(router={"replicas": 2})


def _upgrade(fleet: Fleet) -> None:
    fleet.scale(REPLICAS - 1)
    fleet.upgrade_operator()
    fleet.whole(REPLICAS - 1)
    fleet.scale(REPLICAS)


def _outage(seconds: float) -> Callable[[Fleet], None]:
    def act(fleet: Fleet) -> None:
        with fleet.without_api():
            time.sleep(seconds)

    return act


def _outage_with_a_death(fleet: Fleet) -> None:
    victim = fleet.engine()
    with fleet.without_api():
        time.sleep(2)
        kills.kill(fleet.kubectl, victim)
        time.sleep(15)


ALL: Final[Sequence[Disruption]] = (
    Disruption(name="scale-down, and up again", act=_scale_down),
    Disruption(name="scale-down, cancelled", act=_scale_down_cancelled),
    Disruption(name="operator killed in a scale-down", act=_operator_killed, short=True),
    Disruption(name="rolling update", act=Fleet.change, short=True),
    Disruption(name="rolling update of a single replica", act=_to_one_and_back),
    Disruption(name="update reverted midway", act=_reverted),
    Disruption(name="restart", act=Fleet.restart),
    Disruption(name="node drain by eviction", act=Fleet.evict_all, short=True),
    Disruption(name="preemption notice", act=Fleet.give_notice, short=True),
    Disruption(name="engine pod deleted by hand", act=Fleet.delete_pod),
    Disruption(name="router rollout", act=Fleet.roll_routers, short=True),
    Disruption(name="router scale-down", act=_fewer_routers),
    Disruption(name="router pod deleted by hand", act=lambda fleet: fleet.delete_pod("router")),
    Disruption(name="operator upgrade in a scale-down", act=_upgrade),
    Disruption(name="engine SIGKILL", act=Fleet.kill_engine, deadly=True, short=True),
    Disruption(name="engine OOM", act=Fleet.starve_engine, deadly=True),
    Disruption(name="API away for two minutes", act=_outage(120)),
    Disruption(name="API away, and an engine dies", act=_outage_with_a_death, deadly=True),
)
