"""The Job that inspects a model: what its pod gets to see, and when it becomes another one."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from tests.conftest import Golden
from tests.controller.inspected import INSPECTING
from tests.controller.objects import NAME, llm_deployment, spec_of
from tokenfleet import contract
from tokenfleet.controller.inspections import subject
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.inspection import build_inspection
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.settings import ControllerSettings

FETCHED: Json = {
    "model": {
        "source": "hf://org/llama-8b",
        "revision": "0e9e39f249a16976918f6564b8830bc894c89659",
        "credentials": {"secretName": "hf-token"},
        "cache": {"size": "40Gi"},
        "adapters": [{"name": "chat", "source": "pvc://adapters/chat"}],
    },
    "accelerator": "nvidia-h100-80gb",
    "engine": {"speculative": {"method": "draft", "draftModel": "pvc://drafts/llama-1b", "numTokens": 3}},
    "podTemplate": {
        "metadata": {"labels": {"team": "search"}},
        "spec": {
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "imagePullSecrets": [{"name": "registry"}],
            "serviceAccountName": "reader",
            "securityContext": {"supplementalGroups": [2000]},
            "containers": [{"name": "engine", "image": "example.org/mine:1"}],
        },
    },
}


def job(*, settings: ControllerSettings = INSPECTING, **spec: Any) -> Json:
    deployment = llm_deployment(**spec)
    parsed = spec_of(deployment)
    accelerator = find_accelerator(parsed.accelerator)
    return build_inspection(deployment, parsed, settings, accelerator, of=subject.digest_of(deployment))


def pod_of(body: Json) -> Json:
    spec: Json = body["spec"]["template"]["spec"]
    return spec


def container_of(body: Json) -> Json:
    (container,) = pod_of(body)["containers"]
    return dict(container)


def test_it_is_the_one_reviewed(golden: Golden) -> None:
    text = yaml.safe_dump(job(**FETCHED), sort_keys=False, width=120)
    golden("controller/inspection.yaml", f"# The Job of tests/controller/test_resources_inspection.py's FETCHED.\n{text}")


def test_a_claims_model_is_read_where_engines_read_it_and_nothing_else_is_mounted() -> None:
    body = job(model={"source": "pvc://weights/org/llama", "adapters": [{"name": "a", "source": "pvc://adapters/a"}]})
    assert container_of(body)["args"] == ["inspect", "/models/org/llama"]
    assert [(mount["name"], mount.get("readOnly")) for mount in container_of(body)["volumeMounts"]] == [
        ("model", True),
        ("tmp", None),
    ]
    assert [volume["name"] for volume in pod_of(body)["volumes"]] == ["model", "tmp"]


def test_claims_are_told_apart_by_their_whole_names() -> None:
    speculative = {"method": "draft", "draftModel": "pvc://weights-2/small", "numTokens": 3}
    body = job(
        model={"source": "pvc://weights", "adapters": [{"name": "a", "source": "pvc://weights-22/a"}]},
        engine={"speculative": speculative},
    )
    assert container_of(body)["args"] == ["inspect", "/models", "--draft", "/claims/weights-2/small"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod_of(body)["volumes"][:-1]]
    assert claims == ["weights", "weights-2"]


def test_it_has_no_rights_and_is_no_engine() -> None:
    body = job()
    assert pod_of(body)["automountServiceAccountToken"] is False
    assert body["spec"]["template"]["metadata"]["labels"][contract.LABEL_ROLE] == contract.ROLE_INSPECTION
    assert "tolerations" not in pod_of(body), "a pod without a GPU stays off their nodes where it can"


HUB: Json = {"source": "hf://org/llama"}


@pytest.mark.parametrize(
    ("spec", "before"),
    [
        pytest.param({"model": {"source": "pvc://weights/other"}}, {}, id="another model"),
        pytest.param({"model": {**HUB, "credentials": {"secretName": "s"}}}, {"model": HUB}, id="with other credentials"),
        pytest.param({"podTemplate": {"spec": {"tolerations": [{"operator": "Exists"}]}}}, {}, id="where it may run"),
    ],
)
def test_what_a_jobs_pods_depend_on_is_in_its_name(spec: Json, before: Json) -> None:
    """A Job's template cannot change."""
    assert job(**spec)["metadata"]["name"] != job(**before)["metadata"]["name"]


def test_another_operator_makes_another_job() -> None:
    upgraded = replace(INSPECTING, operator_image="example.org/tokenfleet:2.0")
    assert job(settings=upgraded)["metadata"]["name"] != job()["metadata"]["name"]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"replicas": 7}, id="a count"),
        pytest.param({"engine": {"maxModelLen": 512}}, id="the engine"),
        pytest.param({"podTemplate": {"spec": {"nodeSelector": {"pool": "gpu"}}}}, id="where engines run"),
    ],
)
def test_what_it_does_not_depend_on_leaves_it_as_it_is(spec: Json) -> None:
    assert job(**spec) == job()


def test_the_longest_name_leaves_room_for_its_pods() -> None:
    deployment = llm_deployment(name="a" * contract.MAX_NAME_LENGTH)
    parsed = spec_of(deployment)
    body = build_inspection(deployment, parsed, INSPECTING, find_accelerator("cpu"), of="x")
    assert len(body["metadata"]["name"] + "-x2x4p") <= 63


def test_a_pod_template_of_another_shape_is_an_invalid_spec() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.podTemplate\.spec\.imagePullSecrets"):
        job(podTemplate={"spec": {"imagePullSecrets": "registry"}})


def test_its_children_are_named_after_the_llmdeployment() -> None:
    assert job()["metadata"]["name"].startswith(f"{NAME}-inspect-")
