"""LLMRouters under a running controller on a real API server: children, status, and the LLMDeployments that name them.

There is no controller-manager here, so the test makes the pods and says that they are ready.
"""

import time
from collections.abc import Iterator

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.operators import Audit, Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller import kinds

NAMESPACE = "llmrouters"


@pytest.fixture(scope="module")
def namespace(api: httpx.Client) -> Namespace:
    return Namespace(api, NAMESPACE)


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, namespace: Namespace, operators: Operators) -> Iterator[Operator]:
    operator = operators.start(control_plane.kubeconfig, NAMESPACE)
    eventually("the controller to be ready", operator.leads)
    yield operator
    assert operator.terminate() == 0, operator.log


def route(namespace: Namespace, name: str, **spec: object) -> None:
    namespace.create(contract.ROUTER_KIND, {"metadata": {"name": name}, "spec": spec})


def children(namespace: Namespace, name: str) -> set[tuple[str, str]]:
    """Of an LLMRouter."""
    found = set()
    for kind in kinds.CHILDREN:
        items = namespace.client.get(kind.path(NAMESPACE), params={"labelSelector": f"{contract.LABEL_ROUTER}={name}"})
        found |= {(kind.name, item["metadata"]["name"]) for item in items.raise_for_status().json()["items"]}
    return found


def router_condition(namespace: Namespace, name: str, kind: str = c.READY) -> Json:
    conditions = (namespace.one(contract.ROUTER_KIND, name).get("status") or {}).get("conditions") or ()
    return next((dict(each) for each in conditions if each["type"] == kind), {})


def make_ready(namespace: Namespace, name: str) -> None:
    """Of an LLMRouter: the pods that its Deployment asks for, all of them ready."""
    body = namespace.one("Deployment", f"{name}-router")
    replicas = body["spec"]["replicas"]
    for number in range(replicas):
        pod, labels = f"{name}-router-{number}", {contract.LABEL_ROUTER: name, contract.LABEL_ROLE: contract.ROLE_ROUTER}
        spec = {"containers": [{"name": "router", "image": "x"}]}
        namespace.create("Pod", {"metadata": {"name": pod, "labels": {**labels, "pod-template-hash": "a"}}, "spec": spec})
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}
        status = {"phase": "Running", "podIP": "127.9.9.9", "conditions": [ready]}
        namespace.patch("Pod", pod, {"status": status}, subresource="status")
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    done = {"observedGeneration": body["metadata"]["generation"], **counts}
    namespace.patch("Deployment", f"{name}-router", {"status": done}, subresource="status")


def test_it_has_children_and_a_status_and_is_left_alone_then(
    namespace: Namespace, operator: Operator, control_plane: ControlPlane
) -> None:
    route(namespace, "alone", auth={"keysSecret": "keys"})
    eventually("its status", lambda: router_condition(namespace, "alone"))
    assert children(namespace, "alone") == {
        ("Deployment", "alone-router"),
        ("PodDisruptionBudget", "alone-router"),
        ("Role", "alone-router"),
        ("RoleBinding", "alone-router"),
        ("Service", "alone"),
        ("ServiceAccount", "alone-router"),
    }
    audit = Audit(control_plane, NAMESPACE)
    time.sleep(0.5)
    audit.restart()
    time.sleep(1.5)
    assert audit.writes() == []
    namespace.delete("Service", "alone")
    eventually("the Service to be back", lambda: namespace.get("Service", "alone"))
    namespace.delete(contract.ROUTER_KIND, "alone")
    time.sleep(0.5)
    namespace.delete("Service", "alone")
    time.sleep(0.5)
    assert namespace.get("Service", "alone") is None, "a deleted one is left in peace"


def test_an_llmdeployment_moves_to_it_when_it_is_ready(namespace: Namespace, operator: Operator) -> None:
    namespace.deploy("moving", model={"source": "pvc://models/x", "servedName": "chat"})
    eventually("its own router", lambda: namespace.get("Service", "moving"))
    namespace.patch(contract.KIND, "moving", {"spec": {"routerRef": {"name": "shared"}}})
    eventually("the report", lambda: namespace.condition("moving", c.ROUTER_READY).get("reason") == c.ROUTER_NOT_FOUND)
    assert namespace.get("Service", "moving"), "nothing is taken away for a router that is not there"

    route(namespace, "shared")
    eventually("its children", lambda: namespace.get("Deployment", "shared-router"))
    eventually("the word of both", lambda: namespace.condition("moving", c.ROUTER_READY).get("reason") == c.CREATING)
    assert namespace.get("Service", "moving")
    make_ready(namespace, "shared")
    eventually("the LLMRouter to be ready", lambda: router_condition(namespace, "shared").get("status") == "True")
    eventually("its own router to go", lambda: not namespace.get("Service", "moving"))
    assert {name for _, name in namespace.children("moving")} == {"moving-engine"}
    eventually("the word of both", lambda: namespace.condition("moving", c.ROUTER_READY).get("reason") == c.AS_EXPECTED)
    assert namespace.one(contract.KIND, "moving")["status"]["url"] == f"http://shared.{NAMESPACE}.svc/v1"
    status = namespace.one(contract.ROUTER_KIND, "shared")["status"]
    assert (status["models"], status["ready"], status["readyReplicas"]) == (["chat"], "2/2", 2)


def test_what_its_routes_name_and_is_not_there_is_told_until_it_is(namespace: Namespace, operator: Operator) -> None:
    route(namespace, "routed", routes=[{"model": "chat", "targets": [{"deployment": "first"}, {"deployment": "second"}]}])
    eventually("the report", lambda: router_condition(namespace, "routed", c.SPEC_VALID).get("reason") == c.NO_MODELS)
    model = {"source": "pvc://models/x", "servedName": "chat"}
    namespace.deploy("first", model=model, routerRef={"name": "routed"})
    eventually("the report", lambda: router_condition(namespace, "routed", c.SPEC_VALID).get("reason") == c.ROUTES_UNRESOLVED)
    assert "no LLMDeployment second names this router" in router_condition(namespace, "routed", c.SPEC_VALID)["message"]
    namespace.deploy("second", model=model, routerRef={"name": "routed"})
    eventually("no more of it", lambda: router_condition(namespace, "routed", c.SPEC_VALID).get("reason") == c.AS_EXPECTED)
    namespace.delete(contract.KIND, "second")
    eventually("the report", lambda: router_condition(namespace, "routed", c.SPEC_VALID).get("reason") == c.ROUTES_UNRESOLVED)


def test_it_is_scaled_like_any_other(namespace: Namespace, operator: Operator) -> None:
    route(namespace, "scaled")
    eventually("its children", lambda: namespace.get("Deployment", "scaled-router"))
    namespace.patch(contract.ROUTER_KIND, "scaled", {"spec": {"replicas": 5}}, subresource="scale")
    eventually("more of them", lambda: namespace.one("Deployment", "scaled-router")["spec"]["replicas"] == 5)
