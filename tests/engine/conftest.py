"""A small model on disk that every check likes, for tests to take something away from."""

import json
from pathlib import Path

import pytest

from tests.engine.weights import write_safetensors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One weight file."""
    path = tmp_path / "models" / "small"
    path.mkdir(parents=True)
    config = {"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "max_position_embeddings": 2048}
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text("{}")
    write_safetensors(path / "model.safetensors", {"a": 100, "b": 28})
    return path


@pytest.fixture
def sharded(model: Path) -> Path:
    """Two weight files and their index."""
    (model / "model.safetensors").unlink()
    write_safetensors(model / "model-1.safetensors", {"a": 100})
    write_safetensors(model / "model-2.safetensors", {"b": 28})
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return model
