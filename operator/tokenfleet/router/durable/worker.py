"""Takes work from the durable queue while its models have room, keeps its claims alive, and hands in what comes of them.

A model has room while a replica has a free place and nobody waits for one, so this work never stands before a request whose
client is there. Finding out is a look each half second, and at once when something was accepted or has ended here.

What an engine has answered is handed in until Redis has taken it, or says that the claim is lost: another router has it then,
or its owner has cancelled it. A claim that is lost while the engine is at it ends there too. On a goodbye running work has the
drain's time; what is left then is given back, for another router to take at once.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tokenfleet.router.durable.requests import Claim, Outcome, QueueAway, State
from tokenfleet.router.durable.run import Again, Run
from tokenfleet.router.models import Model
from tokenfleet.router.reporting import metrics
from tokenfleet.router.reporting.logs import Sparingly
from tokenfleet.router.shared import Shared

if TYPE_CHECKING:
    from tokenfleet.router.durable.store import AsyncStore

log = logging.getLogger(__name__)
_sparingly: Final = Sparingly(log)

_LOOK_SECONDS: Final = 0.5
_BEAT_SECONDS: Final = 1.0
"""At most, between two signs of life; also how soon a cancelled request is noticed by the router that runs it."""
_FORGET_SECONDS: Final = 300.0
_AWAY_SECONDS: Final = (0.1, 5.0)
"""Between two attempts to reach Redis: at first, and at most."""
_GOODBYE_SECONDS: Final = 2.0
_UNFIT_SECONDS: Final = 1.0
_TRIED_AGAIN, _LOST = "tried_again", "lost"


class AsyncWorker:
    """Of one router process."""

    __slots__ = ("_forget_at", "_pauses", "_random", "_runs", "_settling", "_shared", "_wake", "ended", "pending", "store")

    def __init__(self, shared: Shared, store: "AsyncStore", *, random: Callable[[], float]) -> None:
        """random: from 0 up to, not including, 1; so that routers do not all look at the same moments."""
        self._shared = shared
        self._random = random
        self._runs: dict[str, Run] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._pauses: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._forget_at = 0.0
        self.store = store
        self.pending: dict[str, int] = {}
        """Requests of each model that have not ended, whoever has them, when last looked."""
        self.ended: Counter[str] = Counter()
        """Tries that ended here, by what came of them: a state that is for good, or `tried_again`, or `lost`."""

    @property
    def running(self) -> int:
        """Claims that this process holds."""
        return len(self._runs)

    def held(self) -> Counter[str]:
        """Of each model."""
        return Counter(run.model.name for run in self._runs.values())

    def wake(self) -> None:
        """There is something new to take, or room for it."""
        self._wake.set()

    async def follow(self) -> None:
        """For ever; cancelled, it gives back what it holds."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_always())
                tasks.create_task(self._beat_always())
        finally:
            await self._leave()

    # --- Taking

    async def _take_always(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS * (0.75 + 0.5 * self._random())):
                    await self._wake.wait()
            self._wake.clear()
            try:
                for model in self._shared.catalog.models():
                    await self._take(model)
            except QueueAway as error:
                _sparingly.warning("%s; trying again", error)
                await asyncio.sleep(_AWAY_SECONDS[0] + self._random())
            except Exception:  # Whatever one request does to us, the others and the router go on.
                log.exception("taking from the durable queue failed; trying again")
                await asyncio.sleep(1 + self._random())

    async def _take(self, model: Model) -> None:
        terms = model.terms.asynchronous
        while terms.enabled and self._has_room(model):
            claim = await self.store.take(model.name, terms)
            if claim is None:
                return
            try:
                self._start(model, claim)
            except Exception as error:  # It was let in by another version of this code, perhaps.
                log.exception("%s cannot be run", claim.id)
                failure = f"this router cannot run it: {error}."
                await self.store.give_back(claim, terms, seconds=_UNFIT_SECONDS, failure=failure, counts=True)

    def _has_room(self, model: Model) -> bool:
        shared = self._shared
        if shared.leaving or self._pauses.get(model.name, 0.0) > shared.loop.time():
            return False
        if self._runs and shared.held_bytes + shared.limits.body_bytes > shared.limits.held_bytes:
            return False
        return any(pool.has_room for pool in model.pools) and not model.queue.depth

    def _start(self, model: Model, claim: Claim) -> None:
        log.debug("%s: try %d", claim.id, claim.tries)
        if (before := self._runs.get(claim.id)) is not None:  # Its claim went by, and came back to this same router.
            before.abandon(metrics.CLIENT_GONE)
        run = Run(self._shared, model, claim, self._ended)
        self._runs[claim.id] = run
        self._shared.clients.add(run)
        run.start()

    # --- Handing in

    def _ended(self, run: Run, verdict: Outcome | Again) -> None:
        if isinstance(verdict, Again) and not verdict.counts:
            self._pauses[run.model.name] = self._shared.loop.time() + verdict.seconds
        task = self._shared.loop.create_task(self._settle(run, verdict))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, run: Run, verdict: Outcome | Again) -> None:
        """Until Redis has it, or does not want it any more."""
        wait, most = _AWAY_SECONDS
        while self._holds(run):
            try:
                what = await self._hand_in(run, verdict)
                if what == _LOST:
                    log.warning("%s: its claim was lost; what came of try %d is dropped", run.claim.id, run.claim.tries)
                self.ended[what] += 1
                self._drop(run)
            except QueueAway as error:
                _sparingly.warning("%s: its end is not stored yet; trying again (%s)", run.claim.id, error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, most)
            except Exception:
                log.exception("%s: its end could not be stored; it is tried again when its claim has run out", run.claim.id)
                self._drop(run)

    async def _hand_in(self, run: Run, verdict: Outcome | Again) -> str:
        """What came of it."""
        claim = run.claim
        if isinstance(verdict, Outcome):
            return verdict.state.value if await self.store.finish(claim, verdict) else _LOST
        _sparingly.warning("%s: try %d came to nothing: %s", claim.id, claim.tries, verdict.failure)
        state = await self.store.give_back(
            claim, run.model.terms.asynchronous, seconds=verdict.seconds, failure=verdict.failure, counts=verdict.counts
        )
        return _LOST if state is None else _TRIED_AGAIN if state is State.QUEUED else state.value

    def _holds(self, run: Run) -> bool:
        return self._runs.get(run.claim.id) is run

    def _drop(self, run: Run) -> None:
        self._shared.clients.discard(run)
        if self._holds(run):
            del self._runs[run.claim.id]
        self._wake.set()

    def cancelled(self, id_: str) -> None:
        """Its owner wants no answer any more."""
        run = self._runs.get(id_)
        if run is not None:
            run.abandon(metrics.CLIENT_GONE)
            self._drop(run)

    # --- Signs of life

    async def _beat_always(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds())
            try:
                await self._beat()
            except QueueAway as error:
                _sparingly.warning("%s; claims cannot be kept alive", error)
            except Exception:  # As above: the next sign of life may be heard.
                log.exception("claims could not be kept alive; trying again")

    def _beat_seconds(self) -> float:
        models = self._shared.catalog.models()
        return min([_BEAT_SECONDS, *(model.terms.asynchronous.visibility_seconds / 4 for model in models)])

    async def _beat(self) -> None:
        runs, models = list(self._runs.values()), self._shared.catalog.models()
        if not runs and not any(model.terms.asynchronous.enabled for model in models):
            return
        for id_ in await self.store.beat([run.claim for run in runs]):
            for run in runs:
                if run.claim.id == id_ and self._holds(run):
                    log.info("%s: its claim is lost (cancelled, given up, or another router has it)", id_)
                    self.ended[_LOST] += 1
                    self.cancelled(id_)
        if late := await self.store.sweep():
            self.ended[State.DEAD.value] += late
            log.warning("%d requests had not ended when their time was over; they are dead letters", late)
        self.pending = await self.store.pending([model.name for model in models])
        if not self._forget_at:
            for doubt in await self.store.doubts():
                log.warning("%s; see docs/async.md", doubt)
        if (now := self._shared.loop.time()) >= self._forget_at:
            self._forget_at = now + _FORGET_SECONDS
            for model in models:
                await self.store.forget_consumers(model.name)

    # --- Goodbye

    async def _leave(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                for run in list(self._runs.values()):
                    if not run.answered:
                        run.abandon(metrics.SHUTDOWN)
                        self._ended(run, Again(0.0, False, "its router was shut down."))
                await asyncio.gather(*self._settling)
        for task in self._settling:
            task.cancel()
        for run in list(self._runs.values()):
            log.warning("%s: could not be given back; it is tried again when its claim has run out", run.claim.id)
            self._drop(run)
        await self.store.close()
