"""A running controller against a real API server: it puts things right, leaves others' things alone, and is quiet.

There is no controller-manager here, so the test is the garbage collector and the kubelet where one is needed.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.operators import Audit, Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c

NAMESPACE = "reconcile"
QUIET_SECONDS = 0.7


@pytest.fixture(scope="module")
def namespace(api: httpx.Client) -> Namespace:
    return Namespace(api, NAMESPACE)


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, namespace: Namespace, operators: Operators) -> Iterator[Operator]:
    operator = operators.start(control_plane.kubeconfig, NAMESPACE)
    eventually("the controller to be ready", operator.leads)
    yield operator
    assert operator.terminate() == 0, operator.log


@pytest.fixture
def audit(control_plane: ControlPlane) -> Audit:
    return Audit(control_plane, NAMESPACE)


@pytest.fixture
def name(request: pytest.FixtureRequest, namespace: Namespace, operator: Operator, audit: Audit) -> str:
    """A converged LLMDeployment of the test's own."""
    name = f"llm-{abs(hash(request.node.nodeid)) % 10**8}"
    namespace.deploy(name)
    eventually("its status", lambda: namespace.condition(name, c.READY))
    time.sleep(0.3)
    audit.restart()
    return name


def fresh(request: pytest.FixtureRequest) -> str:
    return f"own-{abs(hash(request.node.nodeid)) % 10**8}"


def falls_quiet(audit: Audit) -> None:
    """Whatever is under way comes to its end, and then nothing is written any more."""

    def is_quiet() -> bool:
        audit.restart()
        time.sleep(QUIET_SECONDS)
        return audit.writes() == []

    eventually("no more writes", is_quiet, seconds=10)


def test_a_new_llmdeployment_has_its_children_and_a_status(name: str, namespace: Namespace) -> None:
    assert set(namespace.children(name)) == {
        ("Deployment", f"{name}-engine"),
        ("Deployment", f"{name}-router"),
        ("NetworkPolicy", f"{name}-engine"),
        ("PodDisruptionBudget", f"{name}-engine"),
        ("PodDisruptionBudget", f"{name}-router"),
        ("Role", f"{name}-router"),
        ("RoleBinding", f"{name}-router"),
        ("Service", f"{name}-engine"),
        ("Service", name),
        ("ServiceAccount", f"{name}-router"),
    }
    status = namespace.one(contract.KIND, name)["status"]
    assert status["observedGeneration"] == 1
    assert {each["type"] for each in status["conditions"]} == {c.READY, *c.PARTS} - {c.SCALING_READY, c.MODEL_FITS}


def test_nothing_of_ours_stands_on_the_users_object(name: str, namespace: Namespace) -> None:
    """No finalizer, so that deletion works without us, and no annotation."""
    metadata = namespace.one(contract.KIND, name)["metadata"]
    assert "finalizers" not in metadata and "annotations" not in metadata
    managers = [(each["manager"], each.get("subresource")) for each in metadata["managedFields"]]
    assert (contract.FIELD_MANAGER, "status") in managers
    assert (contract.FIELD_MANAGER, None) not in managers


def test_converged_means_quiet(name: str, audit: Audit) -> None:
    time.sleep(3 * QUIET_SECONDS)
    assert audit.writes() == []


@pytest.mark.parametrize("which", range(10))
def test_a_child_deleted_by_hand_is_put_back(name: str, namespace: Namespace, audit: Audit, which: int) -> None:
    before = namespace.children(name)
    kind, child = sorted(before)[which]
    namespace.delete(kind, child)
    made = eventually(f"{kind} {child} to be back", lambda: namespace.get(kind, child))
    assert made["metadata"]["uid"] != before[kind, child]["metadata"]["uid"]
    assert made["metadata"]["ownerReferences"] == before[kind, child]["metadata"]["ownerReferences"]
    time.sleep(0.2)
    assert {write[2] for write in audit.writes()} <= {child, name}, "nothing else was touched"


@pytest.mark.parametrize(
    ("kind", "suffix", "change", "look"),
    [
        pytest.param(
            "Deployment",
            "-engine",
            {"spec": {"replicas": 5}},
            lambda body: body["spec"]["replicas"],
            id="replicas of the engine",
        ),
        pytest.param(
            "Deployment",
            "-router",
            {"spec": {"template": {"spec": {"serviceAccountName": "somebody"}}}},
            lambda body: body["spec"]["template"]["spec"]["serviceAccountName"],
            id="the router's identity",
        ),
        pytest.param(
            "Service", "", {"spec": {"selector": {"app": "evil"}}}, lambda body: body["spec"]["ports"], id="the Service's ports"
        ),
        pytest.param(
            "RoleBinding",
            "-router",
            {"subjects": [{"kind": "User", "name": "intruder", "apiGroup": "rbac.authorization.k8s.io"}]},
            lambda body: body["subjects"],
            id="who has the router's rights",
        ),
        pytest.param(
            "NetworkPolicy", "-engine", {"spec": {"ingress": []}}, lambda body: body["spec"].get("ingress"), id="the fence"
        ),
        pytest.param(
            "PodDisruptionBudget",
            "-engine",
            {"metadata": {"ownerReferences": None}},
            lambda body: body["metadata"].get("ownerReferences"),
            id="its owner",
        ),
        pytest.param(
            "Deployment",
            "-engine",
            {"metadata": {"labels": {contract.LABEL_DEPLOYMENT: None}}},
            lambda body: body["metadata"]["labels"].get(contract.LABEL_DEPLOYMENT),
            id="the label by which we watch",
        ),
        pytest.param(
            "Service",
            "-engine",
            {"metadata": {"labels": {contract.LABEL_DEPLOYMENT: "other"}}},
            lambda body: body["metadata"]["labels"].get(contract.LABEL_DEPLOYMENT),
            id="the label given to another one",
        ),
        pytest.param(
            "ServiceAccount",
            "-router",
            {"metadata": {"annotations": {contract.ANNOTATION_APPLIED_HASH: None}}},
            lambda body: body["metadata"].get("annotations", {}).get(contract.ANNOTATION_APPLIED_HASH),
            id="our hash",
        ),
    ],
)
def test_a_field_edited_by_hand_is_put_back(
    name: str, namespace: Namespace, audit: Audit, kind: str, suffix: str, change: Json, look: Callable[[Json], Any]
) -> None:
    child = name + suffix
    before = look(namespace.one(kind, child))
    namespace.patch(kind, child, change)
    eventually("it to be put back", lambda: look(namespace.one(kind, child)) == before)
    falls_quiet(audit)


def test_what_others_add_is_left_alone(name: str, namespace: Namespace, audit: Audit) -> None:
    extra = {"metadata": {"annotations": {"example.org/theirs": "yes"}, "labels": {"team": "a"}}}
    namespace.patch("Deployment", f"{name}-engine", {**extra, "spec": {"revisionHistoryLimit": 2, "paused": True}})
    namespace.patch("Service", name, extra)
    time.sleep(QUIET_SECONDS)
    assert audit.writes() == []
    namespace.patch(contract.KIND, name, {"spec": {"replicas": 3}})
    eventually("the new spec", lambda: namespace.one("Deployment", f"{name}-engine")["spec"]["replicas"] == 3)
    engine = namespace.one("Deployment", f"{name}-engine")
    assert engine["metadata"]["annotations"]["example.org/theirs"] == "yes"
    assert engine["spec"]["paused"] is True


def test_a_field_that_is_no_longer_sent_is_removed(
    namespace: Namespace, operator: Operator, request: pytest.FixtureRequest
) -> None:
    name = fresh(request)
    namespace.deploy(name, podTemplate={"spec": {"priorityClassName": "urgent", "nodeSelector": {"zone": "a"}}})
    engine = eventually("the engine", lambda: namespace.get("Deployment", f"{name}-engine"))
    assert engine["spec"]["template"]["spec"]["nodeSelector"] == {"zone": "a"}
    namespace.patch(contract.KIND, name, {"spec": {"podTemplate": None}})

    def is_gone() -> bool:
        spec = namespace.one("Deployment", f"{name}-engine")["spec"]["template"]["spec"]
        return "nodeSelector" not in spec and "priorityClassName" not in spec

    eventually("both fields to be gone", is_gone)


def test_a_strangers_object_is_reported_and_left_alone(
    namespace: Namespace, operator: Operator, audit: Audit, request: pytest.FixtureRequest
) -> None:
    name = fresh(request)
    theirs = namespace.create("Service", {"metadata": {"name": name}, "spec": {"ports": [{"port": 1234}]}})
    namespace.deploy(name)
    found = eventually("the report", lambda: _with_reason(namespace, name, c.NAME_CONFLICT))
    assert f"Service {name}" in found["message"]
    assert set(namespace.children(name)) >= {("Deployment", f"{name}-engine"), ("Deployment", f"{name}-router")}
    falls_quiet(audit)
    assert namespace.one("Service", name) == theirs
    events = namespace.client.get(f"/api/v1/namespaces/{NAMESPACE}/events").json()["items"]
    (event,) = [each for each in events if each["involvedObject"]["name"] == name]
    assert (event["type"], event["reason"]) == ("Warning", c.NAME_CONFLICT)


def test_two_llmdeployments_that_want_one_name_do_not_fight(
    name: str, namespace: Namespace, audit: Audit, request: pytest.FixtureRequest
) -> None:
    """The Service of `x-engine` has the name of the engines' Service of `x`."""
    namespace.deploy(f"{name}-engine")
    eventually("the report", lambda: _with_reason(namespace, f"{name}-engine", c.NAME_CONFLICT))
    falls_quiet(audit)
    assert namespace.condition(name, c.SPEC_VALID)["status"] == "True"
    assert namespace.one("Service", f"{name}-engine")["metadata"]["ownerReferences"][0]["name"] == name


def test_an_invalid_spec_becomes_a_condition_and_disturbs_nothing(name: str, namespace: Namespace, audit: Audit) -> None:
    before = namespace.children(name)
    namespace.patch(contract.KIND, name, {"spec": {"accelerator": "abacus", "replicas": 7}})
    found = eventually("the condition", lambda: _with_reason(namespace, name, c.UNKNOWN_ACCELERATOR))
    assert "abacus" in found["message"]
    assert namespace.children(name) == before
    falls_quiet(audit)
    namespace.patch(contract.KIND, name, {"spec": {"accelerator": "cpu", "replicas": 7}})
    eventually("the good spec", lambda: namespace.one("Deployment", f"{name}-engine")["spec"]["replicas"] == 7)


def test_what_the_api_server_refuses_is_told_in_its_own_words(
    namespace: Namespace, operator: Operator, audit: Audit, request: pytest.FixtureRequest
) -> None:
    name = fresh(request)
    namespace.deploy(name, podTemplate={"spec": {"restartPolicy": "Never"}})
    found = eventually("the condition", lambda: _with_reason(namespace, name, c.REJECTED_BY_API_SERVER))
    assert "restartPolicy" in found["message"]
    assert ("Deployment", f"{name}-router") in namespace.children(name)


def test_the_status_follows_the_pods(name: str, namespace: Namespace, audit: Audit) -> None:
    """The test plays the Deployment's controller and the kubelet."""
    for role in ("engine", "router"):
        labels = {contract.LABEL_DEPLOYMENT: name, contract.LABEL_ROLE: role, "pod-template-hash": "a"}
        container = {"name": role, "image": "x"}
        pod = {"metadata": {"name": f"{name}-{role}-a", "labels": labels}, "spec": {"containers": [container]}}
        namespace.create("Pod", pod)
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        running = {**container, "imageID": "", "ready": True, "started": True, "restartCount": 0, "state": state}
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}
        status = {"phase": "Running", "podIP": "127.9.9.9", "conditions": [ready], "containerStatuses": [running]}
        namespace.patch("Pod", f"{name}-{role}-a", {"status": status}, subresource="status")
        child = namespace.one("Deployment", f"{name}-{role}")
        wanted = child["spec"]["replicas"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted)
        done = {"observedGeneration": child["metadata"]["generation"], **counts}
        namespace.patch("Deployment", f"{name}-{role}", {"status": done}, subresource="status")
    eventually("it to be ready", lambda: namespace.condition(name, c.READY).get("status") == "True")
    status = namespace.one(contract.KIND, name)["status"]
    assert (status["readyReplicas"], status["ready"]) == (1, "1/1")
    falls_quiet(audit)
    namespace.patch("Pod", f"{name}-engine-a", {"status": {"conditions": None}}, subresource="status")
    eventually("it to be ready no more", lambda: namespace.condition(name, c.READY)["status"] == "False")


def test_late_events_of_children_do_not_bring_a_deleted_one_back(name: str, namespace: Namespace, audit: Audit) -> None:
    namespace.delete(contract.KIND, name)
    namespace.patch("Service", name, {"metadata": {"labels": {"late": "yes"}}})
    namespace.delete("Deployment", f"{name}-engine")
    time.sleep(QUIET_SECONDS)
    assert audit.writes() == []
    assert namespace.get("Deployment", f"{name}-engine") is None


def test_one_that_is_being_deleted_is_left_in_peace(
    namespace: Namespace, operator: Operator, audit: Audit, request: pytest.FixtureRequest
) -> None:
    name = fresh(request)
    namespace.deploy(name)
    eventually("its status", lambda: namespace.condition(name, c.READY))
    namespace.patch(contract.KIND, name, {"metadata": {"finalizers": ["example.org/theirs"]}})
    namespace.delete(contract.KIND, name)
    time.sleep(0.3)
    audit.restart()
    namespace.delete("Deployment", f"{name}-engine")
    time.sleep(QUIET_SECONDS)
    assert audit.writes() == []
    namespace.patch(contract.KIND, name, {"metadata": {"finalizers": None}})


def test_one_of_the_same_name_waits_for_the_remains_of_the_first(name: str, namespace: Namespace, audit: Audit) -> None:
    first = namespace.one(contract.KIND, name)["metadata"]["uid"]
    remains = namespace.children(name)
    namespace.delete(contract.KIND, name)
    second = namespace.deploy(name)["metadata"]["uid"]
    found = eventually("its status", lambda: namespace.condition(name, c.READY))
    assert found["reason"] != c.NAME_CONFLICT
    assert _owners(namespace, name) == {first}
    for kind, child in remains:  # as the garbage collector does
        namespace.delete(kind, child)
    eventually("its own children", lambda: set(namespace.children(name)) == set(remains))
    assert _owners(namespace, name) == {second}


def test_children_that_were_orphaned_on_purpose_are_taken_back(name: str, namespace: Namespace, audit: Audit) -> None:
    before = namespace.children(name)
    namespace.delete(contract.KIND, name)
    for kind, child in before:  # as the garbage collector does for --cascade=orphan
        namespace.patch(kind, child, {"metadata": {"ownerReferences": None}})
    second = namespace.deploy(name)["metadata"]["uid"]
    eventually("all of them to be ours again", lambda: _owners(namespace, name) == {second})
    after = namespace.children(name)
    assert {key: body["metadata"]["uid"] for key, body in after.items()} == {
        key: body["metadata"]["uid"] for key, body in before.items()
    }
    specs = [children["Deployment", f"{name}-engine"]["spec"] for children in (before, after)]
    assert specs[0] == specs[1], "no engine was rolled"


def _owners(namespace: Namespace, name: str) -> set[str | None]:
    return {
        reference["uid"]
        for child in namespace.children(name).values()
        for reference in child["metadata"].get("ownerReferences", [{"uid": None}])
    }


def _with_reason(namespace: Namespace, name: str, reason: str) -> Json | None:
    found = namespace.condition(name, c.READY)
    return found if found.get("reason") == reason else None
