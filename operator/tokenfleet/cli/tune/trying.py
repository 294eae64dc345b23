"""One try: so many requests at once for as long as it takes until it is clear whether the promises are kept.

The first request of each place is the warm-up. Their answers are of different lengths, so that the places do not stay in step,
which a closed loop of equal requests would: all prompts at once, then all answers. What is under way when it is clear is left.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Final

from tokenfleet.bench.arrivals import Closed
from tokenfleet.bench.client import Client
from tokenfleet.bench.figures import e2e, gaps, tpot, ttft
from tokenfleet.bench.load import Progress, Stop, drive
from tokenfleet.bench.prompts import Prompt
from tokenfleet.bench.record import Exchange, Run
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.tune.queues import Queues
from tokenfleet.planning.tuning import Finding, Measured, Metric, Objective, Probe, Seen, Verdict, judge, observe, shares_around

_PLENTY: Final = 20
"""Requests beyond the limit, of a percentile that is right at it, after which a try ends without being clear."""

_TURNS: Final = 8
"""Of all places, for those that bring many samples with each request."""


class Ended(CliError):
    """A try has no verdict, and those before it are kept."""


class Gone(Ended):
    """The server does not answer any more."""


class Interrupted(Ended):
    code = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a try is over."""

    objectives: tuple[Objective, ...]
    alpha: float
    seconds: float

    def most(self, concurrency: int) -> int:
        """Requests, without the warm-up."""
        return max(_TURNS * concurrency, *(ceil(_PLENTY / min(1 - each.share, 0.5)) for each in self.objectives))


@dataclass(slots=True)
class Try:
    """What came in until now, and what it shows."""

    rules: Rules
    concurrency: int
    halt: asyncio.Event
    tell: Callable[[Progress], None]
    counted: list[Exchange] = field(default_factory=list)
    warm: float | None = None
    """When every place had begun a second request."""
    _seen: dict[Metric, list[Seen]] = field(default_factory=dict)
    _warming: int = 0
    _silent: bool = False
    """Nothing but lost connections of late: the server may be gone, which is no verdict, and which the drive will tell."""

    def add(self, exchange: Exchange) -> None:
        if exchange.outcome == "aborted":
            return
        self._silent = exchange.outcome == "cut" or (exchange.outcome == "error" and exchange.status is None)
        if exchange.index < self.concurrency:
            self._warming += 1
            if self._warming == self.concurrency:
                self.warm = exchange.ended
            return
        self.counted.append(exchange)
        for objective in self.rules.objectives:
            seen = self._seen.setdefault(objective.metric, [])
            seen.append(observe(objective, values_of(objective.metric, exchange), missing=self._missing(objective, exchange)))

    def look(self, progress: Progress) -> None:
        self.tell(progress)
        if progress.elapsed >= self.rules.seconds or (self.over and not self._silent):
            self.halt.set()

    @property
    def over(self) -> bool:
        """One promise that is not to be met any more is enough."""
        findings = self.findings()
        return all(each.over for each in findings) or any(each.over and each.verdict != "met" for each in findings)

    def findings(self) -> list[Finding]:
        """Of each promise. All must be kept, each with the whole confidence; one broken is enough, so there they share it."""
        most, count = self.rules.most(self.concurrency), len(self.rules.objectives)
        found = []
        for each in self.rules.objectives:
            seen = self._seen.get(each.metric, [])
            finding = judge(each, seen, concurrency=self.concurrency, alpha=self.rules.alpha, most=most)
            if finding.verdict == "missed" and count > 1:
                alpha = self.rules.alpha / count
                finding = judge(each, seen, concurrency=self.concurrency, alpha=alpha, most=most)
            found.append(finding)
        return found

    def _missing(self, objective: Objective, exchange: Exchange) -> int:
        if exchange.outcome == "ok":
            return 0
        if objective.metric != "itl":
            return 1
        before = [seen.total for seen in self._seen.get("itl", [])]
        return max(1, round(sum(before) / len(before)) if before else 1)


async def attempt(
    client: Client,
    prompts: Iterator[Prompt],
    concurrency: int,
    rules: Rules,
    *,
    queues: Queues,
    tell: Callable[[Progress], None],
) -> Probe:
    """Raises Ended, and CliError where the server refuses what it is asked."""
    halt = asyncio.Event()
    trying = Try(rules, concurrency, halt, tell)
    async with queues.watched(), _interruptible(halt):
        run = await drive(
            client,
            staggered(prompts, concurrency),
            Closed(concurrency),
            stop=Stop(),
            on_progress=trying.look,
            on_exchange=trying.add,
            halt=halt,
        )
    _check(run)
    findings = trying.findings()
    return Probe(
        concurrency=concurrency,
        verdict=_together([each.verdict for each in findings]),
        tokens_per_second=_tokens_per_second(run, trying.warm),
        measured=tuple(
            _measured(objective, finding, rules.alpha, trying.counted)
            for objective, finding in zip(rules.objectives, findings, strict=True)
        ),
        requests=len(trying.counted),
        failed=sum(each.outcome != "ok" for each in trying.counted),
        seconds=round(run.seconds, 3),
        running=queues.bound(concurrency),
    )


@contextlib.asynccontextmanager
async def _interruptible(halt: asyncio.Event) -> AsyncIterator[None]:
    """Ctrl-C ends the load, so that nothing is left under way, and then the command."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

    def interrupt() -> None:
        interrupted.set()
        halt.set()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    if interrupted.is_set():
        raise Interrupted("Interrupted")


def staggered(prompts: Iterator[Prompt], places: int) -> Iterator[Prompt]:
    """The first of each place has an answer of another length."""
    for number, prompt in enumerate(prompts):
        if number < places and prompt.output_tokens is not None:
            yield replace(prompt, output_tokens=max(1, ceil(prompt.output_tokens * (number + 1) / places)))
        else:
            yield prompt


def values_of(metric: Metric, exchange: Exchange) -> list[float]:
    """In seconds; none where it failed."""
    if exchange.outcome != "ok" or exchange.first is None:
        return []
    if metric == "itl":
        return gaps(exchange)
    value = {"ttft": ttft, "tpot": tpot, "e2e": e2e}[metric](exchange)
    return [] if value is None else [value]


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    if "missed" in verdicts:
        return "missed"
    return "unclear" if "unclear" in verdicts else "met"


def _measured(objective: Objective, finding: Finding, alpha: float, counted: Sequence[Exchange]) -> Measured:
    values = sorted(value for each in counted for value in values_of(objective.metric, each))
    failed = sum(each.outcome != "ok" for each in counted)
    total = len(values) + (failed if objective.metric != "itl" else 0)
    low, high = shares_around(objective, finding, alpha=alpha)

    def at(share: float | None) -> float | None:
        place = None if share is None else max(0, ceil(share * total) - 1)
        return None if place is None or place >= len(values) else round(values[place], 6)

    return Measured(
        metric=objective.metric, verdict=finding.verdict, value=at(objective.share), lower=at(low), upper=at(high),
        samples=total, effective=round(finding.total, 1),
    )  # fmt: skip


def _tokens_per_second(run: Run, warm: float | None) -> float:
    """Of all answers, also those that were left, from when the load was steady."""
    begins, ends = warm or 0.0, run.seconds
    tokens = 0.0
    for each in run.exchanges:
        if each.times:
            tokens += each.output_tokens / len(each.times) * sum(begins <= time <= ends for time in each.times)
    return round(tokens / (ends - begins), 3) if ends > begins else 0.0


def _check(run: Run) -> None:
    failures = [each for each in run.exchanges if each.outcome in ("error", "cut")]
    last = failures[-1].error if failures else None
    if run.meta["ending"] == "server gone":
        raise Gone(f"The server is gone ({last})")
    if failures and all(_refused(each) for each in run.exchanges if each.outcome != "aborted"):
        raise CliError(f"The server refuses every request: {last}")


def _refused(exchange: Exchange) -> bool:
    """For what it is, and not because too much is going on."""
    return exchange.status is not None and 400 <= exchange.status < 500 and exchange.status not in (408, 429)
