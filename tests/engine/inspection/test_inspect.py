"""A model is read from a store or a directory: headers alone, all that vLLM loads, and one sentence where that cannot be."""

import asyncio
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.store.stores import MemoryStore
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.inspection.inspect import inspect, inspect_directory, inspect_source
from tokenfleet_engine.store.patience import Patience
from tokenfleet_engine.store.remote import Transient

CONFIG = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2}
SHAPES = {
    "model.embed_tokens.weight": ("BF16", [16, 8]),
    "model.layers.0.mlp.experts.0.up_proj.weight": ("BF16", [8, 8]),
    "model.layers.0.mlp.experts.1.up_proj.weight": ("BF16", [8, 8]),
    "model.layers.1.mlp.experts.0.up_proj.weight": ("F32", [8, 8]),
    "model.layers.1.self_attn.rotary.inv_freq2": ("F32", [4]),
}
_SIZES = {"BF16": 2, "F32": 4}


def weights(shapes: dict[str, tuple[str, list[int]]], *, content: bool = True) -> bytes:
    """A file of safetensors, its weights zero."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        end = offset + _SIZES[dtype]
        for side in shape:
            end = offset + (end - offset) * side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + (bytes(offset) if content else b"")


def files(**more: bytes) -> dict[str, bytes]:
    """A whole model; a name's __ stands for its point."""
    named = {name.replace("__", "."): data for name, data in more.items()}
    return {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights(SHAPES), "README.md": b"#"} | named


async def _inspected(store: MemoryStore, *, seconds: float = 120.0) -> dict[str, Any]:
    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    patience = Patience(host=store.host, seconds=10.0, sleep=at_once, chance=lambda: 0.0)
    return await inspect(store, source="hf://org/small", seconds=seconds, patience=patience)


async def test_alike_tensors_stand_once() -> None:
    document = await _inspected(MemoryStore(files()))
    assert document == {
        "source": "hf://org/small",
        "revision": MemoryStore({}).revision,
        "config": CONFIG,
        "tensors": [
            {"name": "model.embed_tokens.weight", "dtype": "BF16", "shape": [16, 8], "count": 1},
            {"name": "model.layers.*.mlp.experts.*.up_proj.weight", "dtype": "BF16", "shape": [8, 8], "count": 2},
            {"name": "model.layers.*.mlp.experts.*.up_proj.weight", "dtype": "F32", "shape": [8, 8], "count": 1},
            {"name": "model.layers.*.self_attn.rotary.inv_freq2", "dtype": "F32", "shape": [4], "count": 1},
        ],
        "bytes": 2 * 16 * 8 + 2 * 2 * 64 + 4 * 64 + 4 * 4,
        "files": 1,
    }


async def test_of_a_weight_no_byte_is_read() -> None:
    store = MemoryStore(files())
    await _inspected(store)
    header = int.from_bytes(store.files["model.safetensors"][:8], "little")
    assert sorted(store.reads) == [
        ("config.json", 0, len(store.files["config.json"])),
        ("model.safetensors", 0, 8),
        ("model.safetensors", 8, 8 + header),
    ]


async def test_the_index_says_which_files_are_loaded() -> None:
    index = {"weight_map": {"a.w": "model-1.safetensors", "b.w": "model-2.safetensors"}}
    parts = {f"model-{n}.safetensors": weights({f"{name}.w": ("BF16", [4])}) for n, name in ((1, "a"), (2, "b"))}
    store = MemoryStore(files() | parts | {"model.safetensors.index.json": json.dumps(index).encode()})
    document = await _inspected(store)
    assert [each["name"] for each in document["tensors"]] == ["a.w", "b.w"]
    assert (document["files"], document["bytes"]) == (2, 16)


async def test_the_same_weights_in_other_forms_are_left_out() -> None:
    once_more = weights({"tok_embeddings.weight": ("BF16", [16, 8])})
    others = {"consolidated.safetensors": once_more, "original/model.safetensors": once_more, "onnx/model.onnx": b"x"}
    document = await _inspected(MemoryStore(files() | others))
    assert document["files"] == 1
    assert not any(each["name"].startswith("tok_") for each in document["tensors"])


async def test_a_quantization_that_stands_beside_the_configuration_is_part_of_it() -> None:
    beside = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    document = await _inspected(MemoryStore(files() | {"hf_quant_config.json": json.dumps(beside).encode()}))
    assert document["config"]["quantization_config"] == {"quant_method": "modelopt", **beside}


async def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    store = MemoryStore(files(), piece=50)
    broken: list[int] = []

    def breaks(path: str, offset: int, data: bytes) -> bytes:
        if path == "model.safetensors" and offset > 8 and len(broken) < 3:
            broken.append(offset)
            raise Transient("the connection broke")
        return data

    store.meddle = breaks
    assert (await _inspected(store))["files"] == 1
    assert len(broken) == 3


async def test_an_answer_that_is_too_short_is_asked_for_again() -> None:
    store = MemoryStore(files())
    short = iter([True, True])
    store.meddle = lambda path, offset, data: data[:-1] if next(short, False) else data
    assert (await _inspected(store))["config"] == CONFIG


def _without(name: str) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.pop(name)


def _with(**more: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.update({name.replace("__", "."): data for name, data in more.items()})


_INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(_without("config.json"), "it has no config.json", id="no configuration"),
        pytest.param(_without("model.safetensors"), "it has no weights", id="no weights"),
        pytest.param(_with(config__json=b"{"), "config.json is not valid JSON", id="half a configuration"),
        pytest.param(_with(config__json=b"[]"), "config.json is not a JSON object", id="a configuration that is a list"),
        pytest.param(
            _with(model__safetensors=weights(SHAPES, content=False)), "model.safetensors is incomplete", id="half a download"
        ),
        pytest.param(_with(model__safetensors=weights(SHAPES) + b"more"), "model.safetensors is damaged", id="too long a file"),
        pytest.param(_with(model__safetensors=weights(SHAPES)[:20]), "its header alone would be", id="half a header"),
        pytest.param(_with(model__safetensors=b"abc"), "is damaged: 3 bytes", id="a file of three bytes"),
        pytest.param(
            _with(model__safetensors=struct.pack("<Q", 4) + b"nope"), "its header is not valid JSON", id="a header that is none"
        ),
        pytest.param(
            lambda files: files.update({_INDEX: json.dumps({"weight_map": {"a": "model-7.safetensors"}}).encode()}),
            "1 of 1 weight files are missing in hf://org/small: model-7.safetensors", id="a shard is missing",
        ),
        pytest.param(lambda files: files.update({_INDEX: b"{}"}), "has no weight_map", id="an empty index"),
        pytest.param(
            lambda files: (files.pop("model.safetensors"), files.update({"pytorch_model.bin": b"x"}))[1],
            "has no safetensors, only pytorch_model.bin", id="PyTorch's own format alone",
        ),
        pytest.param(
            lambda files: (files.pop("model.safetensors"), files.update({"q4.gguf": b"x"}))[1],
            "has no safetensors, only q4.gguf", id="GGUF alone",
        ),
        pytest.param(
            lambda files: (files.pop("config.json"), files.update({"adapter_config.json": b"{}"}))[1],
            "is a LoRA adapter", id="an adapter",
        ),
    ],
)  # fmt: skip
async def test_what_is_no_model_is_one_sentence(change: Callable[[dict[str, bytes]], object], words: str) -> None:
    held = files()
    change(held)
    with pytest.raises(EngineFailure) as refused:
        await _inspected(MemoryStore(held))
    assert words in refused.value.message
    assert refused.value.reason == contract.REASON_MODEL_INVALID


async def test_a_store_that_is_away_is_said() -> None:
    with pytest.raises(EngineFailure) as refused:
        await _inspected(MemoryStore(files(), away=True))
    assert refused.value.reason == contract.REASON_MODEL_STORE_UNREACHABLE


async def test_nobody_waits_for_ever() -> None:
    store = MemoryStore(files())

    async def never() -> Any:
        await asyncio.Event().wait()

    store.listing = never  # type: ignore[method-assign]
    with pytest.raises(EngineFailure, match="did not give the headers of hf://org/small within 0 s"):
        await inspect(store, source="hf://org/small", seconds=0.01)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "small"
    place.mkdir()
    for name, data in files().items():
        (place / name).write_bytes(data)
    return place


async def test_a_directory_reads_like_a_store(directory: Path) -> None:
    said = await _inspected(MemoryStore(files()))
    read = await asyncio.to_thread(inspect_directory, directory)
    assert read == said | {"source": str(directory), "revision": None}


def test_folders_of_a_directory_are_left_alone(directory: Path) -> None:
    (directory / "checkpoint").mkdir()
    (directory / "checkpoint" / "model.safetensors").write_bytes(b"broken")
    assert inspect_source(str(directory))["files"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("{root}/absent", "There is no {root}/absent", id="no directory"),
        pytest.param("{root}/small/config.json", "is a file; a model is a directory", id="a file"),
        pytest.param("hf://org", "hf://ORGANISATION/NAME", id="half a name"),
        pytest.param("ftp://host/model", "'ftp://host/model' is no source", id="another scheme"),
    ],
)
def test_a_source_that_is_none(directory: Path, text: str, words: str) -> None:
    root = str(directory.parent)
    with pytest.raises(EngineFailure) as refused:
        inspect_source(text.format(root=root))
    assert words.format(root=root) in refused.value.message


def test_a_link_to_nothing_is_said(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").symlink_to("gone")
    with pytest.raises(EngineFailure, match="is a link to nothing"):
        inspect_directory(directory)
