"""What several routers tell of one LLMDeployment, added up. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tokenfleet.controller.signals.report import Levels
from tokenfleet.controller.signals.windows import Counted


@dataclass(frozen=True, slots=True)
class Use:
    """What an LLMDeployment is used for."""

    complete: bool
    """As of a Load."""
    busy: bool
    """A request is in flight."""
    counted: Counted
    """Since this controller follows."""


def waiting(told: Collection[Levels]) -> int:
    """All routers know the same durable queue; of that, what one of them holds is in its own queue or in flight."""
    pending, running = max(one.pending for one in told), sum(one.running for one in told)
    return sum(one.waiting for one in told) + max(0, pending - running)


def beyond(in_flight: Mapping[str, int], slots: int | None) -> int:
    """Requests that the engines hold and cannot work on yet."""
    return sum(max(0, count - slots) for count in in_flight.values()) if slots is not None else 0


def in_flight(told: Iterable[Levels]) -> dict[str, int]:
    """By pod."""
    found: dict[str, int] = {}
    for levels in told:
        for pod, replica in levels.replicas.items():
            found[pod] = found.get(pod, 0) + replica.in_flight
    return found
