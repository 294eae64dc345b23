"""A run on disk: whole, as far as it came, and what is no run."""

import json
from pathlib import Path

import pytest

from tokenfleet.bench.journal import Journal, Unwritable
from tokenfleet.bench.record import BadRun, Exchange, Run, exchange_line, first_line, parse_lines, read_run

META = {"target": "http://127.0.0.1:8000", "window": {"begins": 0.0, "ends": 3.0}, "ending": "complete"}
WHOLE = Exchange(
    index=0, intended=0.5, sent=0.625, first=1.0, times=(1.0, 1.5), ended=1.75, prompt_tokens=9, output_tokens=3, status=200,
    conversation=4, turn=2,
)  # fmt: skip
BROKEN = Exchange(
    index=1, intended=0.0, sent=0.0, first=None, ended=2.0, outcome="error", error="HTTP 503: wait", status=503, counted=False
)  # fmt: skip
RUN = Run(META, (WHOLE, BROKEN))


def test_there_and_back() -> None:
    assert Run.from_json(json.loads(json.dumps(RUN.as_json()))) == RUN
    assert parse_lines(RUN.lines()) == RUN


def test_a_run_that_was_killed_amid_a_line() -> None:
    lines = [first_line({"target": "x"}), exchange_line(WHOLE), exchange_line(BROKEN)[:40]]
    assert parse_lines(lines) == Run({"target": "x"}, (WHOLE,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "it is empty: no run began", id="nothing"),
        pytest.param('{"run": {}}\n{"index"\n{"run": {}}\n', "line 2 is no JSON", id="half a line amid others"),
        pytest.param('{"run": {"a": 1}}\n{"index": 1}\n', "line 2: this is no request of a run", id="other lines"),
        pytest.param("[1]\n", "line 1 is no object", id="another file"),
    ],
)  # fmt: skip
def test_what_is_no_journal(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(BadRun) as refused:
        read_run(path)
    assert str(refused.value).startswith(f"{path}: {message}")


def test_what_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"meta": {}}')
    with pytest.raises(BadRun, match="it has no list of exchanges"):
        read_run(path)
    with pytest.raises(BadRun, match=r"absent\.json cannot be read"):
        read_run(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("out", "left"),
    [
        pytest.param("results", {"results", "results/run.jsonl", "results/summary.json"}, id="a folder"),
        pytest.param("run.json", {"run.json"}, id="one document, and no journal any more"),
        pytest.param("run.jsonl", {"run.jsonl"}, id="the journal itself"),
    ],
)
def test_a_journal_becomes_a_result(out: str, left: set[str], tmp_path: Path) -> None:
    journal = Journal(tmp_path / out).begin({"target": META["target"]})
    for exchange in RUN.exchanges:
        journal.add(exchange)
    assert parse_lines(journal.path.read_text().splitlines()).exchanges == RUN.exchanges  # before the end
    result = journal.end(RUN, {"ok": 1})
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == left
    assert read_run(result) == RUN


@pytest.mark.parametrize(
    ("out", "message"),
    [
        pytest.param("taken.json", "is there already", id="a result that is there"),
        pytest.param("absent/run.json", "there is no folder", id="no folder"),
        pytest.param("run.csv", "give a folder, or a file whose name ends with .json or .jsonl", id="another kind"),
    ],
)
def test_where_no_result_can_be(out: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "taken.json").write_text("mine")
    with pytest.raises(Unwritable, match=message):
        Journal(tmp_path / out)
    assert (tmp_path / "taken.json").read_text() == "mine"
