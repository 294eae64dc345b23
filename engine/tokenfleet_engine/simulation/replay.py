"""Runs a load through scheduler and timing model without waiting for anything: what would have been measured.

The same two that serve, with a clock that only counts. It is how a fit is checked against what a real engine did.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from tokenfleet_engine.simulation.scheduler import Limits, Scheduler
from tokenfleet_engine.simulation.sequences import Sequence
from tokenfleet_engine.simulation.text import Writer
from tokenfleet_engine.simulation.timing import Coefficients


@dataclass(frozen=True, slots=True)
class Load:
    """A request: when it comes, and how many tokens."""

    at: float
    prompt_tokens: int
    answer_tokens: int


@dataclass(slots=True)
class Outcome:
    """When each token came, in seconds after the request did."""

    arrived: float
    tokens: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        return self.tokens[0]

    @property
    def total(self) -> float:
        return self.tokens[-1]

    @property
    def between(self) -> float:
        return (self.total - self.first) / max(1, len(self.tokens) - 1)


def replay(loads: Many[Load], limits: Limits, coefficients: Coefficients) -> list[Outcome]:
    scheduler = Scheduler(limits)
    outcomes = [Outcome(load.at) for load in loads]
    sequences = {_sequence(load, limits, number): outcomes[number] for number, load in enumerate(loads)}
    coming = sorted(sequences, key=lambda sequence: sequences[sequence].arrived, reverse=True)
    now = 0.0
    while coming or scheduler.busy:
        if not scheduler.busy:
            now = max(now, sequences[coming[-1]].arrived + coefficients.request)
        while coming and sequences[coming[-1]].arrived + coefficients.request <= now:
            scheduler.add(coming.pop())
        step = scheduler.schedule()
        now += coefficients.seconds(step.work)
        for sequence in scheduler.complete(step):
            sequence.advance()
            outcome = sequences[sequence]
            outcome.tokens.append(now - outcome.arrived)
            if sequence.finish is not None:
                scheduler.finish(sequence)
    return outcomes


def _sequence(load: Load, limits: Limits, number: int) -> Sequence:
    """Of a prompt that nobody else has."""
    hashes = [hash((number, block)) for block in range(load.prompt_tokens // limits.block_size)]
    return Sequence(
        prompt_tokens=load.prompt_tokens, limit=load.answer_tokens, block_size=limits.block_size, hashes=hashes,
        writer=Writer(number),
    )  # fmt: skip
