"""`tokenfleet-engine inspect`: one line for the controller, and a note where it fails."""

import json
from pathlib import Path

import pytest

from tests.engine.inspection.test_inspect import files
from tokenfleet import contract
from tokenfleet_engine import main as engine


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "small"
    place.mkdir()
    for name, data in files().items():
        (place / name).write_bytes(data)
    return place


def test_the_model_is_one_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main(["inspect", str(directory)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    body = json.loads(line.removeprefix(contract.INSPECTION_PREFIX))
    assert body["model"]["config"]["architectures"] == ["LlamaForCausalLM"]
    assert body["draft"] is None


def test_a_draft_stands_beside_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main(["inspect", str(directory), "--draft", str(directory)]) == 0
    body = json.loads(capsys.readouterr().out.removeprefix(contract.INSPECTION_PREFIX))
    assert body["draft"] == body["model"]


def test_a_failure_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = tmp_path / "note"
    assert engine.main(["inspect", str(tmp_path / "absent"), "--termination-log", str(note)]) == 2
    assert json.loads(note.read_text())["reason"] == contract.REASON_MODEL_NOT_FOUND
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_a_deadline_that_is_none_is_refused(seconds: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engine.main(["inspect", str(directory), "--deadline", seconds])
    assert "--deadline" in capsys.readouterr().err
