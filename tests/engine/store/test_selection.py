"""Which files of a repository are fetched, on listings as they are found in the wild."""

import pytest

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.listing import RemoteFile, check_paths, digest
from tokenfleet_engine.store.selection import choose

LLAMA = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


def chosen(*paths: str, everything: bool = False) -> list[str]:
    files = [RemoteFile(path, 1, "") for path in paths]
    return [file.path for file in choose(files, source="hf://org/name", everything=everything)]


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]


@pytest.mark.parametrize(
    ("needed", "other"),
    [
        pytest.param([*LLAMA, *SHARDS], ["README.md", ".gitattributes", "LICENSE", "original/params.json",
                     "original/consolidated.00.pth"], id="Llama: the weights once more in Meta's form"),
        pytest.param([*LLAMA, *SHARDS], ["consolidated.safetensors"], id="Mistral: the weights once more in one file"),
        pytest.param([*LLAMA, "consolidated.safetensors"], [], id="only Mistral's form of the weights"),
        pytest.param(["config.json", "merges.txt", "vocab.json", "model.safetensors"],
                     ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "onnx/model.onnx",
                      "onnx/config.json", "64.tflite"], id="GPT-2: the same weights for every framework"),
        pytest.param(["config.json", "pytorch_model-1.bin", "pytorch_model.bin.index.json"],
                     ["optimizer.pt", "training_args.bin", "rng_state_0.pth", "checkpoint-500/pytorch_model.bin"],
                     id="no safetensors: PyTorch's files, without what the training left behind"),
        pytest.param(["chat_template.jinja", "config.json", "modeling_x.py", "model.safetensors", "qwen.tiktoken",
                      "tokenizer.model", "1_Pooling/config.json"], ["assets/logo.png", "model.gguf", ".cache/x.json"],
                     id="chat template, code of its own, tokenizers of all kinds"),
        pytest.param(["adapter_config.json", "adapter_model.safetensors"], ["adapter_model.bin"], id="an adapter"),
    ],
)  # fmt: skip
def test_only_what_vllm_needs(needed: list[str], other: list[str]) -> None:
    assert chosen(*needed, *other) == sorted(needed)
    assert chosen(*needed, *other, everything=True) == sorted([*needed, *other])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        pytest.param(["README.md", "model.gguf"], "no config.json.*README.md, model.gguf", id="no configuration"),
        pytest.param(["config.json", "model.gguf"], "no weights.*config.json, model.gguf", id="no weights that vLLM loads"),
        pytest.param([f"{n}.json" for n in range(20)], "0.json.* and 12 more", id="a long listing is cut"),
    ],
)
def test_what_is_no_model(paths: list[str], message: str) -> None:
    with pytest.raises(EngineFailure, match=message) as caught:
        chosen(*paths)
    assert caught.value.reason == contract.REASON_MODEL_INVALID


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(["../../etc/passwd"], id="out of the directory"),
        pytest.param(["/etc/passwd"], id="an absolute path"),
        pytest.param(["a//b"], id="an empty folder name"),
        pytest.param(["a\0b"], id="a NUL"),
        pytest.param(["a", "a/b"], id="a file that is a folder as well"),
    ],
)
def test_names_that_cannot_stand_in_a_directory(paths: list[str]) -> None:
    with pytest.raises(EngineFailure, match="s3://bucket holds"):
        check_paths([RemoteFile(path, 1, "") for path in paths], source="s3://bucket")


def test_the_digest_is_that_of_the_listing_and_nothing_else() -> None:
    files = [RemoteFile("b", 2, "y"), RemoteFile("a", 1, "x", version="7")]
    assert digest(files) == digest(reversed([RemoteFile("b", 2, "y"), RemoteFile("a", 1, "x")]))
    first = files[0]
    others = [[*files, RemoteFile("c", 0, "")], [first], [first, RemoteFile("a", 1, "z")], [first, RemoteFile("a", 3, "x")]]
    assert len({digest(each) for each in [files, *others]}) == 5
    assert digest([RemoteFile("a", 1, "x")]) == "sha256:2acc531bd97562584599386c99e32a5ceafe83915a2611f450289e107d71b011"
