"""One disruption after the other under load, and what became of every stream: rows for a table, and for JSON."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from e2e import access, streams
from e2e.deployed import Deployed
from e2e.disruptions.disruptions import Disruption
from e2e.disruptions.fleet import REPLICAS, Fleet
from e2e.disruptions.load import ENDED, Loads
from e2e.kubectl import Kubectl
from e2e.streams import Tally

MANIFEST = Path(__file__).with_name("manifest.yaml")
NAME = "fleet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one disruption did to one mode."""

    disruption: str
    mode: str
    streams: int
    """Requests that were asked, from before the disruption until the fleet was whole again."""
    lost: int
    truncated: int
    announced: int
    recovery_s: float
    """The longest that a probe waited for its one token meanwhile."""
    undisturbed_s: float
    """The same in the seconds before: what the load alone makes it wait."""
    problems: tuple[str, ...]
    """The first few, in words."""
    allowed: bool
    """Errors may be announced here."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.truncated or (self.announced and not self.allowed))

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name not in ("problems", "allowed")}


@contextmanager
def deployed(kubectl: Kubectl) -> Iterator[Fleet]:
    """The fleet, whole; it is deleted at the end."""
    kubectl.apply_file(MANIFEST)
    fleet = Fleet(Deployed(kubectl, NAME))
    try:
        fleet.whole()
        yield fleet
    finally:
        fleet.deployed.delete()


@contextmanager
def reached(fleet: Fleet) -> Iterator[str]:
    with access.base_url(fleet.kubectl, NAME) as url:
        yield url


async def learn(url: str, *, streams_each: int) -> Loads:
    return await Loads.learn(url=url, model=NAME, streams_each=streams_each)


async def under(disruption: Disruption, fleet: Fleet, loads: Loads) -> list[Row]:
    """Run it: all modes at once, from well before to well after."""
    await streams.in_thread(fleet.scale, REPLICAS)  # where the one before it failed
    await streams.in_thread(fleet.whole, REPLICAS)
    async with loads.running() as (tallies, probes):
        await asyncio.sleep(2)
        probes.slowest = 0.0
        await asyncio.sleep(3)
        undisturbed, probes.slowest = probes.slowest, 0.0
        await streams.in_thread(disruption.act, fleet)
        await streams.in_thread(fleet.whole, REPLICAS)
        await asyncio.sleep(1)
        recovery = probes.slowest
    return _rows(disruption, {**tallies, "probes": probes}, recovery=recovery, undisturbed=undisturbed)


def _rows(disruption: Disruption, tallies: Mapping[str, Tally], *, recovery: float, undisturbed: float) -> list[Row]:
    return [
        Row(
            disruption=disruption.name,
            mode=mode,
            streams=tally.outcomes.total(),
            lost=tally.outcomes["lost"],
            truncated=tally.outcomes["truncated"],
            announced=tally.outcomes["announced"],
            recovery_s=round(recovery, 2),
            undisturbed_s=round(undisturbed, 2),
            problems=tuple(tally.problems[:3]),
            allowed=disruption.deadly and ENDED in mode,
        )
        for mode, tally in tallies.items()
    ]


def table(rows: list[Row], *, title: str) -> Table:
    drawn = Table(title=title, title_justify="left")
    for heading in ("disruption", "mode"):
        drawn.add_column(heading)
    for heading in ("streams", "lost", "truncated", "announced", "recovery", "before"):
        drawn.add_column(heading, justify="right")
    before = ""
    for row in rows:
        if before and before != row.disruption:
            drawn.add_section()
        name, before = ("" if row.disruption == before else row.disruption), row.disruption
        counts = [str(row.streams), *(str(count) for count in (row.lost, row.truncated, row.announced))]
        waits = [f"{seconds:.2f} s" if name else "" for seconds in (row.recovery_s, row.undisturbed_s)]
        drawn.add_row(name, row.mode, *counts, *waits, style="" if row.good else "red")
    return drawn
