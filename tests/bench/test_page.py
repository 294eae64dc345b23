"""The page about a run: whole by itself, escaped, and with what became of the promises; its plots in the page's colours."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tokenfleet.bench.figures import Slo
from tokenfleet.bench.page import build_page
from tokenfleet.bench.plots import PLOTS, VARIABLES, draw
from tokenfleet.bench.record import Exchange, Run
from tokenfleet.bench.started import promises, summary_of

EVIL = '<script>alert("x")</script>'


def exchange(index: int, *, ttft: float = 0.1, gap: float = 0.01, error: str | None = None) -> Exchange:
    sent = 0.05 * index
    times = tuple(sent + ttft + gap * number for number in range(10)) if error is None else ()
    return Exchange(
        index=index, intended=sent, sent=sent, first=times[0] if times else None, times=times, ended=sent + ttft + gap * 10,
        prompt_tokens=20, output_tokens=len(times), outcome="ok" if error is None else "error", error=error,
    )  # fmt: skip


def run(**meta: Any) -> Run:
    """A hundred, of which 20 have late first tokens and 5 fail."""
    exchanges = [exchange(index, ttft=0.3 if index % 5 == 0 else 0.1) for index in range(95)]
    exchanges += [exchange(index, error=f"HTTP 500 {EVIL}") for index in range(95, 100)]
    return Run({"model": "demo", "load": {"kind": "open", "rate": 20}, "ending": "complete", **meta}, tuple(exchanges))


def page(result: Run, plots: dict[str, str] | None = None, slo: Slo | None = None, without: str = "") -> str:
    return build_page(result, summary_of(result, slo=slo), plots or {}, slo=slo, without_plots=without)


class Checker(HTMLParser):
    """Every tag is closed, and nothing is loaded from elsewhere."""

    VOID = ("meta", "link", "br", "img", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert name not in ("src", "onload", "onerror"), (tag, name, value)
            if name in ("href", "xlink:href"):
                assert (value or "").startswith("#"), (tag, value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def rows(text: str) -> list[list[str]]:
    lines = re.findall(r"<tr>(.*?)</tr>", text)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", line)] for line in lines]


def test_what_a_server_says_is_text_and_nothing_else() -> None:
    text = page(run(target=EVIL, model=EVIL))
    assert "script" not in checked(text).seen
    assert text.count("&lt;script&gt;") == 5  # both titles, the model, the target, and the errors, which are one
    assert ["5", "HTTP 500 &lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;"] in rows(text)


def test_what_became_of_the_promises() -> None:
    text = rows(page(run(), slo=Slo(ttft=0.2, e2e=1.0)))
    assert ["time to first token", "200 ms", "76 of 100", "76 %"] in text
    assert ["end to end", "1000 ms", "95 of 100", "95 %"] in text
    assert ["all of them", "", "76 of 100", "76 %"] in text


def test_one_promise_needs_no_sum_and_none_no_table() -> None:
    assert "all of them" not in page(run(), slo=Slo(ttft=0.2))
    assert "Promises" not in page(run())


def test_the_figures_are_those_of_the_summary() -> None:
    text = rows(page(run()))
    (first,) = (row for row in text if row[0] == "to first token")
    assert first == ["to first token", "140", "100", "300", "300", "300", "300", "95"]
    assert ["whole answers", "95", "20.0", "10.0"] in text
    assert ["load", "kind: open, rate: 20"] in text


def test_a_run_that_did_not_end_by_itself_says_so() -> None:
    assert "The run did not end by itself (server gone)." in page(run(ending="server gone"))


def test_a_run_without_any_answer_has_a_page() -> None:
    broken = Run({"ending": "server gone"}, (exchange(0, error="refused"),))
    text = page(broken)
    checked(text)
    assert ["1", "refused"] in rows(text)


def test_plots_are_part_of_the_page_and_files_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(slo={"ttft": 0.2}, warmup={"requests": 10, "seconds": 0.0})
    slo = promises(result)
    assert slo == Slo(ttft=0.2)
    plots = draw(result, summary_of(result, slo=slo), slo=slo, folder=tmp_path)
    assert list(plots) == list(PLOTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.png" for name in PLOTS)
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000 for path in tmp_path.iterdir())
    text = page(result, plots, slo)
    assert checked(text).seen >= {"svg", "figure", "table"}
    assert not any(colour in svg for svg in plots.values() for colour in VARIABLES)
    assert all(f"{variable}:" in text for variable in VARIABLES.values())


def test_there_are_no_plots_of_nothing() -> None:
    pytest.importorskip("matplotlib")
    broken = Run({}, (exchange(0, error="refused"),))
    assert list(draw(broken, summary_of(broken, slo=None))) == ["throughput"]


def test_a_page_without_plots_says_why() -> None:
    assert "There are no plots, since" in page(run(), without="There are no plots, since there is nothing that draws.")
