"""The two figures that autoscalers of others are told of an LLMDeployment, and where they come from.

None is "not known": a router is silent, or this controller has just begun to lead. It is never passed on as 0, which would take
replicas away; who asks gets an error, and holds what there is.
"""

from collections.abc import Callable
from typing import Final, Protocol

from tokenfleet import contract
from tokenfleet.controller.observed import Load
from tokenfleet.controller.store import Key


class Gauges(Protocol):
    """By namespace and name of an LLMDeployment; None: not known at present."""

    def queue_depth(self, namespace: str, name: str) -> int | None:
        """Requests that wait."""

    def in_flight(self, namespace: str, name: str) -> int | None:
        """Requests that replicas have."""


METRICS: Final[dict[str, Callable[[Gauges, str, str], int | None]]] = {
    contract.EXTERNAL_METRIC_QUEUE_DEPTH: lambda gauges, namespace, name: gauges.queue_depth(namespace, name),
    contract.EXTERNAL_METRIC_IN_FLIGHT: lambda gauges, namespace, name: gauges.in_flight(namespace, name),
}
"""By name, all that may be asked for."""


class LoadGauges:
    """From what the routers tell, where every one of them has told it lately."""

    def __init__(self, load: Callable[[Key], Load | None]) -> None:
        self._load = load

    def queue_depth(self, namespace: str, name: str) -> int | None:
        load = self._complete(namespace, name)
        return None if load is None else load.waiting

    def in_flight(self, namespace: str, name: str) -> int | None:
        load = self._complete(namespace, name)
        return None if load is None else sum(load.in_flight.values())

    def _complete(self, namespace: str, name: str) -> Load | None:
        load = self._load((contract.KIND, namespace, name))
        return load if load is not None and load.complete else None


def unknown(namespace: str, name: str) -> str:
    """What is said where a gauge is None."""
    return (
        f"The load of LLMDeployment {namespace}/{name} is not known: there is none of that name, or not all of its routers "
        "have told the controller lately. Its condition ScalingReady says which."
    )
