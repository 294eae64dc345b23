"""Decides for every LLMDeployment whose actuator is Builtin, as soon as there is news of it, and when time alone may decide.

News come from the routers, by the board, and from the store: pods and specs. An LLMDeployment is looked at no more than once a
second, but for one that sleeps or wakes, where every tenth counts. What is decided is read by the next reconcile, which
`told` asks for; nothing is written here but the Event of an awakening.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Final

from tokenfleet import contract
from tokenfleet.api.conditions import Verdict
from tokenfleet.controller import pods
from tokenfleet.controller.autoscaling import awakening, crew
from tokenfleet.controller.autoscaling.awakening import Awakening
from tokenfleet.controller.autoscaling.budget import Budgets
from tokenfleet.controller.autoscaling.known_specs import KnownSpecs
from tokenfleet.controller.autoscaling.metrics import ScalingMetrics
from tokenfleet.controller.autoscaling.subject import DECIDES, Subject, blind, target_of, unaffordable
from tokenfleet.controller.observed import Json, Load
from tokenfleet.controller.resources.metadata import engine_name
from tokenfleet.controller.signals.board import Board
from tokenfleet.controller.store import Key, Place, Store
from tokenfleet.planning.scaling import Decision, Signal
from tokenfleet.planning.scaling.reasons import BUDGET_EXHAUSTED

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks at the same LLMDeployment."""
GRACE_SECONDS: Final = 10.0
"""After the start: until then a router may not have been reached yet, so a load that is not known is no trouble to tell of."""


class Autoscaler:
    """`keep` while this process leads."""

    def __init__(
        self,
        store: Store,
        board: Board,
        specs: KnownSpecs,
        budgets: Budgets,
        metrics: ScalingMetrics,
        *,
        told: Callable[[Key], None],
        awake: Callable[[Key, str], None],
        doomed_nodes: Callable[[], frozenset[str]],
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """told: another count, or another verdict, is there to be read. awake: a model woke, and how that went. clock:
        monotonic seconds. now: Unix seconds."""
        self._store, self._board, self._specs, self._budgets, self._metrics = store, board, specs, budgets, metrics
        self._told, self._awake, self._doomed_nodes = told, awake, doomed_nodes
        self._clock, self._now = clock, now
        self._began = clock()
        self._subjects: dict[Key, Subject] = {}
        self._waking: dict[Key, Awakening] = {}
        self._due: dict[Key, float] = {}
        self._line: list[tuple[float, Key]] = []
        """A heap; what is not as `_due` has it was put off, or moved up."""
        self._news = asyncio.Event()

    # --- What the reconcile reads

    def wanted(self, key: Key) -> int | None:
        """Replicas; None: the controller does not decide here, or has not yet."""
        subject = self._subjects.get(key)
        return subject.desired if subject is not None else None

    def status(self, key: Key) -> Json | None:
        """As status.scaling."""
        subject = self._subjects.get(key)
        return subject.status if subject is not None else None

    def verdict(self, key: Key) -> Verdict | None:
        """ScalingReady; None: what was told last holds."""
        subject = self._subjects.get(key)
        return subject.verdict if subject is not None else None

    # --- News

    def heard(self, key: Key) -> None:
        """Something is new about this LLMDeployment."""
        subject = self._subjects.get(key)
        urgent = subject is None or not subject.desired or key in self._waking
        self._look_at(key, self._clock() if urgent or subject is None else subject.looked_at + LOOK_SECONDS)

    def changed(self, place: Place, owner: Key) -> None:
        """The store has news."""
        if owner[0] == contract.KIND and (place == owner or place[0] == "Pod"):
            self.heard(owner)

    # --- Looking

    async def keep(self) -> None:
        """Until cancelled."""
        self._began = self._clock()
        for key in self._store.owners():
            if key[0] == contract.KIND:
                self.heard(key)
        try:
            while True:
                key = await self._next()
                try:
                    self.look(key)
                except Exception:  # One LLMDeployment must not cost the others their decisions.
                    logger.exception("%s: a fault of the autoscaler; what it wanted last holds.", "/".join(key))
                await asyncio.sleep(0)
        finally:
            self._budgets.stop()

    async def _next(self) -> Key:
        """The one that is due first."""
        while True:
            self._news.clear()
            while self._line and self._due.get(self._line[0][1]) != self._line[0][0]:
                heapq.heappop(self._line)
            wait = self._line[0][0] - self._clock() if self._line else None
            if wait is not None and wait <= 0:
                key = heapq.heappop(self._line)[1]
                del self._due[key]
                return key
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _look_at(self, key: Key, at: float) -> None:
        """Then, or sooner where that was planned."""
        due = self._due.get(key)
        if due is None or at < due:
            self._due[key] = at
            heapq.heappush(self._line, (at, key))
            self._news.set()

    def look(self, key: Key) -> None:
        """Decide now."""
        subject = self._subject(key)
        if subject is None:
            return
        subject.looked_at, now = self._clock(), self._now()
        load = self._board.load(key)
        engines = crew.engines(self._store.pods(key, role=contract.ROLE_ENGINE), self._doomed_nodes())
        decision, verdict = self._decide(key, subject, load, engines, now)
        before = subject.desired
        if subject.take(decision, verdict, load if load is not None and load.complete else None, now=now):
            self._told(key)
        if subject.desired != before:
            self._count(key, decision, before)
        self._follow_awakening(key, load, engines)
        if (seconds := subject.scaler.next_look) is not None:
            self._look_at(key, subject.looked_at + max(seconds, LOOK_SECONDS))

    def _subject(self, key: Key) -> Subject | None:
        known = self._specs.of(key)
        target = target_of(known)
        subject = self._subjects.get(key)
        if known is None or target is None:
            broken = known is not None and known.spec is None
            if subject is not None and not broken:  # What ran before a spec that cannot be run goes on.
                self._forget(key)
            return None
        if subject is None:
            subject = self._subjects[key] = Subject(target, known.scaling, standing=self._standing(key), now=self._now())
            self._metrics.wants(key, subject.desired)
        subject.aim(target, now=self._now())
        return subject

    def _standing(self, key: Key) -> int:
        """Replicas that the last controller had made sure of."""
        deployment = self._store.get(("Deployment", key[1], engine_name(key[2]))) or {}
        marked = sum(pods.is_draining(pod) for pod in self._store.pods(key, role=contract.ROLE_ENGINE))
        return max(0, int((deployment.get("spec") or {}).get("replicas") or 0) - marked)

    def _forget(self, key: Key) -> None:
        del self._subjects[key]
        self._waking.pop(key, None)
        self._budgets.forget(key)
        self._metrics.forget(key)

    def _decide(
        self, key: Key, subject: Subject, load: Load | None, engines: list[crew.Engine], now: float
    ) -> tuple[Decision, Verdict | None]:
        signal = self._signal(subject, load, engines)
        need, budget = subject.target.need, self._budgets.known(key)
        if need is None:
            decision = subject.decide(signal, now=now, most=None)
        else:
            most = subject.scaler.desired if budget is None or budget.unknown else budget.most
            decision = subject.decide(signal, now=now, most=most)
            if decision.reason == BUDGET_EXHAUSTED and budget is None:
                self._budgets.ask(key, need, running=lambda: self._running(key))
                return decision, None
        if decision.reason == BUDGET_EXHAUSTED:
            return decision, unaffordable(decision.message, unknown=budget.unknown if budget is not None else "")
        if signal is None:
            early = self._clock() - self._began < GRACE_SECONDS
            return decision, None if early else blind(routers=self._board.has_routers(key), desired=subject.desired)
        return decision, DECIDES

    def _signal(self, subject: Subject, load: Load | None, engines: list[crew.Engine]) -> Signal | None:
        """None: not known. Of what sleeps, a part is enough: whoever waits there waits, whatever other routers would say."""
        if load is None or not (load.complete or (load.waiting and not subject.desired)):
            return None
        return crew.signal(load, engines)

    def _running(self, key: Key) -> int:
        """Replicas that a quota counts."""
        found = crew.engines(self._store.pods(key, role=contract.ROLE_ENGINE), frozenset())
        return sum(not one.canary for one in found)

    # --- What came of it

    def _count(self, key: Key, decision: Decision, before: int) -> None:
        logger.info("%s: %d replicas wanted instead of %d: %s", "/".join(key), decision.desired, before, decision.message)
        self._metrics.wants(key, decision.desired)
        self._metrics.decided(key, decision.reason)
        asked_at = self._board.told_at(key)
        if not before and asked_at is not None:
            self._waking[key] = Awakening(asked_at=asked_at, decided_at=self._clock())
        elif not decision.desired:
            self._waking.pop(key, None)

    def _follow_awakening(self, key: Key, load: Load | None, engines: list[crew.Engine]) -> None:
        waking = self._waking.get(key)
        if waking is None:
            return
        if any(one.up for one in engines):
            waking.up(self._clock())
        if load is not None and any(load.states.get(one.name) == "routable" for one in engines):
            parts = self._waking.pop(key).parts(self._clock())
            self._metrics.woke(parts)
            self._awake(key, awakening.told(parts))
