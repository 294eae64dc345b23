"""`tokenfleet plan optimize`: what it shows, what programs get, what can be applied, and how it ends where nothing will do."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from e2e.bench.planning_models import LLAMA_8B
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app

ASKED = ("--rate", "5", "--input", "1024", "--output", "256")
PROMISED = ("--ttft", "500ms", "--itl", "50ms")
TWO = ("--only", "nvidia-l40s-48gb", "--only", "nvidia-h100-80gb")


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "llama-3.1-8b.json"
    path.write_text(json.dumps(LLAMA_8B.as_json()))
    return str(path)


def run(model: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["plan", "optimize", "--model", model, *ASKED, *words])


def test_the_cheapest_comes_first_and_can_be_applied(model: str) -> None:
    shown = run(model, *PROMISED, *TWO)
    assert shown.exit_code == 0, shown.exception
    lines = shown.stdout.splitlines()
    assert " ".join(lines[0].split()) == "$/H 1M TOKENS REPLICAS EACH ON WEIGHTS KV BATCH TTFT P95 ITL P95 USED"
    assert "1 nvidia-l40s-48gb" in lines[1]
    assert "Latencies are predicted to ±" in shown.stdout
    body = yaml.safe_load(shown.stdout[shown.stdout.index("# Put the model's files") :])
    assert parse_spec(body["metadata"]["name"], body["spec"]).accelerator == "nvidia-l40s-48gb"


def test_classes_that_are_not_shown_say_why(model: str) -> None:
    shown = run(model, *PROMISED, *TWO, "--top", "1")
    assert "more would do: --top" in shown.stdout
    assert "nvidia-h100-80gb: fits and keeps it, but costs $6.88/h" in shown.stdout


def test_what_is_to_be_applied_goes_into_a_file(model: str, tmp_path: Path) -> None:
    out = tmp_path / "llm.yaml"
    shown = run(model, *PROMISED, *TWO, "--out", str(out))
    assert shown.stdout.splitlines()[-1] == f"{out} holds it: kubectl apply -f {out}"
    body = yaml.safe_load(out.read_text())
    assert body["kind"] == "LLMDeployment"
    assert f"maxNumSeqs: {body['spec']['engine']['batching']['maxNumSeqs']}" not in shown.stdout


def test_programs_get_all_of_it(model: str) -> None:
    told = json.loads(run(model, *PROMISED, *TWO, "--json").stdout)
    best = told["best"]
    assert best["accelerator"] == "nvidia-l40s-48gb"
    assert best["gpus"] == best["replicas"] * best["tensor"]
    assert told["manifest"]["spec"]["replicas"] == best["replicas"]
    assert [each["accelerator"] for each in told["failures"]] == ["nvidia-h100-80gb"]
    assert all(each["hourly"] >= best["hourly"] for each in told["runnersUp"])


def test_nothing_will_do(model: str) -> None:
    shown = run(model, "--ttft", "1ms", *TWO)
    assert isinstance(shown.exception, CliError)
    assert not isinstance(shown.exception, Unusable)
    assert shown.exception.code == 1
    assert "Nobody can keep this promise at P95. nvidia-h100-80gb comes nearest and misses it by" in str(shown.exception)
    assert "nvidia-l40s-48gb: TTFT" in shown.stdout


def test_programs_get_why_nothing_will_do(model: str) -> None:
    shown = run(model, "--ttft", "1ms", *TWO, "--json")
    told = json.loads(shown.stdout)
    assert (told["best"], told["manifest"]) == (None, None)
    assert all(each["missesBy"] > 0 for each in told["failures"])
    assert isinstance(shown.exception, CliError)


def test_files_may_be_kept_as_they_are(model: str) -> None:
    told = json.loads(run(model, *PROMISED, *TWO, "--as-files", "--json").stdout)
    ways = [told["best"], *told["runnersUp"]]
    assert {(each["quantization"], each["kvCacheDtype"]) for each in ways} == {(None, "auto")}


def test_spot_is_cheaper(model: str) -> None:
    paid = [json.loads(run(model, *PROMISED, *TWO, *more, "--json").stdout)["best"]["hourly"] for more in ((), ("--spot",))]
    assert paid[1] < paid[0]


def test_classes_of_one_s_own_are_looked_at(model: str, tmp_path: Path) -> None:
    more = tmp_path / "classes.toml"
    more.write_text("[nvidia-l40s-48gb]\nprice = { on_demand = 0.01 }\n")
    try:
        told = json.loads(run(model, *PROMISED, *TWO, "--accelerators", str(more), "--json").stdout)
    finally:
        more.write_text("")
        run(model, *PROMISED, *TWO, "--accelerators", str(more))
    assert told["best"]["hourly"] == pytest.approx(0.01 * told["best"]["gpus"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--ttft", "500"), "--ttft 500: write a span above 0 with its unit, such as 500ms", id="no unit"),
        pytest.param(("--itl", "soon"), "--itl soon: write a span", id="no span"),
        pytest.param(("--rate", "-1"), "The rate is -1.0 requests a second: it has to be above 0.", id="a negative rate"),
        pytest.param(("--percentile", "100"), "The percentile 1 is not between 0 and 1", id="a percentile of all"),
        pytest.param(("--only", "tpu"), "no class is called 'tpu'", id="an unknown class"),
        pytest.param(("--max-model-len", "200000"), "was made for 131072 at most", id="too long for the model"),
        pytest.param(("--calibration", "/nowhere.json"), "/nowhere.json", id="no calibration"),
        pytest.param(("--out", "/nowhere/llm.yaml"), "/nowhere/llm.yaml cannot be written", id="no place to write to"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(model: str, words: tuple[str, ...], said: str) -> None:
    shown = run(model, *TWO, *words)
    assert isinstance(shown.exception, Unusable)
    assert said in str(shown.exception)


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    shown = run(str(tmp_path / "nothing"))
    assert isinstance(shown.exception, CliError)
