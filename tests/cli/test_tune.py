"""`tokenfleet tune batch` without a server: the file of tries, what an LLMDeployment's settings mean, and what is shown."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tokenfleet.bench.prompts import Prompt
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app
from tokenfleet.cli.tune import shown
from tokenfleet.cli.tune.queues import Queues
from tokenfleet.cli.tune.state import default_path, open_state
from tokenfleet.cli.tune.target import bound_of, check_single
from tokenfleet.cli.tune.trying import Rules, staggered
from tokenfleet.planning.tuning import Found, Measured, Objective, Probe, Search

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
ASKED = {"target": "http://127.0.0.1:8000", "promises": [{"metric": "itl", "limitSeconds": 0.05}], "seed": 0}
ITL = Objective(metric="itl", limit=0.05)


def probe(concurrency: int = 8, verdict: Any = "met", value: float | None = 0.04, **more: Any) -> Probe:
    measured = Measured(metric="itl", verdict=verdict, value=value, lower=0.03, upper=0.05)
    given: dict[str, Any] = {"tokens_per_second": 1234.0, "requests": 64, "seconds": 12.0, "measured": (measured,), **more}
    return Probe(concurrency=concurrency, verdict=verdict, **given)


def deployment(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": "chat", "namespace": "team"}, "spec": spec or {}, "status": status or {"replicas": 1}}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tune", "batch", *map(str, arguments)])


def test_every_try_is_kept_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tries.json"
    state = open_state(path, ASKED, fresh=False, now=NOW)
    for concurrency in (8, 16):
        state.add(probe(concurrency))
        again = open_state(path, ASKED, fresh=False, now=NOW)
        assert again.probes == state.probes
    assert again.began == "2026-11-21T09:00:00+00:00"
    assert [file.name for file in path.parent.iterdir()] == ["tries.json"]
    assert open_state(path, ASKED, fresh=True, now=NOW).probes == []


def test_tries_of_another_question_are_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "tries.json"
    open_state(path, ASKED, fresh=False, now=NOW).add(probe())
    with pytest.raises(Unusable) as refused:
        open_state(path, {**ASKED, "seed": 1}, fresh=False, now=NOW)
    assert str(refused.value) == (
        f"--state {path} is of another search (seed was 0, and is 1): name another file with --state, or begin anew with "
        "--fresh."
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param('{"version": 1, "asked": {}', id="half"),
        pytest.param("[]", id="something else"),
        pytest.param('{"version": 1, "asked": {}, "began": "", "probes": [{}]}', id="no tries"),
        pytest.param('{"version": 9, "asked": {}, "began": "", "probes": []}', id="a later version"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tries.json"
    path.write_text(text)
    with pytest.raises(
        Unusable, match=r"has no tries of ours .*: name another file with --state, or begin anew with --fresh\."
    ):
        open_state(path, ASKED, fresh=False, now=NOW)


def test_each_question_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = default_path(ASKED), default_path({**ASKED, "seed": 1})
    assert one != other
    assert one.parent == other.parent == tmp_path / "tokenfleet" / "tune"
    assert one.name.startswith("http-127.0.0.1-8000-")


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        pytest.param({}, {"replicas": 3}, "chat has 3 replicas, which share what they get: tune one engine.", id="several"),
        pytest.param({"replicas": 2}, {"replicas": None}, "chat has 2 replicas", id="several are wanted"),
        pytest.param({}, {"replicas": 0}, "chat has no replica that runs: start one first.", id="none"),
    ],
)
def test_it_takes_one_engine(spec: dict[str, Any], status: dict[str, Any], expected: str) -> None:
    with pytest.raises(CliError) as refused:
        check_single(deployment(spec, status))
    assert expected in str(refused.value)


def test_no_more_are_tried_than_the_router_gives() -> None:
    told: list[str] = []
    spec = {"engine": {"batching": {"maxNumSeqs": 64}}, "router": {"maxInFlight": 48}}
    assert bound_of(Search(), deployment(spec), told.append).most == 48
    assert told == [
        "chat runs 48 at once at most (spec.router.maxInFlight), so more are not tried: raise it to 256 before you tune, "
        "to see whether more would do."
    ]
    assert bound_of(Search(), deployment(), told.append) == bound_of(Search(), None, told.append) == Search()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, {"engine": {"batching": {"maxNumSeqs": 40}}}, id="nothing else is to be said"),
        pytest.param(
            {"engine": {"batching": {"maxNumBatchedTokens": 32}}},
            {"engine": {"batching": {"maxNumSeqs": 40, "maxNumBatchedTokens": 40}}},
            id="a step has room for every sequence",
        ),
        pytest.param(
            {"router": {"maxInFlight": 64}},
            {"engine": {"batching": {"maxNumSeqs": 40}}, "router": {"maxInFlight": 40}},
            id="the router gives no more than a batch",
        ),
        pytest.param({"router": {"maxInFlight": 32}}, {"engine": {"batching": {"maxNumSeqs": 40}}}, id="it gives less"),
    ],
)
def test_what_is_to_be_applied(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    assert shown.patch(40, deployment(spec)) == {"spec": expected}


@pytest.mark.parametrize(
    ("found", "probes", "expected"),
    [
        pytest.param(
            Found(40, "limit"),
            [probe(40), probe(41, "missed")],
            "40 at once keep itl ≤ 50 ms in 95 % of cases, with 1,234 tokens/s; 41 at once do not.",
            id="the next one is too many",
        ),
        pytest.param(
            Found(40, "limit"),
            [probe(40), probe(41, "unclear")],
            "; whether 41 do is too close to call.",
            id="the next one may do",
        ),
        pytest.param(Found(40, "throughput"), [probe(40)], "; 80 bring no more tokens.", id="more are of no use"),
        pytest.param(
            Found(256, "most"), [probe(256)], "; more than 256 were not to be tried (--max).", id="no more were allowed"
        ),
        pytest.param(
            Found(32, "engine"), [probe(32)], "; the engine runs no more than 32: its maxNumSeqs, or", id="the engine's end"
        ),
        pytest.param(
            Found(None, "none"),
            [probe(1, "missed", 0.08)],
            "Nobody can promise itl ≤ 50 ms in 95 % of cases here: even one request at a time took 80 ms (itl).",
            id="not even one",
        ),
        pytest.param(
            Found(None, "none"),
            [probe(1, "missed", None, failed=64)],
            "even one request at a time took no whole answer.",
            id="nothing",
        ),
    ],
)
def test_what_came_of_it(found: Found, probes: list[Probe], expected: str) -> None:
    assert expected in shown.sentence(found, [ITL], probes)


def test_a_try_is_a_row() -> None:
    columns = shown.heading([ITL]).split()
    assert columns == ["AT", "ONCE", "ITL", "P95", "BETWEEN", "TOKENS/S", "REQUESTS", "FAILED", "ELAPSED", "PROMISE"]
    row = " ".join(shown.row(probe(), 83.0).split())
    assert row == "8 40 ms 30 ms … 50 ms 1,234 64 0 1:23 [green]kept[/]"


def test_a_finished_search_is_told_again_from_its_file(tmp_path: Path) -> None:
    """No server is asked: there is none."""
    url, path = "http://127.0.0.1:9", tmp_path / "tries.json"
    options = (url, "--slo", "itl=50ms", "--max", 8, "--state", path)
    assert isinstance(run(*options).exception, CliError)  # nothing listens there
    asked = {
        "target": url, "place": None, "promises": [ITL.as_json()],
        "content": {"input": "512", "output": "128", "endpoint": None}, "start": 8, "confidence": 95.0, "seed": 0,
    }  # fmt: skip
    state = open_state(path, asked, fresh=False, now=NOW)
    for _ in range(2):
        state.add(probe())
    told = run(*options)
    assert told.exit_code == 0, told.output
    assert told.stdout == "spec:\n  engine:\n    batching:\n      maxNumSeqs: 8\n"
    assert "Goes on after 2 tries of a search that began at 2026-11-21T09:00:00+00:00" in told.stderr
    assert "kubectl patch llmd NAME --type=merge --patch-file batching.yaml" in told.stderr
    document = json.loads(run(*options, "--json").stdout)
    assert (document["maxNumSeqs"], document["why"]) == (8, "most")
    assert run(*options, "--out", tmp_path / "b.yaml").stdout == ""
    assert (tmp_path / "b.yaml").read_text() == told.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ["--slo", "speed=5ms"], "write it as ttft=500ms,itl=50ms; there are ttft, itl, tpot and e2e", id="no metric"
        ),
        pytest.param(["--slo", "itl=50"], "--slo itl 50: write a time with its unit", id="no unit"),
        pytest.param(["--slo", "itl=-5ms"], "--slo itl -5ms: write a time with its unit", id="negative"),
        pytest.param(
            ["--slo", "itl=5ms", "--percentile", "100"], "--percentile 100: it must be from 50 to below 100.", id="p100"
        ),
        pytest.param(["--slo", "itl=5ms", "--confidence", "10"], "--confidence 10: it must be from 50", id="no confidence"),
        pytest.param(["--slo", "itl=5ms", "--output", "1"], "--output 1: an answer of one token has no itl", id="one token"),
        pytest.param(["--slo", "itl=5ms", "--dataset", "/nowhere"], "--dataset /nowhere: there is no such file.", id="no file"),
        pytest.param(["--slo", "itl=5ms", "--gain", "much"], "--gain much: this is no number.", id="much"),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], expected: str) -> None:
    refused = run("http://127.0.0.1:9", *arguments)
    assert isinstance(refused.exception, Unusable), refused.output
    assert expected in str(refused.exception)


def test_places_do_not_stay_in_step() -> None:
    prompts = [Prompt(text="a", output_tokens=100)] * 6
    assert [prompt.output_tokens for prompt in staggered(iter(prompts), 4)] == [25, 50, 75, 100, 100, 100]


def test_how_many_requests_a_try_has_at_most() -> None:
    rules = Rules(objectives=(ITL, Objective(metric="ttft", limit=1.0, percentile=99)), alpha=0.05, seconds=60)
    assert rules.most(8) == 2000
    assert rules.most(500) == 4000


@pytest.mark.parametrize(
    ("looks", "bound"),
    [
        pytest.param([(0, 0), (32, 32), (32, 30), (32, 32)], 32, id="some wait all the time"),
        pytest.param([(0, 0), (32, 32), (40, 24), (31, 33)], None, id="how many run changes"),
        pytest.param([(0, 0), (62, 2), (62, 2), (62, 2)], None, id="some that have just come"),
        pytest.param([(0, 0), (64, 2), (64, 2), (64, 2)], None, id="all have run at once"),
        pytest.param([(0, 0), (32, 32), (32, 0), (32, 32)], None, id="once none waited"),
        pytest.param([(32, 32), (32, 32), (32, 32)], None, id="too few looks"),
        pytest.param([], None, id="an engine that says nothing"),
    ],
)
def test_whether_the_engine_queues(looks: list[tuple[int, int]], bound: int | None) -> None:
    queues = Queues("http://127.0.0.1:9/v1", tls=True)
    queues.looks.extend(looks)
    assert queues.bound(64) == bound
