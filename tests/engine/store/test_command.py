"""The command line: what it teaches, and how it fails."""

import json
from pathlib import Path

import pytest

from tests.engine.store.stores import COMMIT, SOURCE, MemoryStore, fetch, model
from tokenfleet_engine import main as engine


def test_help_teaches_sources_and_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        engine.main(["fetch", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in ("hf://ORGANISATION/NAME", "s3://BUCKET/PREFIX", "HF_TOKEN", "GOOGLE_CREDENTIALS", "--all", "Examples:"):
        assert word in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--streams", "0"], "0 is not between 1 and 64", id="no streams"),
        pytest.param(["--piece", "4096"], "4096 is not between 1 and 1024", id="too large a piece"),
    ],
)
def test_numbers_out_of_bounds_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engine.main(["fetch", *flags, SOURCE])
    assert message in capsys.readouterr().err


def test_a_failure_is_one_line_and_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = tmp_path / "note"
    assert engine.main(["fetch", "--cache", str(tmp_path / "cache"), "--termination-log", str(note), "org/name"]) == 2
    assert json.loads(note.read_text())["reason"] == "EngineConfigInvalid"
    assert capsys.readouterr().err == (
        "tokenfleet-engine: EngineConfigInvalid: 'org/name' is no source: it begins with one of hf://, s3://, gs://.\n"
    )


def test_a_complete_cache_needs_no_library_of_any_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(MemoryStore(model()), tmp_path, f"{SOURCE}@{COMMIT}")
    assert engine.main(["fetch", "--cache", str(tmp_path), f"{SOURCE}@{COMMIT}"]) == 0
    assert capsys.readouterr().out.count("is complete at") == 2
