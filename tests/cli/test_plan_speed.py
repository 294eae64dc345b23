"""`tokenfleet plan speed`: what it shows, what it says to programs, and what it refuses."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from tokenfleet.cli.errors import CliError
from tokenfleet.cli.main import app
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed import default_calibration
from tokenfleet.planning.speed.pace import pace_of
from tokenfleet.planning.speed.published import published

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
H100 = find_accelerator("nvidia-h100-80gb")

MISTAKEN = "{metadata: {name: a}, spec: {model: {source: 'hf://a/b'}, accelerator: cpu, engine: {maxModelLen: -1}}}"


def qwen() -> ModelFacts:
    """Of the page's example."""
    return next(each for each in published() if each.model_name == "Qwen3-8B").measured.model


@pytest.fixture
def facts(tmp_path: Path) -> str:
    file = tmp_path / "qwen.json"
    file.write_text(json.dumps(qwen().as_json()))
    return str(file)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """Of a class that has no figures of its own."""
    measured = replace(
        default_calibration(H100), compute=1.0, bandwidth=1.0, flops=1e12, memory_bandwidth=40e9, source="a machine"
    )
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({"accelerator": "cpu", "calibration": measured.as_json(), "points": [], "heldOut": []}))
    return file


def speed(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", "speed", *words])


def refused(*words: str) -> tuple[int, str]:
    error = speed(*words).exception
    assert isinstance(error, CliError), error
    return error.code, str(error)


def example(command: str) -> str:
    """What the page shows below a command."""
    return PAGE.read_text().split(f"{command}\n\n", 1)[1].split("\n```", 1)[0]


def shown(result: Result, source: str) -> str:
    assert result.exit_code == 0, result.exception
    return "\n".join(line.rstrip() for line in result.stdout.replace(source, "hf://Qwen/Qwen3-8B").splitlines())


def test_the_page_shows_what_a_rate_comes_to(facts: str) -> None:
    lengths = ["--accelerator", "nvidia-h100-80gb", "--input", "1024", "--output", "256", "--rate", "2"]
    assert shown(speed(facts, *lengths), facts) == example(f"tokenfleet plan speed hf://Qwen/Qwen3-8B {' '.join(lengths)}")


def test_the_page_shows_what_concurrencies_come_to(facts: str) -> None:
    command = "tokenfleet plan speed hf://Qwen/Qwen3-8B --accelerator nvidia-h100-80gb"
    assert shown(speed(facts, "--accelerator", "nvidia-h100-80gb"), facts) == example(command)


def test_the_page_counts_a_step_out() -> None:
    pace = pace_of(
        qwen(), Serving(accelerator=H100), default_calibration(H100), input_tokens=1024, output_tokens=256
    )  # fmt: skip
    token, prompt = pace.parts(1.0), pace.parts(0.0, 1.0)
    rows = {
        "matrices: computing": (token.compute, prompt.compute),
        "matrices: reading": (token.weights, prompt.weights),
        "attention: computing": (token.attention, prompt.prompt_attention),
        "attention: reading": (token.context, prompt.context),
        "overhead": (token.overhead, prompt.overhead),
        "the step": (pace.seconds(1.0), pace.seconds(0.0, 1.0)),
    }
    for name, (decoding, prefill) in rows.items():
        assert f"| {name} | {decoding * 1000:.2f} | {prefill * 1000:.2f} |" in PAGE.read_text()


def test_programs_get_the_workload_the_speed_and_the_calibration(facts: str) -> None:
    result = speed(facts, "-a", "nvidia-l4-24gb", "--max-model-len", "8192", "--concurrency", "4", "--json")
    body = json.loads(result.stdout)
    assert body["accelerator"] == "nvidia-l4-24gb"
    assert body["calibration"]["source"].startswith("published measurements")
    (found,) = body["speeds"]
    assert found["workload"]["concurrency"] == 4
    assert found["speed"]["requests_per_second"] * found["speed"]["e2e"] == pytest.approx(4, rel=1e-3)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    spec = {
        "model": {"source": "pvc://models/qwen"},
        "accelerator": "nvidia-h100-80gb",
        "engine": {"batching": {"maxNumSeqs": 7}},
    }
    file = tmp_path / "llm.yaml"
    file.write_text(yaml.safe_dump({"metadata": {"name": "chat"}, "spec": spec}))
    return str(file)


def test_a_file_says_what_runs_and_how(facts: str, manifest: str) -> None:
    """Its model is in a volume, so it is read elsewhere."""
    body = json.loads(speed(facts, "-f", manifest, "--json").stdout)
    assert [each["workload"]["concurrency"] for each in body["speeds"]] == [1, 2, 4, 8]
    assert {each["speed"]["places"] for each in body["speeds"]} == {7}
    assert "is a volume of the cluster" in refused("-f", manifest)[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("metadata: {name: x}", "it has no spec", id="no spec"),
        pytest.param("- 1", "it has no spec", id="a list"),
        pytest.param("a: [", "cannot be read", id="no YAML"),
        pytest.param(MISTAKEN, "maxModelLen", id="a mistake"),
    ],
)
def test_a_file_that_is_no_deployment_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(text)
    code, told = refused("-f", str(file))
    assert code == 2
    assert message in told


def test_a_calibration_stands_in_for_figures_that_a_class_has_not(facts: str, calibration: Path) -> None:
    result = speed(
        facts, "-a", "cpu", "--max-model-len", "2048", "--concurrency", "1", "--calibration", str(calibration), "--json"
    )
    found = json.loads(result.stdout)["speeds"][0]["speed"]
    assert found["itl"] > 15e9 / 40e9


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["--rate", "-1"], 2, r"--rate must be above 0 \(given: -1\)\.", id="a negative rate"),
        pytest.param(["--rate", "0"], 2, r"--rate must be above 0 \(given: 0\)\.", id="no rate"),
        pytest.param(["--concurrency", "0"], 2, r"--concurrency must be 1 or more \(given: 0\)\.", id="no clients"),
        pytest.param(["--input", "-5"], 2, r"--input must be 1 or more \(given: -5\)\.", id="a negative length"),
        pytest.param(["--output", "0"], 2, r"--output must be 1 or more", id="no answer"),
        pytest.param(["--cached", "2"], 2, r"--cached must be between 0 and 1", id="more than all cached"),
        pytest.param(["--rate", "1", "--concurrency", "1"], 2, r"are two loads", id="two loads"),
        pytest.param(["--input", "40000", "--output", "4000"], 2, r"make 44000 tokens, and .* 40960", id="too long"),
        pytest.param(["--tensor", "1", "--rate", "500"], 1, r"does not keep up with 500 requests a second", id="too many"),
        pytest.param(["--out", "x.json"], 2, r"--out is the file of --calibrate", id="a file for nothing"),
        pytest.param(["--calibrate", "http://127.0.0.1:1"], 2, r"--calibrate needs --out", id="no file to write"),
        pytest.param(["--calibration", "nowhere.json"], 2, r"nowhere.json cannot be read", id="no such calibration"),
    ],
)
def test_what_cannot_be_meant_or_done_is_one_sentence(facts: str, words: list[str], code: int, message: str) -> None:
    found = refused(facts, "-a", "nvidia-h100-80gb", *words)
    assert found[0] == code
    assert re.search(message, found[1]), found[1]


def test_classes_that_nothing_is_known_of(facts: str) -> None:
    assert refused(facts, "-a", "tpu")[1].startswith("spec.accelerator: no class is called 'tpu'")
    code, message = refused(facts, "-a", "cpu", "--max-model-len", "2048")
    assert code == 1
    assert "measure a deployment with tokenfleet plan speed --calibrate NAME --out FILE" in message
    assert "runs no model" in refused(facts, "-a", "simulated")[1]
    assert "--accelerator is missing" in refused(facts)[1]
    assert "Name a model" in refused("-a", "cpu")[1]


def test_a_model_that_does_not_fit_has_no_speed(facts: str) -> None:
    code, message = refused(facts, "-a", "nvidia-t4-16gb")
    assert code == 1
    assert "does not fit on 1 × nvidia-t4-16gb: `tokenfleet plan memory` says what to change." in message


def test_a_calibration_of_another_class_is_refused(facts: str, calibration: Path) -> None:
    code, message = refused(facts, "-a", "nvidia-h100-80gb", "--calibration", str(calibration))
    assert (code, "was measured on cpu" in message) == (2, True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, "it names no accelerator", id="an empty object"),
        pytest.param({"accelerator": "cpu", "calibration": None}, "its benchmark did not end", id="an interrupted one"),
        pytest.param({"accelerator": "cpu", "calibration": {"compute": 1}}, "a calibration needs bandwidth", id="half of one"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(facts: str, tmp_path: Path, body: object, message: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps(body))
    found = refused(facts, "-a", "cpu", "--calibration", str(file))
    assert found[0] == 2
    assert message in found[1]
