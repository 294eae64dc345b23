"""One LLMDeployment or LLMRouter made so: observe, plan, apply, report. Every trigger runs this; nothing else writes for it.

Each step begins anew from what is there, so a reconcile may end anywhere, by a kill too, and the next one goes on. Nothing
after `_observe` and a `look` at logs reads the API: what the writes answered is what the report is made of.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from tokenfleet.api.conditions import Verdict
from tokenfleet.controller import kinds, moments
from tokenfleet.controller.actuators.scaled_objects import ScaledObjects
from tokenfleet.controller.announcement import announcements
from tokenfleet.controller.cluster import ClusterError, Refused, Stale
from tokenfleet.controller.downloads import Downloads, Logs
from tokenfleet.controller.drift import covers
from tokenfleet.controller.goodbyes.pod_writes import PodApi, open_gates, write_marks
from tokenfleet.controller.inspections.reading import Readings
from tokenfleet.controller.kinds import Kind
from tokenfleet.controller.observed import ChildKey, Figures, Json, Load, Observed, Outcome, Refusal
from tokenfleet.controller.plan import Accepted, Apply, Plan, belongs, plan
from tokenfleet.controller.resources.inspection import JOB
from tokenfleet.controller.status import build_status
from tokenfleet.controller.store import Key, Store, place_of
from tokenfleet.settings import ControllerSettings

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS: Final = 30.0
"""After this, what no event would tell us is looked at again: a stranger's object, a refusal, an owner's remains."""


def utc_now() -> str:
    return moments.rfc3339(time.time())


class Api(Logs, PodApi, Protocol):
    """What a reconcile needs of the API; Cluster has it."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None: ...
    async def apply(self, kind: Kind, body: Json, *, uid: str | None) -> Json: ...
    async def apply_status(self, owner: Json, status: Json) -> Json: ...
    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str) -> None: ...
    async def serves(self, kind: Kind) -> bool: ...
    async def post_event(self, event: Json) -> None: ...


class Senses(Protocol):
    """What else there is to know than the API server tells."""

    def load(self, key: Key) -> Load | None:
        """What the routers tell of an LLMDeployment."""

    def wanted(self, key: Key) -> int | None:
        """The replicas that autoscaling wants."""

    def scaling(self, key: Key) -> Json | None:
        """Likewise: as status.scaling."""

    def scaling_ready(self, key: Key) -> Verdict | None:
        """Likewise: whether the count can follow the load."""

    def figures(self, key: Key) -> Figures | None:
        """What status is to show of the load."""

    def doomed_nodes(self) -> frozenset[str]:
        """Nodes that are about to be taken away."""

    def cost(self, key: Key, observed: Observed) -> Json | None:
        """As status.cost, of the engines of a snapshot; None: their accelerator has no price."""


class NoSenses:
    """Nothing is known."""

    def load(self, key: Key) -> Load | None:
        return None

    def wanted(self, key: Key) -> int | None:
        return None

    def scaling(self, key: Key) -> Json | None:
        return None

    def scaling_ready(self, key: Key) -> Verdict | None:
        return None

    def figures(self, key: Key) -> Figures | None:
        return None

    def doomed_nodes(self) -> frozenset[str]:
        return frozenset()

    def cost(self, key: Key, observed: Observed) -> Json | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """How a reconcile went, for the queue."""

    wrote: bool = False
    """Whether a child had to be changed."""
    again_after: float | None = None
    others: tuple[Key, ...] = ()
    """Whom else this concerns."""
    gone: bool = False
    """There is no such object any more, or it is being deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effects:
    outcome: Outcome
    children: Mapping[ChildKey, Json]
    """As they are after the writes."""
    wrote: bool
    stale: Stale | None


class Reconciler:
    """Reconciles one key at a time; several keys at once."""

    def __init__(
        self,
        store: Store,
        api: Api,
        settings: ControllerSettings,
        *,
        senses: Senses | None = None,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self._store, self._api, self._settings, self._now = store, api, settings, now
        self._senses = senses or NoSenses()
        self.watching_load: set[Key] = set()
        """Whom another load concerns at once: there something waits for what the routers tell."""
        self._unheard: dict[Key, str] = {}
        """Since when not all routers tell."""
        self._doubts: dict[Key, set[ChildKey]] = {}
        """Children that the watch may not show as they are, if at all: an object without our label, a write that missed."""
        self._accepted: dict[Key, dict[ChildKey, Accepted]] = {}
        self._downloads = Downloads(api, at_once=max(1, settings.workers // 4))
        self._readings = Readings(api, at_once=max(1, settings.workers // 4))
        self._scaled_objects = ScaledObjects(api, scaler=settings.keda_address)

    async def reconcile(self, key: Key) -> Turn:
        """Raises ClusterError where it could not be finished: it is to be tried again."""
        observed = await self._observe(key)
        if observed is None:
            self._doubts.pop(key, None)
            self._accepted.pop(key, None)
            self._downloads.forget(key)
            self._scaled_objects.forget(key)
            self.watching_load.discard(key)
            self._unheard.pop(key, None)
            return Turn(gone=True)
        look = await self._downloads.look(key, observed)
        reading = await self._readings.look(key, observed)
        observed = replace(observed, download=look.download, model=reading.model, unread=reading.unread)
        todo = plan(observed, self._settings, now=self._now(), accepted=self._accepted.get(key))
        (self.watching_load.add if todo.course.watches_load else self.watching_load.discard)(key)
        observed = await write_marks(self._api, self._store, observed, todo.course.marks)
        observed = await open_gates(self._api, self._store, observed, todo.course.in_use, now=self._now())
        await self._scaled_objects.remove_unwanted(key, observed, todo.spec)
        effects = await self._apply(key, observed, todo)
        observed = await write_marks(self._api, self._store, observed, todo.course.releases)
        if effects.stale is not None:
            raise effects.stale
        scaled_object, look_at_it = await self._scaled_objects.apply_wanted(key, observed, todo.spec)
        outcome = replace(effects.outcome, scaled_object=scaled_object)
        settled, others = await self._report(replace(observed, children=effects.children), todo, outcome)
        unsure = bool(todo.conflicts or todo.awaited or effects.outcome.refusals)
        again_after = _soonest(
            None if settled else 0.0,
            LOOK_AGAIN_SECONDS if unsure else None,
            0.0 if _is_inspection_refused(todo, outcome) else None,
            look.again_after,
            reading.again_after,
            todo.course.again_after,
            look_at_it,
        )
        if todo.deletes and observed.router is not None:  # It may be waiting for their names.
            others = (*others, place_of(observed.router))
        return Turn(wrote=effects.wrote, again_after=again_after, others=tuple(other for other in others if other != key))

    async def _observe(self, key: Key) -> Observed | None:
        """The snapshot, with a direct look at what the watch may not show. None: nothing is to be done for this key."""
        observed = self._store.observe(key)
        if observed is None or "deletionTimestamp" in observed.owner["metadata"]:
            return None
        load = self._senses.load(key)
        observed = replace(
            observed,
            load=load,
            unheard_since=self._unheard_since(key, load),
            wanted=self._senses.wanted(key),
            scaling=self._senses.scaling(key),
            scaling_ready=self._senses.scaling_ready(key),
            figures=self._senses.figures(key),
            doomed_nodes=self._senses.doomed_nodes(),
            cost=self._senses.cost(key, observed),
        )
        if not (doubts := self._doubts.get(key)):
            return observed
        children = dict(observed.children)
        for child in sorted(doubts):
            live = await self._api.get(kinds.of(child[0]), observed.namespace, child[1])
            if live is None:
                children.pop(child, None)
                self._store.forget((child[0], observed.namespace, child[1]))
            else:
                children[child] = live
            if live is None or belongs(live, observed):
                doubts.discard(child)
        return replace(observed, children=children)

    def _unheard_since(self, key: Key, load: Load | None) -> str | None:
        if load is not None and load.complete:
            self._unheard.pop(key, None)
            return None
        return self._unheard.setdefault(key, self._now())

    async def _apply(self, key: Key, observed: Observed, todo: Plan) -> _Effects:
        children = dict(observed.children)
        refusals: list[Refusal] = []
        stale: Stale | None = None
        accepted = self._accepted.setdefault(key, {})
        for each in todo.applies:
            try:
                live = await self._api.apply(kinds.of(each.key[0]), each.child, uid=each.uid)
            except Stale as error:
                self._doubts.setdefault(key, set()).add(each.key)
                stale = error
            except Refused as error:
                logger.warning("%s: %s %s was refused: %s", "/".join(key), *each.key, error)
                refusals.append(Refusal(kind=each.key[0], name=each.key[1], message=str(error)))
            else:
                self._store.put(live)
                children[each.key] = live
                _remember(accepted, each, live)
        for gone in todo.deletes:
            await self._api.delete(kinds.of(gone.kind), observed.namespace, gone.name, uid=gone.uid)
            self._store.forget((gone.kind, observed.namespace, gone.name))
            children.pop((gone.kind, gone.name), None)
        if not accepted:
            del self._accepted[key]
        outcome = Outcome(refusals=tuple(refusals), conflicts=todo.conflicts)
        wrote = len(todo.applies) > len(refusals) or bool(todo.deletes)
        return _Effects(outcome=outcome, children=children, wrote=wrote, stale=stale)

    async def _report(self, observed: Observed, todo: Plan, outcome: Outcome) -> tuple[bool, tuple[Key, ...]]:
        """Write the status where it differs, and say whom that concerns. False if the owner's spec has changed meanwhile."""
        now, before = self._now(), observed.owner.get("status")
        status = build_status(
            observed, todo.spec, outcome, todo.fit, rollout=todo.rollout, draining=todo.course.draining, now=now
        )
        if status == before:
            return True, ()
        live = await self._api.apply_status(observed.owner, status)
        concerned = self._store.put(live)
        for event in announcements(observed.owner, before=before, after=status, now=now, reporter=self._settings.identity):
            logger.info("%s/%s: %s: %s", observed.namespace, observed.name, event["reason"], event["message"])
            try:
                await self._api.post_event(event)
            except ClusterError as error:
                logger.warning("%s/%s: an Event was not posted: %s", observed.namespace, observed.name, error)
        return live["metadata"]["generation"] == observed.owner["metadata"]["generation"], concerned


def _is_inspection_refused(todo: Plan, outcome: Outcome) -> bool:
    """Engines that wait for it need not, which the next turn knows by the status."""
    waits = todo.fit is not None and todo.fit.waits is not None
    return waits and any(refusal.kind == JOB for refusal in outcome.refusals)


def _soonest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


def _remember(accepted: dict[ChildKey, Accepted], each: Apply, live: Json) -> None:
    """Keep in mind where the API server made something else of what we sent, so that it is not sent for ever."""
    if covers(live, each.child):
        accepted.pop(each.key, None)
    else:
        accepted[each.key] = Accepted.of(live, each.child)
