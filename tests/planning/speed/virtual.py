"""A vLLM in virtual time: the simulator's scheduler with its model of how long steps take, under loads that do not end.

It decides by itself who computes what in which step, so what it comes to is a check of `load` that shares nothing with it.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from statistics import fmean

from tokenfleet.planning.speed import Point
from tokenfleet_engine.simulation.scheduler import Limits, Scheduler
from tokenfleet_engine.simulation.sequences import Sequence
from tokenfleet_engine.simulation.text import Writer
from tokenfleet_engine.simulation.timing import Coefficients


@dataclass(slots=True)
class Request:
    sent: float
    tokens: int
    first: float = 0.0
    last: float = 0.0


def run(
    coefficients: Coefficients,
    limits: Limits,
    *,
    input_tokens: int,
    output_tokens: int,
    concurrency: int | None = None,
    rate: float | None = None,
    seconds: float = 40.0,
    warmup: float = 8.0,
) -> tuple[Point, list[Request]]:
    """The means of a run, and each request that was sent after the warm-up and answered. Answers have between half and one and
    a half times their tokens, so that those who begin together do not stay together."""
    scheduler, requests, numbers, now = Scheduler(limits), {}, iter(range(1 << 30)), 0.0
    coming: list[tuple[float, int]] = []
    chance = Random(3)
    arrivals = _arrivals(rate, Random(7)) if rate is not None else iter(())
    for _ in range(concurrency or 0):
        heapq.heappush(coming, (0.0, next(numbers)))
    following = next(arrivals, None)
    done: list[Request] = []
    while now < seconds:
        while following is not None and following <= now:
            heapq.heappush(coming, (following, next(numbers)))
            following = next(arrivals, None)
        while coming and coming[0][0] + coefficients.request <= now:
            sent, number = heapq.heappop(coming)
            tokens = chance.randint(output_tokens // 2, output_tokens + output_tokens // 2)
            sequence = _sequence(number, input_tokens, tokens, limits)
            requests[sequence] = Request(sent, tokens)
            scheduler.add(sequence)
        if not scheduler.busy:
            times = [each for each in (coming[0][0] + coefficients.request if coming else None, following) if each is not None]
            now = max(now, min(times)) + 1e-9
            continue
        step = scheduler.schedule()
        now += coefficients.seconds(step.work)
        for sequence in scheduler.complete(step):
            sequence.advance()
            request = requests[sequence]
            request.first, request.last = request.first or now, now
            if sequence.finish is not None:
                scheduler.finish(sequence)
                done.append(requests.pop(sequence))
                if concurrency is not None:
                    heapq.heappush(coming, (now, next(numbers)))
    counted = [each for each in done if each.sent >= warmup]
    answered = sum(each.tokens for each in done if warmup <= each.last)
    point = Point(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        concurrency=None if concurrency is None else float(concurrency),
        rate=rate,
        ttft=fmean(each.first - each.sent for each in counted),
        itl=fmean((each.last - each.first) / (each.tokens - 1) for each in counted),
        output_tokens_per_second=answered / (seconds - warmup),
    )
    return point, counted


def _arrivals(rate: float, chance: Random) -> Iterator[float]:
    now = 0.0
    while True:
        now += chance.expovariate(rate)
        yield now


def _sequence(number: int, prompt: int, answer: int, limits: Limits) -> Sequence:
    hashes = [hash((number, block)) for block in range(prompt // limits.block_size)]
    return Sequence(
        prompt_tokens=prompt, limit=answer, block_size=limits.block_size, hashes=hashes, writer=Writer(number)
    )  # fmt: skip
