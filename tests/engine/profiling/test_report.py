"""The report, from a recorded run of the demo model on two CPU cores and from variations of it."""

import json
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.engine.profiling.engines import LIMITS, SteppedEngine
from tokenfleet_engine.profiling import plots
from tokenfleet_engine.profiling.devices import Memory
from tokenfleet_engine.profiling.findings import Circumstances, build_findings
from tokenfleet_engine.profiling.measure import Measurement
from tokenfleet_engine.profiling.page import build_page
from tokenfleet_engine.profiling.phases import render_text, write_report
from tokenfleet_engine.profiling.plan import DecodePoint, Plan
from tokenfleet_engine.profiling.tables import Table, difference, render, size, tables

RECORDED = Path(__file__).parent / "recorded.json"


@pytest.fixture
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(RECORDED.read_text())
    return content


def on_a_gpu(findings: dict[str, Any]) -> dict[str, Any]:
    """As a card's report would be: with a reserve, and what the device has free."""
    changed = deepcopy(findings)
    changed["device"] = {"kind": "cuda", "name": "NVIDIA H100", "synchronisation": "torch.accelerator.synchronize()"}
    changed["memory"]["weights"]["loaded_bytes"] = 15 << 30
    for row in (*changed["memory"]["by_context"], *changed["memory"]["by_batch"]):
        row["memory"] = {"used": 60 << 30, "peak": 61 << 30, "reserved": 62 << 30, "free": 8 << 30, "total": 80 << 30}
    return changed


def built() -> dict[str, Any]:
    engine = SteppedEngine(said_per_step=2)
    plan = Plan(prompts=(100, 600), decode=(DecodePoint(4, 100),), repeat=3, decode_steps=10)
    measured = Measurement(
        engine=engine, plan=plan, clock=engine.clock, say=lambda _: None, all_seconds=1e6, point_seconds=1e6
    ).run()
    around = Circumstances(
        created="2026-01-01T00:00:00+00:00", versions={"vLLM": "1"}, device={"kind": "cpu", "name": "x"},
        model={"name": "m", "weight_bytes": 7}, engine={}, settings={}, limits=LIMITS,
        loaded=Memory(used=900, peak=950), loaded_weight_bytes=None,
    )  # fmt: skip
    return build_findings(measured, around)


def keys(value: Any) -> Any:
    """The names in it, without the values; of a list those of its first entry."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else None


@pytest.mark.parametrize("part", ["prefill", "decode", "memory", "steps"])
def test_what_is_built_has_the_fields_of_the_record(recorded: dict[str, Any], part: str) -> None:
    assert keys(built()[part]) == keys(recorded[part])


def test_rates_follow_from_the_samples() -> None:
    found = built()
    assert found["prefill"][0]["tokens_per_second"] == pytest.approx(100 / 0.11)
    (decode,) = found["decode"]
    assert decode["tokens_per_second"] == pytest.approx(8 / 0.01), "four sequences, two tokens each, in ten milliseconds"
    assert decode["inter_token_seconds"] == pytest.approx(0.005)


def test_memory_follows_from_blocks() -> None:
    memory = built()["memory"]
    assert memory["kv_cache"] == {
        "bytes_per_token": 100, "block_bytes": 1600, "block_tokens": [16], "blocks": 101, "bytes": 161_600, "tokens": 1616,
    }  # fmt: skip
    first = memory["by_context"][0]
    assert (first["blocks"], first["kv_bytes"], first["sequences_that_fit"]) == (7, 11_200, 14)


def test_the_text_names_device_software_and_clock(recorded: dict[str, Any]) -> None:
    text = render_text(recorded)
    for words in ("AMD EPYC, 2 cores (cpu)", "vLLM 0.32.0, torch 2.13.0+cu130", "768 bytes a token", "none needed: on a CPU"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 128


def test_a_gpus_table_has_what_torch_reserves_and_the_device_has_free(recorded: dict[str, Any]) -> None:
    memory = next(table for table in tables(on_a_gpu(recorded)) if table.title == "Memory of one sequence")
    assert memory.headings[-5:] == ("allocated", "peak", "peak beyond loading", "reserved", "device free")
    assert memory.rows[0][-5:-3] + memory.rows[0][-2:] == ("60.0 GiB", "61.0 GiB", "62.0 GiB", "8.0 GiB")
    assert "15.0 GiB loaded" in render_text(on_a_gpu(recorded))


def test_left_out_points_stand_in_the_report(recorded: dict[str, Any]) -> None:
    recorded["skipped"] = [{"point": "decode of 8 × 512 tokens", "reason": "needs <more>"}]
    assert "needs <more>" in render_text(recorded)
    assert "needs &lt;more&gt;" in build_page(recorded, plots={})


class Links(HTMLParser):
    """What a page would fetch or run, and whether each tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href"}]
        if tag in {"script", "link", "iframe"}:
            self.fetched.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_is_well_formed(recorded: dict[str, Any]) -> None:
    recorded["model"]["name"] = "<script>alert(1)</script>"
    links = Links()
    links.feed(build_page(recorded, plots={"prefill": "<svg><path></path></svg>"}))
    assert links.fetched == []
    assert links.open == []


def test_plots_stand_with_their_tables(recorded: dict[str, Any]) -> None:
    page = build_page(recorded, plots={name: f"<svg>{name}</svg>" for name in plots.PLOTS})
    for name in plots.PLOTS:
        assert page.count(f"<svg>{name}</svg>") == 1


def test_without_matplotlib_the_report_says_so_and_has_all_else(recorded: dict[str, Any], tmp_path: Path) -> None:
    said: list[str] = []
    write_report(recorded, tmp_path, say=said.append)
    assert json.loads((tmp_path / "profile.json").read_text()) == recorded
    page = (tmp_path / "report.html").read_text()
    assert ("<svg" in page) is plots.available()
    assert ("has no matplotlib" in page) is not plots.available()
    assert bool(said) is not plots.available()


def test_a_table_is_aligned_for_a_terminal() -> None:
    table = Table("Title", ("name", "value"), (("a", "1"), ("long name", "1,234")), "A note.")
    assert render(table).splitlines() == [
        "Title",
        "  A note.",
        "  name       value",
        "  ─────────  ─────",
        "  a              1",
        "  long name  1,234",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "not known"), (0, "0 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_written_in_binary_units(count: int | None, text: str) -> None:
    assert size(count) == text


def test_differences_have_a_sign() -> None:
    assert (difference(2048), difference(-2048)) == ("+2.0 KiB", "−2.0 KiB")
