"""How many more replicas the namespace's ResourceQuotas have GPUs for. Asked for, and remembered a moment; fails closed.

Whoever wants more replicas asks (`known`, then `ask`), goes on with something else, and is told when there is an answer. A
quota that cannot be read has no room: starting what may be forbidden would only make pods that the API server refuses.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from tokenfleet.controller.cluster import ClusterError
from tokenfleet.controller.kinds import Kind
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.quantities import amount
from tokenfleet.controller.store import Key

logger = logging.getLogger(__name__)

RESOURCE_QUOTA: Final = Kind("ResourceQuota", "", "v1", "resourcequotas")
FRESH_SECONDS: Final = 15.0
_OTHERS: Final = frozenset({"BestEffort", "Terminating"})
"""Scopes of quotas that are not for engines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one replica takes."""

    resource: str
    """As a pod names it: nvidia.com/gpu."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """An answer."""

    most: int | None = None
    """Replicas that may run, those that do included; None: as many as there are nodes for."""
    unknown: str = ""
    """Why it could not be read."""


class Api(Protocol):
    """What is needed of the API; Cluster has it."""

    def call(self, method: str, path: str) -> Awaitable[Json]: ...


def room(quotas: Iterable[Json], need: Need) -> int | None:
    """Replicas for which all quotas have GPUs left; None where no quota speaks of these."""
    found = []
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        hard = (status.get("hard") or spec.get("hard") or {}).get(f"requests.{need.resource}")
        if hard is not None and not _OTHERS.intersection(spec.get("scopes") or ()):
            used = (status.get("used") or {}).get(f"requests.{need.resource}", "0")
            found.append(max(0, int(amount(hard) - amount(used)) // need.count))
    return min(found, default=None)


class Budgets:
    """Of all LLMDeployments."""

    def __init__(self, api: Api, *, clock: Callable[[], float], answered: Callable[[Key], None]) -> None:
        self._api, self._clock, self._answered = api, clock, answered
        self._known: dict[Key, tuple[float, Budget]] = {}
        self._asking: dict[Key, asyncio.Task[None]] = {}

    def known(self, key: Key) -> Budget | None:
        """The last answer, while it is fresh."""
        found = self._known.get(key)
        return found[1] if found is not None and self._clock() - found[0] < FRESH_SECONDS else None

    def ask(self, key: Key, need: Need, *, running: Callable[[], int]) -> None:
        """Find out, and tell. running: replicas that the quotas count already, by the time of the answer."""
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._find_out(key, need, running), name=f"quota for {'/'.join(key)}")

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)

    def stop(self) -> None:
        for task in self._asking.values():
            task.cancel()

    async def _find_out(self, key: Key, need: Need, running: Callable[[], int]) -> None:
        try:
            found = await self._api.call("GET", RESOURCE_QUOTA.path(key[1]))
            left = room(found.get("items") or (), need)
            budget = Budget(most=None if left is None else running() + left)
        except (ClusterError, ValueError, ArithmeticError) as error:
            logger.warning("%s: the quota of GPUs cannot be read, so no replica is added: %s", "/".join(key), error)
            budget = Budget(unknown=str(error))
        finally:
            del self._asking[key]
        self._known[key] = self._clock(), budget
        self._answered(key)
