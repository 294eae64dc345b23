"""What a reconcile writes to pods: the marks of their goodbyes, and their gates.

A pod that is gone meanwhile, or is another one by now, needs neither. One that may not be written to holds up nothing else: its
goodbye waits, which the log says.
"""

import logging
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from tokenfleet import contract
from tokenfleet.controller.cluster import Refused, Stale
from tokenfleet.controller.goodbyes.marks import Mark
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.store import Store

logger = logging.getLogger(__name__)


class PodApi(Protocol):
    """Cluster has it."""

    async def annotate_pod(self, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str) -> Json: ...
    async def set_pod_condition(self, namespace: str, name: str, condition: Json, *, uid: str) -> Json: ...


async def write_marks(api: PodApi, store: Store, observed: Observed, marks: Iterable[Mark]) -> Observed:
    """Set and take away marks. Returns the snapshot with the pods as they are then."""
    written = {}
    for mark in marks:
        write = api.annotate_pod(observed.namespace, mark.pod, mark.annotations, uid=mark.uid)
        written[mark.pod] = await _written(store, observed, mark.pod, write)
    return _with(observed, written)


async def open_gates(api: PodApi, store: Store, observed: Observed, names: Iterable[str], *, now: str) -> Observed:
    """Likewise, of pods that routers use."""
    uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in observed.pods}
    condition = {"type": contract.CONDITION_IN_USE, "status": "True", "lastTransitionTime": now}
    written = {}
    for name in names:
        write = api.set_pod_condition(observed.namespace, name, condition, uid=uids[name])
        written[name] = await _written(store, observed, name, write)
    return _with(observed, written)


async def _written(store: Store, observed: Observed, name: str, write: Awaitable[Json]) -> Json | None:
    try:
        live = await write
    except Stale:
        return None
    except Refused as error:
        logger.error("%s/%s: pod %s may not be written to, so it waits: %s", observed.namespace, observed.name, name, error)
        return None
    store.put(live)
    return live


def _with(observed: Observed, written: Mapping[str, Json | None]) -> Observed:
    return replace(observed, pods=tuple(written.get(pod["metadata"]["name"]) or pod for pod in observed.pods))
