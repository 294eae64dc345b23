"""`tokenfleet scaling replay` on traces in files: what is shown, what programs get, and what is said when it cannot be done."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app
from tokenfleet.planning.scaling import Signal
from tokenfleet.planning.scaling.trace import Line, write_line

NINE = 1_794_906_000.0
SPEC = """
apiVersion: v1
kind: ConfigMap
---
apiVersion: tokenfleet.dev/v1alpha1
kind: LLMDeployment
metadata: {name: chat}
spec:
  model: {source: "pvc://m"}
  accelerator: nvidia
  router: {maxInFlight: 20}
  autoscaling: {maxReplicas: 8%s}
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A queue that comes and goes, at nine o'clock."""
    told = [(0, 0, 20, 2), (10, 60, 40, 2), (90, 0, 20, 5), (600, 0, 10, 5)]
    lines = [Line(NINE + at, Signal(waiting=waiting, in_flight=running, ready=ready)) for at, waiting, running, ready in told]
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(write_line(line) + "\n" for line in lines))
    return path


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["scaling", "replay", *map(str, arguments)], input=stdin)


def spec(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(SPEC % more)
    return path


def test_each_change_with_its_reason(trace: Path) -> None:
    shown = run(trace, "--max-replicas", 8, "--max-in-flight", 20)
    assert shown.exit_code == 0, shown.output
    rows = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert rows == [
        "TIME FROM TO REASON MESSAGE",
        "2026-11-17 09:00:10 2 5 QueueDepth 60 requests wait for 2 replicas, more than 5 each: 5 wanted.",
        "2026-11-17 09:06:30 5 2 LoadFell At most 20 requests at a time in the last 300 s: 2 wanted instead of 5.",
    ]
    assert shown.stderr == "2 changes in 0.17 h. Replica-hours: 0.65 wanted, 0.76 there.\n"


def test_for_programs(trace: Path) -> None:
    shown = run(trace, "--max-replicas", 8, "--max-in-flight", 20, "--json")
    document = json.loads(shown.stdout)
    assert (document["began"], document["ended"]) == (NINE, NINE + 600)
    assert document["replicaHours"] == 0.65
    assert [(change["time"], change["before"], change["after"], change["reason"]) for change in document["changes"]] == [
        (NINE + 10, 2, 5, "QueueDepth"),
        (NINE + 390, 5, 2, "LoadFell"),
    ]


def test_the_policy_of_an_llmdeployment_and_what_is_changed_of_it(trace: Path, tmp_path: Path) -> None:
    file = spec(tmp_path, ", scaleDown: {stabilizationSeconds: 60}")
    changes = json.loads(run(trace, "--policy", file, "--json").stdout)["changes"]
    assert [change["time"] - NINE for change in changes] == [10, 150]
    changes = json.loads(run(trace, "--policy", file, "--max-replicas", 3, "--json").stdout)["changes"]
    assert [(change["after"], change["reason"]) for change in changes] == [(3, "MaxReplicas"), (2, "LoadFell")]


def test_from_a_pipe_and_in_seconds_of_an_experiment() -> None:
    told = '{"time": 0, "waiting": 0, "inFlight": 0, "ready": 3}\n{"time": 900, "waiting": 0, "inFlight": 0, "ready": 3}\n'
    shown = run("-", "--max-replicas", 3, stdin=told)
    assert "+300 s  3     1   LoadFell" in shown.stdout


def test_nothing_would_have_changed(trace: Path) -> None:
    shown = run(trace, "--max-replicas", 2, "--min-replicas", 2)
    assert shown.stdout == "Nothing would have changed: 2 wanted all the time.\n"


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_a_plot(trace: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    shown = run(trace, "--max-replicas", 8, "--plot", path)
    assert shown.exit_code == 0, shown.output
    assert path.stat().st_size > 5_000
    assert shown.stderr.endswith(f"Wrote {path}.\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], "There is no policy: name an LLMDeployment's YAML with --policy, or give", id="no policy"),
        pytest.param(["--max-replicas", "2", "--min-replicas", "3"], "--min-replicas 3 is above --max-replicas", id="bounds"),
        pytest.param(
            ["--max-replicas", "2", "--min-replicas", "0"],
            "--min-replicas 0 needs --scale-to-zero-after: after how many seconds without a request?",
            id="zero without an idle time",
        ),
        pytest.param(["--max-replicas", "2", "--plot", "x.gif"], "must end with .png, .svg, .pdf", id="no such picture"),
        pytest.param(["--max-replicas", "2", "--plot", "/nowhere/x.png"], "there is no folder /nowhere.", id="no such folder"),
        pytest.param(["--policy", "/nowhere.yaml"], "--policy /nowhere.yaml cannot be read: ", id="no such file"),
    ],
)
def test_what_cannot_be_meant(trace: Path, arguments: list[str], expected: str) -> None:
    refused = run(trace, *arguments)
    assert isinstance(refused.exception, Unusable)
    assert expected in str(refused.exception)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: [", "is no YAML: ", id="no YAML"),
        pytest.param("kind: LLMDeployment", "has 0 LLMDeployments with spec.autoscaling: name a file with", id="none"),
        pytest.param(SPEC % ", minReplicas: 9", "minReplicas must not be above maxReplicas", id="an invalid spec"),
        pytest.param(
            SPEC % ", schedules: [{cron: '0 25 * * *', minReplicas: 1}]",
            "spec.autoscaling.schedules[0].cron: ",
            id="a bad cron",
        ),
    ],
)
def test_a_file_that_holds_no_policy(trace: Path, tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(text)
    refused = run(trace, "--policy", file)
    assert isinstance(refused.exception, Unusable)
    assert expected in str(refused.exception)


def test_a_trace_that_cannot_be_meant_is_told_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"time": 0, "missing": true}\n{"time": 1}\n')
    refused = run(path, "--max-replicas", 2)
    assert isinstance(refused.exception, CliError)
    assert str(refused.exception) == (
        f'{path}, line 2: waiting is missing: add it, or "missing": true where nothing was known.'
    )
    gone = run(tmp_path / "gone.jsonl", "--max-replicas", 2)
    assert "gone.jsonl cannot be read: " in str(gone.exception)
