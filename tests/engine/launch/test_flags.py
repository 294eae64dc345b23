"""The list of what an image's vLLM takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.models import KNOWN
from tokenfleet_engine.launch.flags import Option, read_known

LISTED: dict[str, Any] = {
    "version": "0.32.0",
    "options": [{"names": ["--port", "-p"], "values": None}],
    "architectures": ["LlamaForCausalLM"],
    "transformers": ["GlmModel"],
    "dropped": {"MPTForCausalLM": "0.28.0"},
}


def test_a_list_of_this_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "vllm.json").write_text(json.dumps(LISTED))
    known = read_known(tmp_path / "vllm.json", version="0.32.0")
    assert known is not None
    assert known.options == (Option(names=("--port", "-p"), values=None),)
    assert known.may_run("LlamaForCausalLM")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps({**LISTED, "version": "0.31.0"}), id="of another version"),
        pytest.param(json.dumps({"version": "0.32.0"}), id="with nothing in it"),
        pytest.param("[]", id="no object"),
        pytest.param("{", id="cut off"),
    ],
)
def test_a_list_that_cannot_be_relied_on_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "vllm.json").write_text(text)
    assert read_known(tmp_path / "vllm.json", version="0.32.0") is None


def test_an_image_without_a_list(tmp_path: Path) -> None:
    assert read_known(tmp_path / "none", version="0.32.0") is None


@pytest.mark.parametrize(
    ("architecture", "runs"),
    [
        pytest.param("LlamaForCausalLM", True, id="vLLM's own"),
        pytest.param("LlamaForSequenceClassification", True, id="a kind that vLLM makes of its own"),
        pytest.param("Glm9ForCausalLM", True, id="one that the Transformers library may bring"),
        pytest.param("NobodyForCausalLM", False, id="nobody's"),
        pytest.param("MPTForCausalLM", False, id="one that vLLM once had"),
        pytest.param("MptForCausalLM", True, id="one that vLLM once had, and that the Transformers library has still"),
    ],
)
def test_which_architectures_may_run(architecture: str, runs: bool) -> None:
    assert KNOWN.may_run(architecture) is runs
