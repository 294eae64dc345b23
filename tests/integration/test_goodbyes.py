"""Goodbyes against a real API server: the writes to pods and nodes' notices. The test is the ReplicaSet and the kubelet."""

import json
from collections.abc import Iterator

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.operators import Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller import kinds
from tokenfleet.controller.cluster import Stale, decide

NAMESPACE = "goodbyes"
NODE = "goodbyes-node"


@pytest.fixture(scope="module")
def namespace(api: httpx.Client) -> Namespace:
    return Namespace(api, NAMESPACE)


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, namespace: Namespace, operators: Operators) -> Iterator[Operator]:
    """One that watches the whole cluster, since nodes are of no namespace."""
    operator = operators.start(control_plane.kubeconfig, NAMESPACE, WATCH_NAMESPACES="", WATCH_NODES="true")
    eventually("the controller to be ready", operator.leads)
    yield operator
    assert operator.terminate() == 0, operator.log


def engine(namespace: Namespace, deployment: str, name: str, *, ready: bool = True) -> None:
    """A pod on a node, whose containers are ready."""
    labels = {contract.LABEL_DEPLOYMENT: deployment, contract.LABEL_ROLE: contract.ROLE_ENGINE, "pod-template-hash": "a"}
    container = {"name": contract.CONTAINER_ENGINE, "image": "x"}
    spec = {
        "nodeName": NODE,
        "containers": [container],
        "readinessGates": [{"conditionType": contract.CONDITION_IN_USE}],
        "terminationGracePeriodSeconds": 0,
    }
    namespace.create("Pod", {"metadata": {"name": name, "labels": labels}, "spec": spec})
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    running = {**container, "imageID": "", "ready": True, "started": True, "restartCount": 0, "state": state}
    conditions = [{"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}]
    if ready:
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"})
    status = {"phase": "Running", "podIP": "10.9.9.9", "conditions": conditions, "containerStatuses": [running]}
    namespace.patch("Pod", name, {"status": status}, subresource="status")


def annotations(namespace: Namespace, pod: str) -> dict[str, str]:
    return namespace.one("Pod", pod)["metadata"].get("annotations") or {}


def count(namespace: Namespace, deployment: str) -> int:
    return int(namespace.one("Deployment", f"{deployment}-engine")["spec"]["replicas"])


def rolled_out(namespace: Namespace, deployment: str) -> None:
    child = namespace.one("Deployment", f"{deployment}-engine")
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), child["spec"]["replicas"])
    status = {"observedGeneration": child["metadata"]["generation"], **counts}
    namespace.patch("Deployment", f"{deployment}-engine", {"status": status}, subresource="status")


def deployed(namespace: Namespace, name: str, *, replicas: int, drain: int) -> None:
    namespace.deploy(name, replicas=replicas, drain={"timeoutSeconds": drain})
    eventually("the engines' Deployment", lambda: namespace.get("Deployment", f"{name}-engine"))
    rolled_out(namespace, name)


def test_a_scale_down_waits_for_the_drain_and_one_that_is_cancelled_ends(namespace: Namespace, operator: Operator) -> None:
    deployed(namespace, "fewer", replicas=3, drain=8)
    for pod in ("fewer-a", "fewer-b", "fewer-c"):
        engine(namespace, "fewer", pod)
    namespace.patch(contract.KIND, "fewer", {"spec": {"replicas": 2}})

    def marked() -> list[str]:
        pods = ("fewer-a", "fewer-b", "fewer-c")
        return [pod for pod in pods if contract.ANNOTATION_DRAINING in annotations(namespace, pod)]

    (first,) = eventually("a mark", marked)
    assert annotations(namespace, first)[contract.ANNOTATION_DELETION_COST] == "-1000"
    assert count(namespace, "fewer") == 3
    rows = eventually("it to be told", lambda: namespace.one(contract.KIND, "fewer")["status"].get("draining"))
    assert [row["pod"] for row in rows] == [first]
    namespace.patch(contract.KIND, "fewer", {"spec": {"replicas": 3}})
    eventually("the mark to be gone", lambda: not marked())
    assert annotations(namespace, first) == {}
    namespace.patch(contract.KIND, "fewer", {"spec": {"replicas": 2}})
    (second,) = eventually("another mark", marked)
    eventually("the deadline", lambda: count(namespace, "fewer") == 2)
    namespace.delete("Pod", second)
    eventually("the end of it", lambda: "draining" not in namespace.one(contract.KIND, "fewer")["status"])


def test_a_gate_is_opened_beside_what_the_kubelet_says(namespace: Namespace, operator: Operator) -> None:
    deployed(namespace, "gated", replicas=1, drain=5)
    engine(namespace, "gated", "gated-a", ready=False)

    def conditions() -> dict[str, str]:
        return {each["type"]: each["status"] for each in namespace.one("Pod", "gated-a")["status"]["conditions"]}

    eventually("the gate to be open", lambda: conditions().get(contract.CONDITION_IN_USE) == "True")
    assert conditions()["ContainersReady"] == "True"


def test_a_notice_of_a_node_makes_room_elsewhere_first_and_is_taken_back(
    api: httpx.Client, namespace: Namespace, operator: Operator
) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    api.post(kinds.NODE.path(None), json=node).raise_for_status()
    deployed(namespace, "doomed", replicas=1, drain=5)
    engine(namespace, "doomed", "doomed-a")
    eventually("it to be ready", lambda: namespace.condition("doomed", c.ENGINE_READY).get("status") == "True")

    def notice(annotations: Json) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        body = json.dumps({"metadata": {"annotations": annotations}})
        api.patch(f"{kinds.NODE.path(None)}/{NODE}", content=body, headers=headers).raise_for_status()

    notice({contract.ANNOTATION_NOTICE: "maintenance"})
    eventually("room for another one", lambda: count(namespace, "doomed") == 2)
    assert contract.ANNOTATION_NOTICED in annotations(namespace, "doomed-a")
    assert contract.ANNOTATION_DRAINING not in annotations(namespace, "doomed-a"), "it is the only one"
    notice({contract.ANNOTATION_NOTICE: None})
    eventually("no more than before", lambda: count(namespace, "doomed") == 1)
    eventually("nothing of it on the pod", lambda: annotations(namespace, "doomed-a") == {})


def test_a_pod_of_the_same_name_is_not_marked(namespace: Namespace) -> None:
    namespace.create("Pod", {"metadata": {"name": "another"}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    body = {"metadata": {"uid": "of-the-one-before", "annotations": {"a": "b"}}}
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = namespace.client.patch(namespace.path("Pod", "another"), content=json.dumps(body), headers=headers)
    assert isinstance(decide("PATCH", answer.status_code, answer.content), Stale)
    assert annotations(namespace, "another") == {}
