"""What becomes of an answer that is cut: a stream goes on with another replica where that can be, all else ends as broken.

The client sees one stream that pauses. In the meantime the request takes a place, or waits for one before those that have not
begun; the replica is asked how much was sent (count.py), and then for the rest (sequel.py), which passes as if it were the
first one's (splice.py). Where only the end is missing, the router says it itself. What happens is told in
llm_router_continuations, by result.
"""

from abc import abstractmethod
from typing import Final

import msgspec

from tokenfleet.router.answering import Answering
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.client import Client
from tokenfleet.router.continuing.count import Count
from tokenfleet.router.continuing.sequel import Counts, Sequel
from tokenfleet.router.continuing.splice import Splice
from tokenfleet.router.continuing.suited import Unsuited, unsuited
from tokenfleet.router.continuing.transcript import Transcript
from tokenfleet.router.delivery import DRAINING, FULL, LOST
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Place, Pool
from tokenfleet.router.relay import Relay, asks_for_usage
from tokenfleet.router.reporting import metrics
from tokenfleet.router.shared import Shared
from tokenfleet.router.usage import Usage
from tokenfleet.router.wire.answer import Answer

MOST_CUTS: Final = 2
"""Of one stream that goes on: at the next one it may be the request that ends replicas."""
KEPT_BODY_BYTES: Final = 512 * 1024
"""Of a request whose stream may have to go on; a larger one is let go of when its answer begins."""
_KEPT_SHARE: Final = 2
"""Bodies are kept as long as all of them take no more than one of so many parts of the memory that there is for them."""

CUT: Final = "cut"
"""Why a request was given to a replica again; a label of that metric, too."""
CONTINUED: Final = "continued"
FINISHED: Final = "finished"
"""Nothing but the end was missing."""
TOO_LARGE: Final = "too_large"
"""Its body was not kept."""
TOO_OFTEN: Final = "too_often"
NO_REPLICA: Final = "no_replica"
REFUSED: Final = "refused"
"""The next replica would not take it: a template without open messages, or a prompt that is too long now."""
UNCOUNTED: Final = "uncounted"
"""The next replica could not say how many tokens were sent."""
_DONE: Final = b"data: [DONE]\n\n"


class Continuing(Answering):
    """Of one request."""

    __slots__ = ("_count", "_cuts", "_sequel", "_since")

    def __init__(self, client: Client, shared: Shared, job: Job) -> None:
        super().__init__(client, shared, job)
        self._count: Count | None = None
        self._cuts = 0
        self._sequel: Sequel | None = None
        """Set once the stream was cut and is to go on."""
        self._since: float | None = None
        """When it first had to wait for the place that it looks for now."""

    @abstractmethod
    def _join(self, priority: Priority) -> None:
        """Wait in the queue. Rejected where there is no room."""

    def _transcript(self) -> Transcript | None:
        answer, place, job, shared = self._answer, self._place, self._job, self._shared
        assert answer is not None and place is not None
        if not answer.event_stream or answer.length is not None or answer.status != 200 or unsuited(job, place.pool):
            return None
        if len(job.body) > KEPT_BODY_BYTES or shared.held_bytes > shared.limits.held_bytes // _KEPT_SHARE:
            return None
        return Transcript()

    # --- A cut

    def _cut(self, why: str) -> None:
        relay = self._relay
        assert relay is not None
        if not relay.stream or relay.answer.status != 200:
            self._truncate(why)
        elif relay.transcript is not None and self._is_over(relay.transcript):
            self._close(relay, b"" if relay.transcript.done else _DONE)
        else:
            try:
                self._sequel = self._plan(relay)
            except Unsuited as unsuited:
                self._give_up(why, str(unsuited))
                return
            self._cuts += 1
            self._since = self._answer = None
            self._failures = {}
            self._again(CUT, f"{why} in the middle of a stream")

    def _is_over(self, transcript: Transcript) -> bool:
        """The client has all that it wants to know."""
        transcript.text()
        return transcript.done or (transcript.finished and (transcript.counted or asks_for_usage(self._job)))

    def _plan(self, relay: Relay) -> Sequel:
        """How it goes on. Raises Unsuited."""
        place = self._place
        assert place is not None
        if relay.transcript is None:
            raise Unsuited(unsuited(self._job, place.pool) or TOO_LARGE)
        sequel = Sequel(self._job, relay.transcript)
        if self._cuts == MOST_CUTS:
            raise Unsuited(TOO_OFTEN)
        return sequel

    def _give_up(self, why: str, result: str) -> None:
        self._shared.metrics.continuations[result] += 1
        self._truncate(why)

    def _close(self, relay: Relay, events: bytes, usage: Usage | None = None) -> None:
        """End the stream with these events, whole."""
        self._shared.metrics.continuations[FINISHED] += 1
        self._let_go()
        if usage is not None:
            relay.settle(usage)
        self._client.write(relay.ending(events))
        self._end(relay.answer.status, metrics.RELAYED)
        self._client.finish(keep_alive=self._stays)

    # --- Going on

    def _next_place(self) -> Place | None:
        """On another replica of the same LLMDeployment and track before all others, and never with another model."""
        if self._sequel is None:
            return super()._next_place()
        place, model, affinity = self._place, self._job.model, self._job.affinity
        assert place is not None
        last = self.tried[-1:]
        lease = place.pool.replicas.lease(last, affinity, place.pool.adapter)
        if lease is not None:
            return Place(place.pool, lease)
        return model.place(affinity, last) or (None if self._waits else model.last_resort(self.tried))

    def _take(self, place: Place) -> None:
        sequel = self._sequel
        if sequel is None:
            super()._take(place)
            return
        replica = self._occupy(place)
        if questions := sequel.questions:
            bodies = [msgspec.json.encode({"model": place.pool.served_name, **question}) for question in questions]
            self._count = Count(self, self._shared, self._job, replica, bodies)
            self._count.start()
        else:
            self._reach(replica)

    def counted(self, counts: Counts) -> None:
        """The replica that is to go on says how much was sent."""
        self._count = None
        sequel, place, relay = self._sequel, self._place, self._relay
        assert sequel is not None and place is not None and relay is not None
        sequel.counts = counts
        if sequel.transcript.finished or sequel.left(place.pool) == 0:
            self._close(relay, sequel.ending(usage=sequel.spent), sequel.spent)
        else:
            self._reach(self.tried[-1])

    def uncounted(self, why: str, *, elsewhere: bool) -> None:
        """It does not."""
        self._count = None
        if elsewhere:
            self.tried[-1].pause()
            self._again(LOST, why)
        else:
            self._give_up(why, UNCOUNTED)

    def _body(self, pool: Pool) -> bytes:
        return super()._body(pool) if self._sequel is None else self._sequel.body(pool)

    def _goes_on(self, answer: Answer) -> None:
        replica, sequel, relay = self.tried[-1], self._sequel, self._relay
        assert sequel is not None and relay is not None
        if answer.status == 200 and answer.event_stream and answer.length is None:
            if replica.paused:
                replica.reached(answered=True)
            self._answer = answer
            self._shared.metrics.continuations[CONTINUED] += 1
            relay.splice(self._splice(sequel))
        elif answer.draining:
            replica.pause(drains=True)
            self._again(DRAINING, "is draining")
        elif answer.status == 503:
            replica.filled()
            self._again(FULL, "has no place for it")
        elif answer.status >= 500 and self.losses + 1 < self._shared.limits.losses:
            self.losses += 1
            replica.pause()
            self._again(LOST, f"answered {answer.status}")
        else:
            self._give_up(f"answered {answer.status} to a stream that was to go on", REFUSED)

    def _splice(self, sequel: Sequel) -> Splice:
        transcript = sequel.transcript
        return Splice(
            transcript.heading,
            role=transcript.role,
            repeated=sequel.repeated,
            sent=sequel.counts.sent,
        )
