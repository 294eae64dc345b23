"""The children at a real API server: it takes them as they are, and keeps them as they were sent.

What it kept otherwise would look like somebody's edit, and every reconcile would write it anew.
"""

from collections.abc import Iterator

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.controller.objects import NAMESPACE, SETTINGS, llm_deployment, spec_of
from tests.controller.test_resources import CASES
from tests.controller.test_resources_quantities import TABLE
from tests.integration.raw_api import connected
from tokenfleet import contract
from tokenfleet.controller import kinds
from tokenfleet.controller.drift import covers
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import build_children
from tokenfleet.controller.resources.quantities import MILLI, canonical_quantity

_APPLY = {"fieldManager": contract.FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
_APPLY_TYPE = {"Content-Type": "application/apply-patch+yaml"}

PODS: list[Json] = [
    {"containers": [{"name": "engine", "resources": {"requests": {"cpu": 0.5, "memory": "1024Mi"}, "limits": {"cpu": 2}}}]},
    {"containers": [{"name": "engine", "env": [{"name": "EMPTY", "value": ""}, {"name": "A", "value": "1"}]}]},
    {"containers": [{"name": "engine", "livenessProbe": None, "startupProbe": {"httpGet": None, "tcpSocket": {"port": 8000}}}]},
    {
        "containers": [
            {"name": "engine", "ports": [{"containerPort": 9100}], "volumeMounts": [{"name": "tmp", "mountPath": "/x"}]}
        ]
    },
    {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "2048Mi"}}, {"name": "shm", "emptyDir": {"medium": "Memory"}}]},
    {"hostNetwork": False, "nodeSelector": {}, "tolerations": [{"key": "a", "operator": "Exists"}], "hostAliases": []},
    {
        "initContainers": [{"name": "fetch", "image": "x", "restartPolicy": "Always"}],
        "imagePullSecrets": [{"name": "registry"}],
    },
    {
        "topologySpreadConstraints": [
            {"topologyKey": "kubernetes.io/hostname", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}
        ]
    },
    {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}, "priorityClassName": "high"},
    {"securityContext": {"fsGroup": 1000, "supplementalGroups": [4, 5]}, "terminationGracePeriodSeconds": 7},
]
"""podTemplates that the API server keeps in another form than a person writes them."""
AUTOSCALED: Json = {"maxReplicas": 4, "actuator": "HPA"}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    with connected(control_plane) as client:
        client.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}})
        yield client


def applied(api: httpx.Client, child: Json) -> Json:
    path = kinds.of(child["kind"]).path(NAMESPACE, child["metadata"]["name"])
    answer = api.patch(path, json=child, params=_APPLY, headers=_APPLY_TYPE)
    assert answer.is_success, f"{child['kind']} {child['metadata']['name']}: {answer.text}"
    body: Json = answer.json()
    return body


@pytest.mark.parametrize(
    "spec",
    [
        *(pytest.param(spec, id=case) for case, spec in CASES.items()),
        pytest.param({"autoscaling": AUTOSCALED}, id="scaled by a HorizontalPodAutoscaler"),
        pytest.param(
            {"autoscaling": AUTOSCALED | {"queueDepth": 20_000, "concurrency": 1234, "scaleDown": {"stabilizationSeconds": 0}}},
            id="scaled likewise, by large numbers and without a window",
        ),
        *(
            pytest.param({"podTemplate": {"spec": spec}}, id=f"podTemplate with {', '.join(spec)} {n}")
            for n, spec in enumerate(PODS)
        ),
    ],
)
def test_children_are_kept_as_sent_and_a_second_apply_changes_nothing(api: httpx.Client, spec: Json) -> None:
    deployment = llm_deployment(**spec)
    for child in build_children(deployment, spec_of(deployment), SETTINGS):
        live = applied(api, child)
        assert covers(live, child), f"{child['kind']} {child['metadata']['name']}"
        again = applied(api, child)
        assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]


@pytest.mark.parametrize("written", [pytest.param(row[0], id=repr(row[0])) for row in TABLE if row[1] != "-1"])
def test_a_quantity_in_our_form_is_kept_and_means_what_was_written(api: httpx.Client, written: object) -> None:
    ours = canonical_quantity(written, finest=MILLI)
    assert kept(api, ours) == ours
    assert canonical_quantity(kept(api, written), finest=MILLI) == ours


def kept(api: httpx.Client, quantity: object) -> str:
    """What the API server makes of a quantity; nothing is stored."""
    quota = {"metadata": {"name": "x"}, "spec": {"hard": {"requests.memory": quantity}}}
    answer = api.post(f"/api/v1/namespaces/{NAMESPACE}/resourcequotas", json=quota, params={"dryRun": "All"})
    assert answer.is_success, answer.text
    return str(answer.json()["spec"]["hard"]["requests.memory"])


def test_changing_between_specs_leaves_nothing_of_the_one_before(api: httpx.Client) -> None:
    sent = {}
    for case in ("everything", "cached", "fetched", "cpu"):
        deployment = llm_deployment(**CASES[case])
        for child in build_children(deployment, spec_of(deployment), SETTINGS):
            sent[child["kind"], child["metadata"]["name"]] = applied(api, child)
    pod = sent["Deployment", "llama-engine"]["spec"]["template"]
    assert [container["name"] for container in pod["spec"]["containers"]] == ["engine"]
    assert not pod["spec"].keys() & {"nodeSelector", "tolerations", "affinity", "imagePullSecrets", "initContainers"}
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["model", "shm", "tmp"]
    assert not {"fsGroup", "fsGroupChangePolicy"} & pod["spec"]["securityContext"].keys()
    assert "env" not in pod["spec"]["containers"][0]
    assert "team" not in pod["metadata"]["labels"]
    assert "annotations" not in pod["metadata"]
