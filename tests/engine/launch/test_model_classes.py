"""What is known of model classes reaches vLLM's cache, or vLLM finds it out for itself."""

from pathlib import Path

import pytest

from tokenfleet_engine.launch.model_classes import lay_out


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    directory = tmp_path / "image"
    directory.mkdir()
    (directory / "llama.json").write_text("known")
    return directory


def test_it_lies_where_vllm_looks(kept: Path, tmp_path: Path) -> None:
    assert lay_out({"VLLM_CACHE_ROOT": str(tmp_path / "cache")}, kept=kept)
    assert (tmp_path / "cache/modelinfos/llama.json").read_text() == "known"


def test_what_vllm_found_out_before_stays(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "cache/modelinfos").mkdir(parents=True)
    (tmp_path / "cache/modelinfos/own.json").write_text("own")
    assert lay_out({"VLLM_CACHE_ROOT": str(tmp_path / "cache")}, kept=kept)
    assert (tmp_path / "cache/modelinfos/own.json").read_text() == "own"


def test_an_image_without_it_starts_all_the_same(tmp_path: Path) -> None:
    assert not lay_out({"VLLM_CACHE_ROOT": str(tmp_path)}, kept=tmp_path / "nothing")


def test_without_a_cache_of_vllms_nothing_is_written(kept: Path) -> None:
    assert not lay_out({}, kept=kept)


def test_a_cache_that_cannot_be_written_to_costs_time_alone(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not lay_out({"VLLM_CACHE_ROOT": str(tmp_path / "file")}, kept=kept)
