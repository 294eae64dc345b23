"""The worked example of docs/load-tests.md, computed again: a server that stops for five seconds, seen by three clients."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

from tokenfleet.bench.arrivals import Open, arrivals
from tokenfleet.bench.figures import Slo, Spread, e2e, summarize
from tokenfleet.bench.record import Exchange, Run

PAGE = Path(__file__).parents[2] / "docs" / "load-tests.md"
LASTS, TAKES, STOPS_AT, STOPS_FOR, RATE = 60.0, 0.1, 20.0, 5.0, 5.0


def served() -> Callable[[float], float]:
    """A server of one place: when an answer that is asked for at a time ends."""
    free = 0.0

    def end(asked: float) -> float:
        nonlocal free
        begins = max(asked, free)
        if begins < STOPS_AT + STOPS_FOR and begins + TAKES > STOPS_AT + 1e-9:
            begins = STOPS_AT + STOPS_FOR
        free = begins + TAKES
        return free

    return end


def exchange(index: int, intended: float, sent: float, ended: float) -> Exchange:
    return Exchange(index=index, intended=intended, sent=sent, first=ended, times=(ended,), ended=ended, output_tokens=1)


def closed() -> Iterator[Exchange]:
    """One user, who asks again as soon as there is an answer."""
    end, now, index = served(), 0.0, 0
    while now < LASTS - 1e-9:
        ended = end(now)
        yield exchange(index, now, now, ended)
        now, index = ended, index + 1


def opened() -> list[Exchange]:
    """Five requests a second, whatever the server does."""
    end = served()
    times = islice(arrivals(Open(RATE, "constant"), Random(0)), round(LASTS * RATE))
    return [exchange(index, moment, moment, end(moment)) for index, moment in enumerate(times)]


def from_sending(exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """The same load by a client with one connection, which counts from when it came to a request."""
    before = 0.0
    for each in exchanges:
        sent = max(each.intended, before)
        yield exchange(each.index, sent, sent, each.ended)
        before = each.ended


def test_the_table_of_the_page() -> None:
    columns = [Run({}, tuple(each)) for each in (closed(), from_sending(opened()), opened())]
    rows = {}
    for name in ("mean", "p50", "p95", "p99", "max"):
        spreads = [Spread.of(map(e2e, run.exchanges)) for run in columns]
        rows[name] = [f"{getattr(spread, name):.2f} s" for spread in spreads]
    rows["requests"] = [str(len(run.exchanges)) for run in columns]
    rows["goodput at `e2e=1s`"] = [f"{summarize(run, slo=Slo(e2e=1.0)).goodput:.2f} requests/s" for run in columns]
    told = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    page = {name: list(cells) for name, *cells in told}
    assert {name: page.get(name) for name in rows} == rows


def test_the_options_of_the_page_are_those_of_the_command() -> None:
    from typer.main import get_command

    from tokenfleet.cli.bench.commands import app

    command = get_command(app).commands["run"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    section = PAGE.read_text(encoding="utf-8").partition("## Datasets")[0]
    assert set(re.findall(r"`(--[a-z-]+)", section)) <= known
