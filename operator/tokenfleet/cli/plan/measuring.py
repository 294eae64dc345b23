"""Short load tests of a live server at several lengths and concurrencies, as points that a calibration is fitted to.

Prompts are drawn at random, so that no prefix cache knows them. Answers have between half and one and a half times the tokens
that a run is about: were all alike, users that began together would stay in step, and their prompts meet every time. A run
warms up with twice as many requests as it has at a time, which are not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from tokenfleet.bench.arrivals import Closed
from tokenfleet.bench.client import Client
from tokenfleet.bench.figures import Summary, Trim, summarize
from tokenfleet.bench.load import Progress, Stop, drive
from tokenfleet.bench.prompts import Lengths, Synthetic
from tokenfleet.bench.wording import choose_wording
from tokenfleet.errors import TokenfleetError
from tokenfleet.planning.speed import Point

RUN_SECONDS: Final = 6.0
"""Of one run, beside its warm-up and the answers that are under way at its end."""
_LONGEST: Final = 2048
_MIN_REQUESTS: Final = 3
"""Counted, below which a run says nothing."""

EXTRA: Final = {"ignore_eos": True, "temperature": 0}
"""Of every request's body."""


class Stopped(TokenfleetError):
    """A run came to nothing; the message says why. What was measured before holds."""


@dataclass(frozen=True, slots=True)
class Load:
    """Of one run."""

    input_tokens: int
    output_tokens: int
    concurrency: int

    @property
    def answers(self) -> Lengths:
        return Lengths("uniform", max(self.output_tokens // 2, 1), self.output_tokens + self.output_tokens // 2)

    def __str__(self) -> str:
        return f"{self.input_tokens} + {self.output_tokens} tokens, {self.concurrency} at a time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is measured: to fit to, and to hold the fit against."""

    fitted: tuple[Load, ...]
    held_out: tuple[Load, ...]

    @property
    def loads(self) -> tuple[Load, ...]:
        return self.fitted + self.held_out


def grid_of(*, max_tokens: int, max_num_seqs: int) -> Grid:
    """max_tokens: of a sequence at most. Short prompts in large batches tell what a step and a sequence cost, long ones what
    computing and a context cost; those held out lie between them."""
    longest = max(min(_LONGEST, max_tokens * 5 // 8), 4)
    short, middle, answer = max(longest // 8, 2), max(longest // 2, 3), max(min(128, max_tokens // 8), 2)

    def loads(*triples: tuple[int, int, int]) -> tuple[Load, ...]:
        return tuple(dict.fromkeys(Load(prompt, output, min(users, max_num_seqs)) for prompt, output, users in triples))

    fitted = loads(
        (short, answer, 1), (short, answer, 4), (short, answer, 16),
        (longest, answer, 1), (longest, answer, 4), (longest, answer, 12),
    )  # fmt: skip
    held = loads((middle, answer, 1), (short, answer, 8), (middle, answer, 6), (longest, max(answer // 2, 2), 8))
    return Grid(fitted=fitted, held_out=tuple(load for load in held if load not in fitted))


async def measure(
    client: Client,
    loads: Sequence[Load],
    *,
    seconds: float = RUN_SECONDS,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
    on_point: Callable[[Point], None] = lambda _: None,
) -> list[Point]:
    """One run after another; the client is open. on_point: as each ends. Raises Stopped, and BadTarget."""
    wording, found = await choose_wording(client), []
    for number, load in enumerate(loads, 1):
        prompts = Synthetic(input=Lengths("fixed", load.input_tokens), output=load.answers, wording=wording).prompts(
            Random(seed * 1000 + number)
        )
        told = 0.0

        def progress(now: Progress, number: int = number, load: Load = load) -> None:
            nonlocal told
            if now.elapsed - told >= 2.0:
                told = now.elapsed
                tell(f"{number} of {len(loads)}, {load}: {now.elapsed:.0f} s, {now.done} answers")

        run = await drive(
            client, prompts, Closed(load.concurrency), stop=Stop(seconds=seconds, grace=10 * seconds), on_progress=progress
        )
        summary = summarize(run, warmup=Trim(requests=2 * load.concurrency))
        if run.meta["ending"] != "complete" or summary.ok < _MIN_REQUESTS:
            raise Stopped(_why(load, summary, run.meta["ending"], [each.error for each in run.exchanges if each.error]))
        found.append(_point(load, summary))
        on_point(found[-1])
    return found


def _why(load: Load, summary: Summary, ending: str, errors: Sequence[str]) -> str:
    if ending == "server gone":
        return f"with {load} the server stopped answering ({errors[-1] if errors else 'no connection'})"
    if errors:
        return f"with {load} requests fail: {errors[-1]}"
    return f"with {load} no more than {summary.ok} answers came within the time of a run; measure for longer with --seconds"


def _point(load: Load, summary: Summary) -> Point:
    point = Point(
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        concurrency=float(load.concurrency),
        output_tokens_per_second=summary.output_tokens_per_second,
    )
    return replace(
        point,
        ttft=summary.ttft.mean if summary.ttft is not None else None,
        itl=summary.tpot.mean if summary.tpot is not None else None,
    )
