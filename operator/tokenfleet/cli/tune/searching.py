"""Carries a search out: what to try next is asked, tried, kept and told, until nothing is left to try."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from rich.console import Console
from rich.status import Status

from tokenfleet.bench.client import Client, Endpoint
from tokenfleet.bench.datasets import Dataset
from tokenfleet.bench.load import Progress
from tokenfleet.bench.prompts import Lengths, Prompt, Synthetic, Wording
from tokenfleet.bench.wording import choose_wording
from tokenfleet.cli.bench.asked import pick_endpoint
from tokenfleet.cli.bench.carrying_out import Access as BenchAccess
from tokenfleet.cli.bench.carrying_out import find_model
from tokenfleet.cli.tune import shown
from tokenfleet.cli.tune.queues import Queues
from tokenfleet.cli.tune.state import State
from tokenfleet.cli.tune.trying import Ended, Rules, attempt
from tokenfleet.planning.tuning import Found, Search, Try, next_step

Access = BenchAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is asked."""

    data: Dataset | None
    input: Lengths
    output: Lengths
    endpoint: Endpoint | None
    output_given: bool
    """Then it holds for a file's prompts too."""

    def as_json(self) -> dict[str, Any]:
        asked = self.data.as_json() if self.data is not None else {"input": str(self.input)}
        output = str(self.output) if self.data is None or self.output_given else None
        return {**asked, "output": output, "endpoint": self.endpoint}

    def prompts(self, wording: Wording | None, chance: Random) -> Iterator[Prompt]:
        """Without end. Made-up ones are new in each try, so that no prefix cache knows them; a file's begin elsewhere."""
        if self.data is None:
            assert wording is not None
            return Synthetic(input=self.input, output=self.output, wording=wording).prompts(chance)
        data = replace(self.data, wording=wording)
        prompts = itertools.islice(itertools.cycle(data), chance.randrange(len(data)), None)
        if not self.output_given:
            return prompts
        return (replace(prompt, output_tokens=self.output.draw(chance)) for prompt in prompts)


async def search(
    plan: Search,
    rules: Rules,
    content: Content,
    access: Access,
    kept: State,
    *,
    console: Console,
    seed: int,
    clock: Callable[[], float],
) -> Found:
    """Raises CliError; what was tried until then is kept."""
    began = clock()
    if isinstance(step := next_step(plan, kept.probes), Found):
        return step
    first = next(iter(content.data)) if content.data is not None else None
    endpoint = pick_endpoint(content.endpoint, first, turns=1)
    model = await find_model(access)
    async with Client(
        access.url, model=model, key=access.key, endpoint=endpoint, timeout=access.timeout, tls=access.tls,
        extra={"ignore_eos": True},
    ) as client:  # fmt: skip
        wording = await choose_wording(client) if content.data is None or content.data.kind == "trace" else None
        queues = Queues(client.base, tls=access.tls)
        console.print(shown.heading(rules.objectives), soft_wrap=True, markup=False)
        for probe in kept.probes:
            console.print(shown.row(probe, probe.seconds), soft_wrap=True)
        while isinstance(step, Try):
            prompts = content.prompts(wording, Random(f"{seed} {len(kept.probes)}"))
            with console.status("") as status:
                tell = _teller(status, step, clock, began)
                try:
                    probe = await attempt(client, prompts, step.concurrency, rules, queues=queues, tell=tell)
                except Ended as error:
                    tries = f"{len(kept.probes)} {'try is' if len(kept.probes) == 1 else 'tries are'} kept in {kept.path}"
                    raise type(error)(f"{error}. {tries}: the same command goes on from there.") from error
            kept.add(probe)
            console.print(shown.row(probe, clock() - began), soft_wrap=True)
            step = next_step(plan, kept.probes)
    return step


def _teller(status: Status, step: Try, clock: Callable[[], float], began: float) -> Callable[[Progress], None]:
    """For a terminal; elsewhere rich shows no status."""

    def tell(progress: Progress) -> None:
        again = " again" if step.confirms else ""
        since = f"{progress.elapsed:.0f} s, {clock() - began:.0f} s in all"
        status.update(f"{step.concurrency} at once{again}: {progress.done} answers, {progress.failed} failed, {since}")

    return tell
