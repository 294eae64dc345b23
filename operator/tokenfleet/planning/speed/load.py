"""What happens in a replica that has so many sequences in its batch: how often requests come, and what each waits for.

Everything follows from the sequences that decode, B, by Little's law: with n steps a request and a step that takes t, B / (n t)
requests a second pass, so each step takes in B / n prompts, whatever t is. So nothing has to be iterated: who knows the rate or
the concurrency instead looks for the B that it belongs to (`solve`). Continuous batching is that of vLLM (Kwon et al. 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, sqrt
from typing import Final

from tokenfleet.planning.speed import waiting
from tokenfleet.planning.speed.replica import Replica

FULL: Final = 0.99
"""Share of its places, and of the prompts that its steps can take, up to which a replica counts as keeping up: at 1 the wait
has no end."""
_TRIES: Final = 50


@dataclass(slots=True)
class Load:
    """A replica in a steady state."""

    replica: Replica
    decoding: float
    """Sequences, in the mean."""
    others: float
    """Share of all requests that one meets besides itself: 1 where they come by themselves, (N-1)/N where N take turns."""
    rate: float
    round: float
    """Seconds of a decode step, in the mean."""

    @property
    def met(self) -> float:
        """Sequences that a newcomer finds decoding (arrivals see time averages, Wolff 1982)."""
        return self.decoding * self.others

    def _queue(self, service: float, variation: float) -> tuple[float, float]:
        """The chance that a prompt waits for those before it, and how long in the mean of all."""
        used = min(self.rate * self.others * service / self.replica.pipeline, FULL)
        return used, waiting.queue_wait(used, service, variation)

    @property
    def _service(self) -> float:
        """Seconds by which a prompt holds up those behind it."""
        return self.replica.round_seconds(self.met, self.replica.budget) / self.replica.budget

    def alone(self, met: float) -> float:
        """Seconds of computing a prompt while so many decode."""
        chunks = self.replica.chunks
        return chunks * self.replica.round_seconds(met, 1 / chunks)

    def ttft(self, variation: float = 0.0) -> float:
        """The mean, without the wait for a place: half of the step that runs, the prompts before it, and its own."""
        running = (1 - exp(-self.met)) * self.replica.round_seconds(self.met) / 2
        _, queue = self._queue(self._service, variation)
        return self.replica.request_seconds + running + queue + self.alone(self.met)

    def place_wait(self, variation: float = 0.0) -> float:
        """The mean, of requests that come by themselves."""
        held = self.alone(self.met) + self.replica.rounds * self.round
        return waiting.place_wait(self._taken, self.replica.places, held, variation)

    @property
    def _taken(self) -> float:
        return min(self.decoding / self.replica.places, FULL)

    def ttft_tail(self, percentile: float, spread: float, variation: float = 0.0) -> float:
        """At a percentile; spread: that of the standard normal distribution."""
        met = self._most(spread)
        used, queue = self._queue(self._service, variation)
        # Clients that take turns are as many as there are: who waits for a place is told by their number, not by chance.
        chance = waiting.chance_of_waiting(self._taken, self.replica.places) if self.others == 1 else 0.0
        place = self.place_wait(variation) if chance > 1 - percentile else 0.0
        return (
            self.replica.request_seconds
            + percentile * (1 - exp(-self.met)) * self.replica.round_seconds(met)
            + waiting.tail(queue, used, percentile)
            + waiting.tail(place, chance, percentile)
            + self.alone(met)
        )

    def itl_tail(self, percentile: float, spread: float) -> float:
        """At a percentile of the gaps: of a step with as many prompts in it as that many steps do not exceed."""
        replica = self.replica
        chunks = self.rate * self.others * self.round * replica.chunks / replica.pipeline
        prompts = min(waiting.poisson_quantile(chunks, percentile) / replica.chunks, replica.budget)
        seen = min(1 + self._most(spread), replica.places)
        return max(replica.round_seconds(seen, prompts), self.round) / replica.tokens_per_round

    def _most(self, spread: float) -> float:
        """Sequences that decode, at a percentile: their number is Poisson's where all find room (M/G/∞)."""
        return min(self.met + spread * sqrt(self.met), self.replica.places)


def loaded(replica: Replica, share: float, others: float = 1.0) -> Load:
    """At a share of what a replica can have in its steps: 1 is all of it."""
    if replica.rounds == 0:
        return Load(replica, 0.0, others, share * most_prompts(replica), replica.round_seconds(1.0))
    decoding = share * room(replica)
    return Load(replica, decoding, others, *_passing(replica, decoding, others))


def room(replica: Replica) -> float:
    """Sequences that can decode at the same time: the places, or as many as steps can take in prompts for."""
    return min(replica.places, replica.rounds * replica.budget * replica.pipeline)


def most_prompts(replica: Replica) -> float:
    """A second, where nothing decodes."""
    return replica.budget * replica.pipeline / replica.round_seconds(0.0, replica.budget)


def _passing(replica: Replica, decoding: float, others: float) -> tuple[float, float]:
    """Requests a second, and the mean time of a step, of which a share takes in a chunk of a prompt."""
    seen = min(1 + decoding * others, replica.places)
    prompts = decoding * others / (replica.rounds * replica.pipeline)
    chunk = 1 / replica.chunks
    if prompts >= chunk:
        seconds = replica.round_seconds(seen, prompts)
    else:
        mixed = prompts * replica.chunks
        seconds = (1 - mixed) * replica.round_seconds(seen) + mixed * replica.round_seconds(seen, chunk)
    return decoding / (replica.rounds * seconds), seconds


def at_rate(replica: Replica, rate: float) -> Load:
    """As requests come by themselves; at the most that it can do where that is less."""
    return solve(lambda share: loaded(replica, share), lambda load: load.rate, rate)


def at_concurrency(replica: Replica, concurrency: float, variation: float = 0.0) -> Load:
    """As clients that each send the next request when they have their answer."""
    others = (concurrency - 1) / concurrency
    return solve(
        lambda share: loaded(replica, share, others),
        lambda load: load.decoding + load.rate * load.ttft(variation),
        concurrency,
        most=min(1.0, concurrency / room(replica) if replica.rounds else inf),
    )


def solve(state: Callable[[float], Load], measure: Callable[[Load], float], wanted: float, most: float = 1.0) -> Load:
    """The state of which a measure that rises with the load is as wanted, or the fullest that there is."""
    low, high = 0.0, most
    fullest = state(most)
    if measure(fullest) <= wanted:
        return fullest
    for _ in range(_TRIES):
        middle = (low + high) / 2
        if measure(state(middle)) < wanted:
            low = middle
        else:
            high = middle
    return state(high)
