"""What to ask an engine so that every coefficient shows: batches that decode together, and lone prompts of many lengths.

A batch's time between tokens is that of one step; a lone prompt's time to its first token is that of its steps, and what every
request costs. Each gives one equation in the coefficients. Mixed loads, with arrivals at random, are for checking alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from random import Random
from statistics import median
from typing import Final

from tokenfleet_engine.simulation.replay import Load, Outcome
from tokenfleet_engine.simulation.scheduler import Limits
from tokenfleet_engine.simulation.timing import Coefficients

ANSWER: Final = 64
"""Tokens of a batch's answers."""
FIELDS: Final = tuple(each.name for each in fields(Coefficients))
LUMPS: Final = 0.1
"""Share of tokens that may come together with the one before."""
TOGETHER_SECONDS: Final = 1e-4
SHARES: Final = (0.02, 0.25, 0.7)
"""Of the context, that a batch's prompts take."""


@dataclass(frozen=True, slots=True)
class Equation:
    """The work, by coefficient, and the seconds that it took."""

    work: dict[str, float]
    seconds: float

    @property
    def row(self) -> list[float]:
        return [self.work.get(name, 0.0) for name in FIELDS]


@dataclass(frozen=True, slots=True)
class Batch:
    """So many sequences that decode together."""

    size: int
    prompt_tokens: int

    def loads(self) -> list[Load]:
        return [Load(0.0, self.prompt_tokens, ANSWER)] * self.size

    def equation(self, outcomes: Sequence[Outcome]) -> Equation | None:
        """From the last one's first token to the first one's last: there all of them decode.

        Streams whose tokens came in lumps are left out, since the lump was the server's or the client's, not the engine's. None
        where too little remains.
        """
        calm = [outcome for outcome in outcomes if lumps(outcome) < LUMPS]
        if 2 * len(calm) < self.size:
            return None
        times = [[outcome.arrived + at for at in outcome.tokens] for outcome in calm]
        begin, end = max(each[0] for each in times), min(each[-1] for each in times)
        steps = [sum(begin < at <= end for at in each) for each in times]
        if min(steps) < ANSWER // 3:
            return None
        context = self.size * (self.prompt_tokens + ANSWER / 2)
        return Equation({"step": 1, "decode": self.size, "context_token": context}, (end - begin) / median(steps))


@dataclass(frozen=True, slots=True)
class Lone:
    """One prompt on an idle engine."""

    prompt_tokens: int
    chunk: int

    def loads(self) -> list[Load]:
        return [Load(0.0, self.prompt_tokens, 2)]

    def equation(self, outcomes: Sequence[Outcome]) -> Equation | None:
        work = {"request": 1, "step": math.ceil(self.prompt_tokens / self.chunk), "prompt_token": self.prompt_tokens}
        return Equation({**work, "attended_token": self.prompt_tokens**2 / 2}, outcomes[0].first)


def trials(limits: Limits, *, context: int) -> Iterator[Batch | Lone]:
    longest = context - ANSWER
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= limits.max_num_seqs]
    yield from (Batch(size, max(8, int(share * longest))) for share in SHARES for size in sizes)
    lengths = sorted({max(8, longest * part // 12) for part in range(13)})
    yield from (Lone(length, limits.max_num_batched_tokens) for length in lengths)


def mixed_load(count: int, *, per_second: float, context: int, random: Random) -> list[Load]:
    """Arrivals at random; prompts and answers from short to long, short ones more often."""
    at, loads = 0.0, []
    for _ in range(count):
        loads.append(Load(at, _length(8, context // 2, random), _length(8, min(128, context // 4), random)))
        at += random.expovariate(per_second)
    return loads


def _length(least: int, most: int, random: Random) -> int:
    return round(math.exp(random.uniform(math.log(least), math.log(most))))


def lumps(outcome: Outcome) -> float:
    gaps = [later - earlier for earlier, later in pairwise(outcome.tokens)]
    return sum(gap < TOGETHER_SECONDS for gap in gaps) / len(gaps)
