"""What is said of a model's files, for each way in which they come out wrong."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.weights import write_safetensors
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.model_files import inspect_model


def test_a_whole_model(model: Path) -> None:
    found = inspect_model(model)
    assert (found.architecture, found.dtype, found.context_tokens) == ("LlamaForCausalLM", "bfloat16", 2048)
    assert (found.weight_files, found.weight_bytes) == (1, (model / "model.safetensors").stat().st_size)


def test_a_whole_model_in_several_files(sharded: Path) -> None:
    assert inspect_model(sharded).weight_files == 2


def test_weights_of_an_older_format_are_taken_as_they_are(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"12345")
    assert inspect_model(model).weight_bytes == 5


def test_the_language_part_of_a_model_of_several_kinds_is_described(model: Path) -> None:
    config = {"architectures": ["Gemma3"], "text_config": {"dtype": "float16", "max_position_embeddings": 77}}
    (model / "config.json").write_text(json.dumps(config))
    found = inspect_model(model)
    assert (found.dtype, found.context_tokens) == ("float16", 77)


def _empty_volume(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


def _make_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def _replace(file: Path) -> Path:
    file.unlink()
    return file


def _truncate(file: Path, by: int) -> None:
    os.truncate(file, file.stat().st_size - by)


def _say_long_header(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write((1 << 62).to_bytes(8, "little"))


def _spoil_header(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(9)
        stream.write(b"\xff\xff")


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        pytest.param(shutil.rmtree, contract.REASON_MODEL_NOT_FOUND, "holds: other/", id="the directory is not there"),
        pytest.param(
            _empty_volume,
            contract.REASON_MODEL_NOT_FOUND, "is there, and empty", id="the volume is empty",
        ),
        pytest.param(
            _make_file,
            contract.REASON_MODEL_INVALID, "is a file", id="a file instead of a directory",
        ),
        pytest.param(
            lambda path: (path / "config.json").unlink(),
            contract.REASON_MODEL_INVALID, "has no config.json", id="no configuration",
        ),
        pytest.param(
            lambda path: (path / "config.json").rename(path / "params.json"),
            contract.REASON_MODEL_INVALID, "Mistral's own format", id="Mistral's own format",
        ),
        pytest.param(
            lambda path: (path / "config.json").write_text('{"architectures": ['),
            contract.REASON_MODEL_INVALID, "config.json is not valid JSON", id="the configuration is cut off",
        ),
        pytest.param(
            lambda path: (path / "config.json").write_text('{"architectures": []}'),
            contract.REASON_MODEL_INVALID, "names no architecture", id="no architecture",
        ),
        pytest.param(
            lambda path: (path / "tokenizer.json").unlink(),
            contract.REASON_MODEL_INVALID, "has no tokenizer", id="no tokenizer",
        ),
        pytest.param(
            lambda path: (path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 1'),
            contract.REASON_MODEL_INVALID, "tokenizer.json is incomplete", id="a tokenizer that is cut off",
        ),
        pytest.param(
            lambda path: (path / "model.safetensors").unlink(),
            contract.REASON_MODEL_INVALID, "has no weights", id="no weights",
        ),
        pytest.param(
            lambda path: _truncate(path / "model.safetensors", 1),
            contract.REASON_MODEL_INVALID, "is incomplete", id="one byte short",
        ),
        pytest.param(
            lambda path: (path / "model.safetensors").write_bytes(b"abc"),
            contract.REASON_MODEL_INVALID, "is damaged", id="shorter than a header's length",
        ),
        pytest.param(
            lambda path: (path / "model.safetensors").write_bytes(b""),
            contract.REASON_MODEL_INVALID, "is damaged: 0 bytes", id="an empty weight file",
        ),
        pytest.param(
            lambda path: _say_long_header(path / "model.safetensors"),
            contract.REASON_MODEL_INVALID, "its header alone would be", id="a header longer than the file",
        ),
        pytest.param(
            lambda path: _spoil_header(path / "model.safetensors"),
            contract.REASON_MODEL_INVALID, "its header is not valid JSON", id="a header that is no JSON",
        ),
        pytest.param(
            lambda path: _replace(path / "model.safetensors").symlink_to("gone"),
            contract.REASON_MODEL_INVALID, "is a link to nothing", id="a link to nothing",
        ),
        pytest.param(
            lambda path: _replace(path / "model.safetensors").with_name("pytorch_model.bin").write_text(""),
            contract.REASON_MODEL_INVALID, "pytorch_model.bin is empty", id="empty weights of an older format",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(model: Path, damage: Callable[[Path], object], reason: str, words: str) -> None:
    (model.parent / "other").mkdir()
    damage(model)
    with pytest.raises(EngineFailure) as failure:
        inspect_model(model)
    assert failure.value.reason == reason
    assert words in failure.value.message
    assert str(model.parent) in failure.value.message


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(
            lambda path: (path / "model-2.safetensors").unlink(),
            "1 of 2 weight files are missing", id="one of the files is missing",
        ),
        pytest.param(
            lambda path: write_safetensors(path / "model-2.safetensors", {"c": 28}),
            "lacks 1 tensors", id="a file of another version",
        ),
        pytest.param(
            lambda path: _truncate(path / "model-2.safetensors", 5),
            "model-2.safetensors is incomplete", id="one of the files is cut off",
        ),
        pytest.param(
            lambda path: (path / "model.safetensors.index.json").write_text("{}"),
            "has no weight_map", id="the index is empty",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_several_files_is_named(sharded: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(sharded)
    with pytest.raises(EngineFailure, match=words) as failure:
        inspect_model(sharded)
    assert failure.value.reason == contract.REASON_MODEL_INVALID


def test_only_what_will_be_read_is_asked_for(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "model.safetensors").unlink()
    found = inspect_model(model, weights=False, tokenizer=False)
    assert (found.weight_files, found.weight_bytes) == (0, 0)


@pytest.fixture
def somebody_else() -> Iterator[None]:
    """Root may read everything, so the checks run as another user where tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65532)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_model(model: Path) -> Iterator[Path]:
    """A model that others could reach, were it readable: pytest's own directory is closed to them."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(shutil.copytree(model, Path(directory) / "small"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_may_not_be_read_is_named_with_the_remedy(
    public_model: Path, name: str, request: pytest.FixtureRequest
) -> None:
    (public_model / name).chmod(0)
    request.getfixturevalue("somebody_else")
    with pytest.raises(EngineFailure, match=rf"{name} is not readable for uid \d+.*chmod") as failure:
        inspect_model(public_model)
    assert failure.value.reason == contract.REASON_MODEL_INVALID


def test_a_directory_that_may_not_be_read_is_named_with_the_remedy(public_model: Path, request: pytest.FixtureRequest) -> None:
    public_model.chmod(0)
    request.getfixturevalue("somebody_else")
    with pytest.raises(EngineFailure, match="small is not readable for uid"):
        inspect_model(public_model)
