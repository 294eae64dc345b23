"""`tokenfleet plan memory`: what it shows of a model on this disk, and how it fails."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.planning.memory.known import facts
from tests.planning.models.documents import document
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app
from tokenfleet.cli.plan.models import read_model

MANIFEST = """
apiVersion: tokenfleet.dev/v1alpha1
kind: LLMDeployment
metadata: {name: chat}
spec:
  model: {source: "pvc://models/llama"}
  accelerator: nvidia-l4-24gb
  engine: {maxModelLen: 8192, kvCache: {dtype: fp8}}
"""


@pytest.fixture
def llama(tmp_path: Path) -> str:
    file = tmp_path / "llama.json"
    file.write_text(json.dumps(document("Llama-3.1-8B")))
    return str(file)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", "memory", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(*arguments: str, kind: type[CliError] = CliError) -> tuple[str, str]:
    """What it showed, and the sentence that it ended with."""
    result = CliRunner().invoke(app, ["plan", "memory", *arguments])
    assert type(result.exception) is kind, result.exception
    return result.stdout, str(result.exception)


def test_what_fits_is_a_table(llama: str) -> None:
    lines = run(llama, "--accelerator", "nvidia-h100-80gb", "--max-model-len", "16384").splitlines()
    assert lines[0] == "LlamaForCausalLM, 8.03B parameters in 14.96 GiB on nvidia-h100-80gb"
    assert [line.split()[0] for line in lines[1:7]] == ["weights", "activations", "CUDA", "runtime", "KV", "not"]
    assert lines[-1].startswith("Fits. The KV cache holds 440,144 tokens, in blocks of 16: 26.86 sequences of 16,384 tokens")


def test_sequences_of_another_length(llama: str) -> None:
    assert "Sequences of 2,048 tokens at the same time: 214.7" in run(llama, "-a", "nvidia-h100-80gb", "--length", "2048")


def test_what_does_not_fit_ends_with_the_ways_out(llama: str) -> None:
    shown, sentence = failed(llama, "-a", "nvidia-l4-24gb")
    assert "KV cache" in shown
    assert "Fits" not in shown
    assert sentence.splitlines()[0] == "12.50 GiB are missing on each device. Any one of these makes it fit:"
    assert "  - set parallelism.tensor to 2, so that 2 GPUs share it" in sentence.splitlines()


def test_programs_get_all_of_it(llama: str) -> None:
    body = json.loads(run(llama, "-a", "nvidia-h100-80gb", "--tensor", "2", "--json"))
    assert (body["devices"], body["fits"], body["memory"]["fixes"]) == (2, True, [])
    assert body["memory"]["kv_bytes_per_token"] == 65_536


def test_programs_are_told_what_does_not_fit_too(llama: str) -> None:
    shown, _ = failed(llama, "-a", "nvidia-l4-24gb", "--json")
    assert json.loads(shown)["memory"]["fixes"][-1] == "set accelerator to nvidia-a100-40gb"


def test_without_a_class_there_is_a_row_for_each(llama: str) -> None:
    rows = {line.split()[0]: line.split() for line in run(llama, "--max-model-len", "16384").splitlines()[2:]}
    assert rows["nvidia-t4-16gb"][1] == "2"
    assert rows["nvidia-l4-24gb"][1] == "1"
    assert rows["nvidia-h100-80gb"][6] == "440,144"


def test_the_settings_are_those_of_a_manifest(llama: str, tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(MANIFEST)
    body = json.loads(run(llama, "-f", str(file), "--json"))
    assert (body["accelerator"], body["memory"]["max_model_len"]) == ("nvidia-l4-24gb", 8192)
    assert body["memory"]["kv_bytes_per_token"] == 65_536


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "Name a model", id="nothing"),
        pytest.param(["{llama}", "-a", "nvidia-h100"], "no class is called 'nvidia-h100'", id="a class that is none"),
        pytest.param(["{llama}", "-a", "nvidia"], "The memory of nvidia is not known", id="any GPU"),
        pytest.param(["{llama}", "-a", "cpu", "--dtype", "int4"], "--dtype int4: it is one of auto", id="a type that is none"),
        pytest.param(["{llama}", "-a", "cpu", "--kv-dtype", "fp9"], "--kv-dtype fp9: it is one of auto", id="a KV type"),
        pytest.param(["{llama}", "-a", "cpu", "--quantization", "q4"], "--quantization q4: it is one of", id="a quantization"),
        pytest.param(["pvc://models/llama", "-a", "cpu"], "is a volume of the cluster", id="a claim"),
        pytest.param(["{here}/config.json", "-a", "cpu"], "does not say how large the weights are", id="a configuration alone"),
        pytest.param(["{here}/list.json", "-a", "cpu"], "has no facts of a model", id="another file"),
        pytest.param(["{here}/half.json", "-a", "cpu"], "cannot be read as JSON", id="half a file"),
        pytest.param(
            ["{here}", "--revision", "main", "-a", "cpu"], "a directory has no revisions", id="a directory's revision"
        ),
        pytest.param(["-f", "{here}/none.yaml"], "none.yaml cannot be read", id="no manifest"),
    ],
)
def test_what_cannot_be_meant(llama: str, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "half.json").write_text("{")
    given = [each.format(llama=llama, here=tmp_path) for each in arguments]
    _, sentence = failed(*given, kind=Unusable)
    assert words in sentence


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(["--tensor", "3"], "3 devices cannot share the 32 attention heads", id="heads that three do not divide"),
        pytest.param(["--pipeline", "33"], "has 32 layers, too few for a pipeline of 33", id="more stages than layers"),
    ],
)
def test_what_vllm_would_refuse_is_said(llama: str, settings: list[str], words: str) -> None:
    _, sentence = failed(llama, "-a", "nvidia-h100-80gb", *settings)
    assert words in sentence


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("{here}/absent", "There is no", id="no directory"),
        pytest.param("{here}", "it has no config.json", id="an empty directory"),
        pytest.param("hf://one-part", "hf://ORGANISATION/NAME", id="half a name"),
        pytest.param(
            "{here}/strange.json", "strange.json: config.json names no architecture", id="a model that cannot be told"
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, source: str, words: str) -> None:
    if "strange" in source:
        (tmp_path / "strange.json").write_text(json.dumps({"config": {}, "tensors": []}))
    _, sentence = failed(source.format(here=tmp_path), "-a", "cpu")
    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(document("Llama-3.1-8B"), id="a document of an inspection"),
        pytest.param({"model": document("Llama-3.1-8B"), "draft": None}, id="the line of an inspection pod"),
        pytest.param(facts("Llama-3.1-8B").as_json(), id="the facts of a status"),
    ],
)
def test_a_file_may_hold_what_was_read_before(tmp_path: Path, body: dict[str, Any]) -> None:
    file = tmp_path / "model.json"
    file.write_text(json.dumps(body))
    assert read_model(str(file)) == facts("Llama-3.1-8B")
