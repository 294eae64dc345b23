"""podTemplate: how the user's part of a pod is merged into ours, and what of it cannot be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.api import conditions
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.template import merge_pod_template
from tokenfleet.errors import InvalidSpec


def ours() -> Json:
    return {
        "metadata": {"labels": {"tokenfleet.dev/role": "engine"}},
        "spec": {
            "containers": [
                {
                    "name": "engine",
                    "image": "ours",
                    "args": ["serve", "--port", "8000"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "1", "memory": "4Gi"}},
                    "livenessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10},
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "volumes": [{"name": "model", "persistentVolumeClaim": {"claimName": "weights"}}, {"name": "tmp", "emptyDir": {}}],
            "securityContext": {"runAsUser": 65532, "runAsNonRoot": True},
        },
    }


def merge(spec: Json, metadata: Json | None = None) -> Json:
    return merge_pod_template(ours(), metadata=metadata or {}, spec=spec)


def engine(**fields: Any) -> Json:
    """The engine's container after a merge of these fields."""
    container: Json = merge({"containers": [{"name": "engine", **fields}]})["spec"]["containers"][0]
    return container


def test_nothing_given_changes_nothing() -> None:
    assert merge({}) == ours()
    assert merge({}, {"labels": {}, "annotations": {}}) == ours()


def test_labels_and_annotations_are_added() -> None:
    metadata = merge({}, {"labels": {"team": "x"}, "annotations": {"a": "b"}})["metadata"]
    assert metadata == {"labels": {"tokenfleet.dev/role": "engine", "team": "x"}, "annotations": {"a": "b"}}


@pytest.mark.parametrize(
    ("field", "value", "merged"),
    [
        pytest.param("image", "theirs", "theirs", id="a word is replaced"),
        pytest.param("args", ["help"], ["help"], id="a list of words is replaced"),
        pytest.param(
            "env",
            [{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}, {"name": "C", "value": "3"}],
            [
                {"name": "A", "value": "1"},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
                {"name": "C", "value": "3"},
            ],
            id="a variable replaces ours whole, since value and valueFrom exclude each other",
        ),
        pytest.param(
            "resources",
            {"requests": {"memory": "8Gi"}, "limits": {"memory": "8Gi"}},
            {"requests": {"cpu": "1", "memory": "8Gi"}, "limits": {"memory": "8Gi"}},
            id="resources are merged by name",
        ),
        pytest.param(
            "livenessProbe",
            {"periodSeconds": 60},
            {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 60},
            id="a probe is merged",
        ),
        pytest.param(
            "livenessProbe",
            {"httpGet": None, "exec": {"command": ["true"]}},
            {"exec": {"command": ["true"]}, "periodSeconds": 10},
            id="null removes a field",
        ),
        pytest.param(
            "volumeMounts",
            [{"mountPath": "/tmp", "name": "disk"}, {"mountPath": "/data", "name": "disk"}],
            [{"mountPath": "/tmp", "name": "disk"}, {"mountPath": "/data", "name": "disk"}],
            id="a mount goes by its path",
        ),
        pytest.param(
            "ports",
            [{"containerPort": 9100, "name": "extra"}],
            [{"name": "http", "containerPort": 8000, "protocol": "TCP"}, {"containerPort": 9100, "name": "extra"}],
            id="a port is added",
        ),
    ],
)
def test_the_engine_container_is_merged(field: str, value: Any, merged: Any) -> None:
    assert engine(**{field: value})[field] == merged


def test_null_removes_a_whole_field() -> None:
    assert "livenessProbe" not in engine(livenessProbe=None)


@pytest.mark.parametrize(
    ("spec", "merged"),
    [
        pytest.param(
            {"tolerations": [{"key": "a"}, {"key": "nvidia.com/gpu", "operator": "Exists"}]},
            {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "a"}]},
            id="tolerations are added, each once",
        ),
        pytest.param(
            {"volumes": [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": {}}}]},
            {
                "volumes": [
                    {"name": "model", "persistentVolumeClaim": {"claimName": "weights"}},
                    {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {}}},
                ]
            },
            id="a volume replaces ours whole, since sources exclude each other",
        ),
        pytest.param(
            {"securityContext": {"fsGroup": 1000}},
            {"securityContext": {"runAsUser": 65532, "runAsNonRoot": True, "fsGroup": 1000}},
            id="an object is merged",
        ),
        pytest.param({"nodeSelector": {"pool": "gpu"}}, {"nodeSelector": {"pool": "gpu"}}, id="a field that we do not set"),
        pytest.param(
            {"initContainers": [{"name": "fetch", "image": "x"}]},
            {"initContainers": [{"name": "fetch", "image": "x"}]},
            id="an init container is added",
        ),
        pytest.param(
            {"affinity": {"nodeAffinity": {"x": [1, 2]}}}, {"affinity": {"nodeAffinity": {"x": [1, 2]}}}, id="lists stay lists"
        ),
    ],
)
def test_the_pod_is_merged(spec: Json, merged: Json) -> None:
    assert merge(spec)["spec"] == {**ours()["spec"], **merged}


def test_another_container_stands_beside_the_engine() -> None:
    containers = merge({"containers": [{"name": "shipper", "image": "x"}]})["spec"]["containers"]
    assert [container["name"] for container in containers] == ["engine", "shipper"]


@pytest.mark.parametrize(
    ("fields", "path", "kept"),
    [
        pytest.param({"resources": {"limits": {"memory": "1024Mi"}}}, "resources.limits.memory", "1Gi", id="a limit"),
        pytest.param({"resources": {"requests": {"cpu": 0.5}}}, "resources.requests.cpu", "500m", id="a number"),
        pytest.param({"resources": {"requests": {"cpu": 2}}}, "resources.requests.cpu", "2", id="a whole number"),
    ],
)
def test_quantities_come_in_the_api_servers_form(fields: Json, path: str, kept: str) -> None:
    value: Any = engine(**fields)
    for key in path.split("."):
        value = value[key]
    assert value == kept


def test_quantities_deep_inside_do_too() -> None:
    claim = {"spec": {"resources": {"requests": {"storage": "2048Gi"}}}}
    volumes = merge(
        {
            "volumes": [
                {"name": "disk", "ephemeral": {"volumeClaimTemplate": claim}},
                {"name": "tmp", "emptyDir": {"sizeLimit": 1024}},
            ],
            "overhead": {"memory": "1024Ki"},
        }
    )["spec"]
    assert volumes["volumes"][1]["emptyDir"] == {"sizeLimit": "1024"}
    assert volumes["volumes"][2]["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"]["requests"] == {"storage": "2Ti"}
    assert volumes["overhead"] == {"memory": "1Mi"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"containers": {}}, "containers: must be a list of objects", id="an object for a list"),
        pytest.param({"containers": ["x"]}, "containers: must be a list of objects", id="words in a list"),
        pytest.param({"containers": [{"image": "x"}]}, "containers[0].name: required", id="no name"),
        pytest.param({"containers": [{"name": ["x"]}]}, "containers[0].name: required", id="a name that is a list"),
        pytest.param(
            {"containers": [{"name": "engine"}, {"name": "engine"}]},
            "containers[1].name: 'engine' stands in the list twice",
            id="a name twice",
        ),
        pytest.param(
            {"containers": [{"name": "engine", "env": [{"value": "x"}]}]},
            "containers[0].env[0].name: required",
            id="a variable without a name",
        ),
        pytest.param(
            {"containers": [{"name": "engine", "resources": {"limits": {"memory": "lots"}}}]},
            "containers[0].resources.limits.memory: 'lots' is no quantity",
            id="a quantity that is none",
        ),
        pytest.param(
            {"securityContext": "restricted"},
            "securityContext: must be an object",
            id="a word for an object",
        ),
        pytest.param({"tolerations": "all"}, "tolerations: must be a list of objects", id="a word for a list"),
        pytest.param(
            {"volumes": [{"name": "x", "emptyDir": {"sizeLimit": "1GiB"}}]},
            "volumes[0].emptyDir.sizeLimit: '1GiB' is no quantity",
            id="a size that is none",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_with_its_path(spec: Json, message: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        merge(spec)
    assert refused.value.message.startswith(f"spec.podTemplate.spec.{message}")
    assert refused.value.reason == conditions.INVALID_SPEC


def _json() -> st.SearchStrategy[Any]:
    keys = st.sampled_from(
        ["containers", "env", "volumes", "tolerations", "limits", "securityContext", "name", "x", "sizeLimit"]
    )
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
    return st.recursive(
        leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner)), max_leaves=12
    )


@given(spec=st.dictionaries(st.sampled_from(["containers", "volumes", "tolerations", "x", "securityContext"]), _json()))
def test_whatever_is_written_is_merged_or_refused_and_never_breaks(spec: Json) -> None:
    try:
        merged = merge(spec)
    except InvalidSpec as refused:
        assert refused.message.startswith("spec.podTemplate.spec")
    else:
        assert merged["metadata"] == ours()["metadata"]
