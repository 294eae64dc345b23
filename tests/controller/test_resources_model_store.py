"""Where the files of a model, a draft and adapters come from, and where they stand in a pod."""

from typing import Any

import pytest

from tests.controller.objects import llm_deployment, spec_of
from tests.controller.test_resources import child, engine_container, engine_pod
from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import model_store

HUB = {"source": "hf://org/llama"}
DRAFT = {"speculative": {"method": "draft", "draftModel": "pvc://weights/small"}}


def fetch(**spec: Any) -> Json:
    (container,) = engine_pod(**spec)["spec"]["initContainers"]
    return dict(container)


def mounted(**spec: Any) -> dict[str, str]:
    """What the engine reads: mount path by the claim's name, or `cache`."""
    pod = engine_pod(**spec)["spec"]
    claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName", "cache") for volume in pod["volumes"]}
    mounts = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] not in ("shm", "tmp")]
    assert all(mount["readOnly"] for mount in mounts), "an engine writes to no model"
    return {claims[mount["name"]]: mount["mountPath"] for mount in mounts}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        pytest.param({"source": "pvc://weights/org/llama"}, "/models/org/llama", id="a folder in a claim"),
        pytest.param({"source": "pvc://weights"}, "/models", id="a whole claim"),
        pytest.param(HUB, contract.cached_path("hf://org/llama", None), id="what is fetched"),
        pytest.param({**HUB, "revision": "v2"}, contract.cached_path("hf://org/llama", "v2"), id="a revision of it"),
    ],
)
def test_a_models_files_have_a_path(model: Json, path: str) -> None:
    assert model_store.model_path(spec_of(llm_deployment(model=model))) == path


def test_another_revision_is_another_path_below_the_cache() -> None:
    paths = {contract.cached_path("hf://org/llama", revision) for revision in (None, "v1", "v2")}
    assert len(paths) == 3
    assert all(path.startswith("/cache/hf--org--llama-") for path in paths)


@pytest.mark.parametrize(
    ("spec", "places"),
    [
        pytest.param({"model": {"source": "pvc://weights/llama"}}, {"weights": "/models"}, id="the model's claim"),
        pytest.param({"model": HUB}, {"cache": "/cache"}, id="the cache"),
        pytest.param(
            {"model": {"source": "pvc://weights/llama"}, "engine": DRAFT},
            {"weights": "/models"},
            id="a draft in the same claim",
        ),
        pytest.param(
            {"model": HUB, "engine": DRAFT},
            {"weights": "/claims/weights", "cache": "/cache"},
            id="a draft in a claim beside a model that is fetched",
        ),
        pytest.param(
            {
                "model": {
                    "source": "pvc://weights/llama",
                    "adapters": [
                        {"name": "a", "source": "pvc://adapters.v1/a"},
                        {"name": "b", "source": "pvc://adapters.v1/b"},
                        {"name": "c", "source": "pvc://weights/c"},
                    ],
                },
            },
            {"weights": "/models", "adapters.v1": "/claims/adapters.v1"},
            id="adapters of two claims, each mounted once",
        ),
    ],
)
def test_the_engine_reads_what_it_is_given(spec: Json, places: dict[str, str]) -> None:
    assert mounted(**spec) == places


def test_nothing_is_fetched_that_a_claim_has() -> None:
    assert "initContainers" not in engine_pod()["spec"]
    assert [volume["name"] for volume in engine_pod()["spec"]["volumes"]] == ["model", "shm", "tmp"]


def test_all_that_is_fetched_is_fetched_once_and_the_model_first() -> None:
    adapters = [{"name": "a", "source": "s3://adapters/a"}, {"name": "b", "source": "s3://adapters/a"}]
    draft = {"speculative": {"method": "eagle3", "draftModel": "hf://org/head", "draftRevision": "main"}}
    container = fetch(
        model={**HUB, "revision": "v2", "adapters": [*adapters, {"name": "c", "source": "pvc://c"}]}, engine=draft
    )
    assert container["command"] == ["tokenfleet-engine"]
    assert container["args"] == ["fetch", "--cache", "/cache", "hf://org/llama@v2", "hf://org/head@main", "s3://adapters/a"]


def test_only_what_fetches_may_write_and_has_the_credentials() -> None:
    spec: Json = {"model": {**HUB, "credentials": {"secretName": "hf-token"}}}
    container, engine = fetch(**spec), engine_container(**spec)
    assert container["envFrom"] == [{"secretRef": {"name": "hf-token"}}]
    assert "envFrom" not in engine and "hf-token" not in str(engine)
    assert container["volumeMounts"] == [{"name": "cache", "mountPath": "/cache"}, {"name": "tmp", "mountPath": "/tmp"}]
    assert container["image"] == engine["image"]
    assert container["securityContext"] == engine["securityContext"]
    assert "envFrom" not in fetch(model=HUB)


def test_a_failure_of_the_download_is_left_where_the_controller_looks() -> None:
    container = fetch(model=HUB)
    assert container["terminationMessagePath"] == contract.TERMINATION_LOG_PATH
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert "limits" not in container["resources"]


@pytest.mark.parametrize(
    ("cache", "source", "room"),
    [
        pytest.param(None, {"emptyDir": {}}, None, id="the node's disk, as far as it goes"),
        pytest.param({"size": "40960Mi"}, {"emptyDir": {"sizeLimit": "40Gi"}}, "40Gi", id="the node's disk, with room"),
        pytest.param(
            {"persistentVolumeClaim": "models"}, {"persistentVolumeClaim": {"claimName": "models"}}, None, id="a claim"
        ),
    ],
)
def test_the_cache_is_on_the_nodes_disk_or_in_a_claim(cache: Json | None, source: Json, room: str | None) -> None:
    spec: Json = {"model": HUB if cache is None else {**HUB, "cache": cache}}
    (volume,) = [volume for volume in engine_pod(**spec)["spec"]["volumes"] if volume["name"] == "cache"]
    assert volume == {"name": "cache", **source}
    assert fetch(**spec)["resources"]["requests"].get("ephemeral-storage") == room


@pytest.mark.parametrize(
    ("spec", "ours"),
    [
        pytest.param({"model": {**HUB, "cache": {"persistentVolumeClaim": "c"}}}, True, id="a claim that is ours to fill"),
        pytest.param({"model": HUB}, False, id="the node's disk, which all may write to"),
        pytest.param({}, False, id="a claim that is only read"),
        pytest.param(
            {"model": {**HUB, "cache": {"persistentVolumeClaim": "c"}}, "engine": DRAFT},
            False,
            id="a claim to fill beside one that is only read",
        ),
        pytest.param(
            {"model": {**HUB, "cache": {"persistentVolumeClaim": "weights"}}, "engine": DRAFT},
            True,
            id="a claim to fill that a draft is read from as well",
        ),
    ],
)
def test_the_kubelet_hands_over_a_claim_that_is_ours_and_no_other(spec: Json, ours: bool) -> None:
    security = engine_pod(**spec)["spec"]["securityContext"]
    assert (security.get("fsGroup"), security.get("fsGroupChangePolicy")) == (
        (65532, "OnRootMismatch") if ours else (None, None)
    )


def test_a_rollout_waits_for_a_large_model_to_arrive() -> None:
    waits = [
        child("Deployment", "llama-engine", model=model)["spec"]["progressDeadlineSeconds"]
        for model in (HUB, {"source": "pvc://c"})
    ]
    assert waits == [5400 + 7200, 5400]


def test_a_user_may_change_the_container_that_fetches() -> None:
    more = {"name": "fetch", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]}
    container = fetch(model=HUB, podTemplate={"spec": {"initContainers": [more]}})
    assert container["env"] == more["env"]
    assert container["args"][0] == "fetch"


def test_the_pods_annotation_names_the_adapters_and_is_absent_without_any() -> None:
    adapters = [{"name": "b", "source": "hf://org/b"}, {"name": "a", "source": "hf://org/a"}]
    assert engine_pod(model={**HUB, "adapters": adapters})["metadata"]["annotations"] == {contract.ANNOTATION_ADAPTERS: "b,a"}
    assert "annotations" not in engine_pod(model=HUB)["metadata"]


@pytest.mark.parametrize("model", [HUB, {"source": "pvc://weights/llama"}], ids=["what would be fetched", "a claim"])
def test_a_simulator_reads_nothing(model: Json) -> None:
    pod = engine_pod(accelerator="simulated", model=model)["spec"]
    assert "initContainers" not in pod
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["tmp"]
