"""`tokenfleet bench compare` and `bench report` on runs in files: what is shown, what programs get, and the exit codes."""

import json
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner, Result

from tokenfleet.bench.record import Exchange, Run
from tokenfleet.cli.bench.compare import WORSE
from tokenfleet.cli.errors import Unusable
from tokenfleet.cli.main import app

pytest.importorskip("numpy")


def written(path: Path, seed: int, *, slower: float = 1.0, count: int = 80) -> Path:
    chance, exchanges = Random(seed), []
    for index in range(count):
        sent = 0.1 * index
        times = tuple(sent + slower * (0.05 * chance.lognormvariate(0, 0.2) + 0.01 * number) for number in range(1, 6))
        ended = max(times)
        exchanges.append(
            Exchange(index=index, intended=sent, sent=sent, first=times[0], times=times, ended=ended, output_tokens=5)
        )
    meta = {"model": "demo", "ending": "complete", "slo": {"ttft": 0.06}}
    path.write_text("".join(line + "\n" for line in Run(meta, tuple(exchanges)).lines()))
    return path


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return written(tmp_path / "before.jsonl", 1)


@pytest.fixture
def after(tmp_path: Path) -> Path:
    return written(tmp_path / "after.jsonl", 2, slower=1.3)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_each_figure_with_its_interval(before: Path, after: Path) -> None:
    shown = run("compare", before, after, "--draws", 100)
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert lines["METRIC"].split() == ["METRIC", "FIRST", "SECOND", "CHANGE", "95", "%", "INTERVAL", "SECOND", "IS"]
    assert lines["ttft.p50"].rstrip().endswith("worse")
    assert "goodput" in lines
    assert "give several of each, taken in turns" in shown.stderr


def test_for_programs(before: Path, after: Path) -> None:
    document = json.loads(run("compare", before, after, "--draws", 100, "--json").stdout)
    (found,) = (each for each in document["differences"] if each["metric"] == "ttft.p50")
    assert found["verdict"] == "worse"
    assert found["interval"][0] < found["change"] < found["interval"][1]
    assert (document["requests"], document["worse"]) == ([80, 80], [])


def test_a_pipeline_ends_where_it_is_worse(before: Path, after: Path) -> None:
    failed = run("compare", before, after, "--draws", 100, "--fail-if-worse", "5%")
    assert failed.exit_code == WORSE
    assert "Worse by more than 5%: ttft.p50 (+" in failed.stderr
    assert run("compare", before, after, "--draws", 100, "--fail-if-worse", "90%").exit_code == 0
    assert run("compare", after, before, "--draws", 100, "--fail-if-worse", "5%").exit_code == 0
    only = ("--metric", "error_share", "--fail-if-worse", "5%")
    assert run("compare", before, after, "--draws", 100, *only).exit_code == 0


def test_several_of_each_side(tmp_path: Path) -> None:
    names = [written(tmp_path / f"{number}.jsonl", number) for number in range(4)]
    document = json.loads(run("compare", *names[:2], "vs", *names[2:], "--draws", 100, "--json").stdout)
    assert document["runs"] == [2, 2]


def test_a_page(before: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shown = run("report", before, "--png")
    assert shown.exit_code == 0, shown.output
    assert shown.stderr == f"Wrote {tmp_path / 'report.html'}.\n"
    text = (tmp_path / "report.html").read_text()
    assert "Promises" in text
    assert "<svg" in text
    assert (tmp_path / "ttft.png").is_file()


def test_a_run_that_was_killed_has_a_page_where_it_is_wished_for(before: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.jsonl"
    half.write_text(before.read_text()[:-300])
    assert run("report", half, "--out", tmp_path / "pages", "--no-png").exit_code == 0
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["compare", "A"], "Name two results, A B, or several of each side", id="one side"),
        pytest.param(["compare", "A", "vs"], "Name two results", id="nothing behind vs"),
        pytest.param(["compare", "A", "B", "C"], "Name two results", id="three without vs"),
        pytest.param(["compare", "A", "/nowhere"], "/nowhere cannot be read", id="no such run"),
        pytest.param(["compare", "A", "A", "--fail-if-worse", "much"], "--fail-if-worse much: this is no number.", id="much"),
        pytest.param(
            ["compare", "A", "A", "--metric", "speed"], "--metric speed: there is none of that name; there are", id="speed"
        ),
        pytest.param(
            ["compare", "A", "A", "--confidence", "100"], "--confidence 100: it must be from 50 to below", id="certainty"
        ),
        pytest.param(["report", "/nowhere"], "/nowhere cannot be read", id="a report of nothing"),
    ],
)
def test_what_cannot_be_meant(before: Path, arguments: list[str], expected: str) -> None:
    refused = run(*(before if argument == "A" else argument for argument in arguments))
    assert isinstance(refused.exception, Unusable)
    assert expected in str(refused.exception)
