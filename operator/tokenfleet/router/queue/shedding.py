"""Refusing a part of the requests before the queue is full, by chance, so that load settles instead of toppling over.

`shed_probability` is the rule. `LoadFactor` says how near the model is to its limits, as one request meets it: what only those
behind it in the queue suffer is not its load, so a key that floods the queue is shed before its neighbours, and low priority
before high. `Shedder` draws the lots.

A model that neither queues nor has a target for the first token costs a few comparisons and never a look at the clock.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, Final

from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.queue.recent import Mean
from tokenfleet.router.queue.waiting import Queue
from tokenfleet.router.rejections import SHED, Rejected
from tokenfleet.router.terms import Shedding

_JITTER: Final = (0.5, 1.5)
"""Of Retry-After, so that those who were refused together do not come back together."""
_STEEPNESS: Final = {Priority.LOW: 2.0, Priority.NORMAL: 1.0, Priority.HIGH: 0.0}


def shed_probability(load: float, *, start: float, stop: float, priority: Priority) -> float:
    """The part of requests to refuse: none up to `start`, all from `stop` on (start < stop).

    Between the two it rises linearly for normal priority, twice as fast for low (so that half-way none of it is left), and not
    at all for high.
    """
    if load <= start:
        return 0.0
    if load >= stop:
        return 1.0
    return min(1.0, _STEEPNESS[priority] * (load - start) / (stop - start))


class LoadFactor:
    """Of one model: from 0 to 1, the largest of what its queue and its first tokens say."""

    __slots__ = ("_clock", "_queue", "first_tokens")

    def __init__(self, queue: Queue[Any], clock: Callable[[], float]) -> None:
        self._queue = queue
        self._clock = clock
        self.first_tokens = Mean()
        """As parts of their target, each at most 1."""

    def first_token(self, seconds: float, *, target: float) -> None:
        """A replica began a stream so long after it had got the request."""
        self.first_tokens.add(min(1.0, seconds / target), self._clock())

    def value(self, priority: Priority, flow: Hashable) -> float:
        """How full the queue is, how near recent waits came to its deadline, recent first tokens to their target.

        Once nobody waits any more, it does not matter how long others did.
        """
        queue = self._queue
        load = self.first_tokens.value(self._clock())
        if queue.depth:
            load = max(load, queue.share(priority, flow), queue.recent_wait(flow) / queue.seconds)
        return min(1.0, load)

    def worst(self) -> float:
        """For whoever it hits hardest: for metrics, and for people."""
        queue = self._queue
        load = self.first_tokens.value(self._clock())
        if queue.depth:
            load = max(load, queue.depth / max(1, queue.max_depth), queue.longest_wait() / queue.seconds)
        return min(1.0, load)


class Shedder:
    """Of one router."""

    __slots__ = ("_random", "shed")

    def __init__(self, random: Callable[[], float]) -> None:
        """random: from 0 up to, not including, 1."""
        self._random = random
        self.shed: Counter[Priority] = Counter()
        """Whom the lot fell on."""

    def check(self, queue: Queue[Any], load: LoadFactor, shedding: Shedding, priority: Priority, flow: Hashable) -> None:
        """Rejected, where the lot falls on this request."""
        if not (queue.depth or load.first_tokens.weight):
            return
        if 0 < queue.max_depth <= queue.depth:
            return  # A full queue knows better whose place it is.
        now = load.value(priority, flow)
        start, stop = float(shedding.start_at), float(shedding.stop_at)
        if self._random() < shed_probability(now, start=start, stop=stop, priority=priority):
            self.shed[priority] += 1
            least, most = _JITTER
            after = max(1, round(queue.retry_after() * (least + (most - least) * self._random())))
            message = f"This model is overloaded (load {now:.2f}; from {start:g} on requests are refused by chance)."
            raise Rejected(SHED, f"{message} Try again in {after} s.", retry_after=after)
