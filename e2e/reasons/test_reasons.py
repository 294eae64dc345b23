"""What cannot run says why, in its status, with the next step; and a healthy neighbour is not disturbed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.deployed import Deployed
from e2e.kubectl import Kubectl

MANIFEST = Path(__file__).with_name("manifest.yaml")


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl, variants: str) -> Iterator[Kubectl]:
    kubectl.apply_file(MANIFEST)
    yield kubectl
    kubectl("delete", "-f", str(MANIFEST), "--ignore-not-found", "--wait=true")


@pytest.mark.parametrize(
    ("name", "kind", "reason", "words"),
    [
        pytest.param("no-model", "EngineReady", "ModelNotFound", "not-there", id="a path without a model"),
        pytest.param("no-gpu", "EngineReady", "InsufficientGPU", "nvidia-h100-80gb", id="a GPU that no node has"),
        pytest.param("no-claim", "EngineReady", "VolumeNotReady", "nobody", id="a claim that does not exist"),
        pytest.param(
            "no-image", "EngineReady", "ImagePullFailed", "127.0.0.1:1/nobody/nothing:1", id="an image that nobody has"
        ),
        pytest.param("no-memory", "EngineReady", "OutOfMemory", "memory", id="too little memory"),
        pytest.param("no-flag", "SpecValid", "InvalidSpec", "--no-such-flag", id="a flag that vLLM does not know"),
        pytest.param("no-sense", "SpecValid", "RejectedByAPIServer", "imagePullPolicy", id="a podTemplate that is refused"),
        pytest.param("no-config", "EngineReady", "ModelInvalid", "config.json", id="a model without its configuration"),
        pytest.param("half-a-model", "EngineReady", "ModelInvalid", "incomplete", id="weights that were cut off"),
        pytest.param("strange-model", "EngineReady", "ModelInvalid", "NobodysForCausalLM", id="an architecture nobody knows"),
        pytest.param("other-words", "EngineReady", "EngineConfigInvalid", "vocabulary", id="a draft with another vocabulary"),
        pytest.param("too-long", "EngineReady", "EngineConfigInvalid", "2048", id="a maxModelLen beyond the model"),
        pytest.param("no-room", "ModelFits", "DoesNotFit", "--kv-cache-memory-bytes", id="no memory for one sequence"),
        pytest.param("no-class", "SpecValid", "UnknownAccelerator", "nvidia-h100-80gb", id="an accelerator without a class"),
    ],
)
def test_the_status_says_why(applied: Kubectl, name: str, kind: str, reason: str, words: str) -> None:
    state = Deployed(applied, name).wait_reason(kind, reason)
    assert state["status"] == "False"
    assert words in state["message"]
    ready = Deployed(applied, name).wait_reason("Ready", reason)
    assert ready["status"] == "False"
