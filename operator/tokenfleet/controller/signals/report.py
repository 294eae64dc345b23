"""One line of a router's reports, decoded. Pure; docs/scaling.md says what stands in a line.

A report speaks of LLMDeployments by name; their namespace is the router's own. Fields that a newer router adds are ignored, so
that the controller may be upgraded before or after the routers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from tokenfleet import contract

_BUCKETS = {"ttft": len(contract.REPORT_TTFT_BOUNDS) + 1, "itl": len(contract.REPORT_ITL_BOUNDS) + 1}


class InvalidReport(ValueError):
    """A line that is no report of a router's."""


@dataclass(frozen=True, slots=True)
class Track:
    """What became of the requests that one track's pods had, since the router began."""

    requests: int
    failed: int
    ttft: tuple[int, ...]
    """How many fell into each bucket of contract.REPORT_TTFT_BOUNDS."""
    itl: tuple[int, ...]
    prompt_tokens: int = 0
    """As far as answers say what they used; older routers do not count them."""
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """A pod, as one router sees it."""

    in_flight: int
    """From that router."""
    state: str


@dataclass(frozen=True, slots=True)
class Levels:
    """One LLMDeployment, as one router sees it."""

    waiting: int
    pending: int
    """Of the durable queue, which all routers share."""
    running: int
    """Of these: held by that router."""
    idle_seconds: float | None
    replicas: Mapping[str, Replica]
    tracks: Mapping[str, Track]

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.pending or any(replica.in_flight for replica in self.replicas.values()))


@dataclass(frozen=True, slots=True)
class Report:
    """All that one router tells."""

    leaving: bool
    deployments: Mapping[str, Levels]


def decode(line: bytes) -> Report:
    """Raises InvalidReport."""
    try:
        told = json.loads(line)
        deployments = {intern(name): _levels(one) for name, one in told["deployments"].items()}
        return Report(bool(told["leaving"]), deployments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidReport(f"{type(error).__name__}: {error}") from error


def _levels(told: dict[str, Any]) -> Levels:
    idle = told["idleSeconds"]
    return Levels(
        waiting=int(told["waiting"]),
        pending=int(told["pending"]),
        running=int(told["running"]),
        idle_seconds=None if idle is None else float(idle),
        replicas={intern(name): Replica(int(one["inFlight"]), intern(one["state"])) for name, one in told["replicas"].items()},
        tracks={intern(name): _track(one) for name, one in told["tracks"].items()},
    )


def _track(told: dict[str, Any]) -> Track:
    buckets = {name: tuple(map(int, told[name]["counts"])) for name in _BUCKETS}
    for name, count in _BUCKETS.items():
        if len(buckets[name]) != count:
            raise ValueError(f"{name} has {len(buckets[name])} buckets and not {count}")
    tokens = int(told.get("promptTokens", 0)), int(told.get("completionTokens", 0))
    return Track(int(told["requests"]), int(told["failed"]), buckets["ttft"], buckets["itl"], *tokens)
