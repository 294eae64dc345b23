"""What a candidate is applied as: an LLMDeployment that the API takes, and of which the controller makes children."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from e2e.bench.planning_models import LLAMA_8B, LLAMA_70B
from tests.controller.objects import SETTINGS
from tokenfleet import contract
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.controller.resources import build_children
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize import Ask, Candidate, optimize
from tokenfleet.planning.optimize.manifest import deployment_of, name_of
from tokenfleet.planning.serving_of import serving_of

ASK = Ask(rate=5, input_tokens=1024, output_tokens=256, ttft=1.0, itl=0.05)
SOURCE = "hf://meta-llama/Llama-3.3-70B-Instruct"


def candidates(model: ModelFacts, **asked: Any) -> list[Candidate]:
    outcome = optimize(model, replace(ASK, **asked))
    assert outcome.best is not None
    return [outcome.best, *outcome.runners_up]


@pytest.mark.parametrize("model", [pytest.param(LLAMA_8B, id="8B"), pytest.param(LLAMA_70B, id="70B")])
def test_every_candidate_can_be_applied_and_is_run_as_it_was_planned(model: ModelFacts) -> None:
    for each in candidates(model):
        body = yaml.safe_load(yaml.safe_dump(deployment_of(each, model, source=SOURCE)))
        spec = parse_spec(body["metadata"]["name"], body["spec"])
        assert serving_of(spec, each.serving.accelerator) == each.serving
        assert spec.replicas == each.replicas
        owner = {**body, "metadata": {**body["metadata"], "namespace": "default", "uid": "1"}}
        children = build_children(owner, spec, SETTINGS)
        deployments = {one["metadata"]["name"]: one for one in children if one["kind"] == "Deployment"}
        containers = deployments["llama-3-3-70b-instruct-engine"]["spec"]["template"]["spec"]["containers"]
        (engine,) = [one for one in containers if one["name"] == contract.CONTAINER_ENGINE]
        assert engine["resources"]["limits"]["nvidia.com/gpu"] == str(each.serving.devices)


def test_only_what_differs_from_the_defaults_is_written() -> None:
    found = candidates(LLAMA_8B, precisions=("files",), kv_precisions=("auto",), accelerators=("nvidia-h100-80gb",))
    best = next(each for each in found if each.serving.devices == 1)
    spec = deployment_of(best, LLAMA_8B, source="pvc://models/llama")["spec"]
    assert spec == {
        "model": {"source": "pvc://models/llama"},
        "accelerator": "nvidia-h100-80gb",
        "engine": {"maxModelLen": 1280, "batching": {"maxNumSeqs": best.serving.max_num_seqs}},
        "replicas": best.replicas,
    }


def test_what_is_fetched_has_room_for_its_files_and_its_revision() -> None:
    best = candidates(LLAMA_8B)[0]
    model = deployment_of(best, LLAMA_8B, source=SOURCE, revision="0e9e39f")["spec"]["model"]
    assert model == {"source": SOURCE, "revision": "0e9e39f", "cache": {"size": "17Gi"}}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        pytest.param(SOURCE, "llama-3-3-70b-instruct", id="dots become hyphens"),
        pytest.param("/models/tokenfleet-demo/", "tokenfleet-demo", id="a folder"),
        pytest.param("s3://bucket/7B", "model-7b", id="a name begins with a letter"),
        pytest.param("hf://org/" + "a" * 39 + ".b", "a" * 39, id="a name is short"),
    ],
)
def test_a_deployment_is_called_like_its_model(source: str, name: str) -> None:
    assert name_of(source) == name
    parse_spec(name, {"model": {"source": "pvc://m"}, "accelerator": "cpu"})


def test_files_of_this_machine_are_said_to_be_in_a_claim() -> None:
    best = candidates(LLAMA_8B)[0]
    assert deployment_of(best, LLAMA_8B, source="/data/My_Model")["spec"]["model"] == {"source": "pvc://models/my-model"}
