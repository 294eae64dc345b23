"""A canary against a real API server and a running controller: what a change does to the Deployments, and what it leaves alone.

There are no routers here to tell of requests, so it holds at its first step until somebody decides by hand.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.operators import Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c

NAMESPACE = "canary"


@pytest.fixture(scope="module")
def namespace(api: httpx.Client) -> Namespace:
    return Namespace(api, NAMESPACE)


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, namespace: Namespace, operators: Operators) -> Iterator[Operator]:
    operator = operators.start(control_plane.kubeconfig, NAMESPACE)
    eventually("the controller to be ready", operator.leads)
    yield operator
    assert operator.terminate() == 0, operator.log


class Fleet:
    """One LLMDeployment, with the test as its kubelet."""

    def __init__(self, namespace: Namespace, name: str, **spec: Any) -> None:
        self.namespace, self.name, self.engine, self.canary = namespace, name, f"{name}-engine", f"{name}-canary"
        namespace.deploy(name, engine={"maxModelLen": 512}, **{"rollout": {"canary": {"weights": [10]}}, **spec})
        eventually("its engines", lambda: namespace.get("Deployment", self.engine))
        self.complete(self.engine)

    def complete(self, child: str) -> None:
        body = self.namespace.one("Deployment", child)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), body["spec"]["replicas"])
        status = {"observedGeneration": body["metadata"]["generation"], **counts}
        self.namespace.patch("Deployment", child, {"status": status}, subresource="status")

    def change(self, length: int, **spec: Any) -> None:
        self.namespace.patch(contract.KIND, self.name, {"spec": {"engine": {"maxModelLen": length}, **spec}})

    def order(self, verb: str) -> None:
        order = f"{verb}:{self.rollout['revision']}"
        self.namespace.patch(contract.KIND, self.name, {"metadata": {"annotations": {contract.ANNOTATION_ROLLOUT: order}}})

    @property
    def rollout(self) -> Json:
        status = self.namespace.one(contract.KIND, self.name).get("status") or {}
        return dict(status.get("rollout") or {})

    def wait(self, **fields: Any) -> None:
        eventually(str(fields), lambda: fields.items() <= self.rollout.items())

    def length(self, child: str) -> int:
        args = self.namespace.one("Deployment", child)["spec"]["template"]["spec"]["containers"][0]["args"]
        return int(args[args.index("--max-model-len") + 1])


@pytest.mark.parametrize(
    ("name", "before"),
    [
        pytest.param("kept", {"canary": {"weights": [10]}}, id="the engines' template was kept"),
        pytest.param("found", {}, id="the canary is switched on with the change"),
    ],
)
def test_a_change_goes_to_the_canary_and_leaves_the_engines_as_they_are(
    namespace: Namespace, operator: Operator, name: str, before: Json
) -> None:
    fleet = Fleet(namespace, name, rollout=before)
    engines = namespace.one("Deployment", fleet.engine)["spec"]
    fleet.change(480, rollout={"canary": {"weights": [10]}})
    fleet.wait(phase="Progressing", step=0)
    assert namespace.one("Deployment", fleet.engine)["spec"] == engines
    assert fleet.length(fleet.canary) == 480
    assert namespace.condition(name, c.SPEC_VALID)["status"] == "True"
    fleet.complete(fleet.canary)
    fleet.wait(step=1, weight=10)
    fleet.order("promote")
    fleet.wait(phase="Promoting")
    eventually("the engines to have the change", lambda: fleet.length(fleet.engine) == 480)
    assert namespace.get("Deployment", fleet.canary) is not None
    fleet.complete(fleet.engine)
    eventually("the canary to go", lambda: namespace.get("Deployment", fleet.canary) is None)
    eventually("the end", lambda: not fleet.rollout)


def test_what_was_aborted_is_not_tried_again_by_a_controller_that_begins_anew(
    api: httpx.Client, operators: Operators, control_plane: ControlPlane
) -> None:
    namespace = Namespace(api, "aborts")
    operator = operators.start(control_plane.kubeconfig, namespace.name)
    fleet = Fleet(namespace, "aborted")
    fleet.change(480)
    fleet.wait(phase="Progressing")
    fleet.order("abort")
    fleet.wait(phase="RolledBack", weight=0)
    eventually("the canary to go", lambda: namespace.get("Deployment", fleet.canary) is None)
    operator.kill()
    again = operators.start(control_plane.kubeconfig, namespace.name, identity="another")
    eventually("the next controller to lead", again.leads)
    namespace.patch(contract.KIND, "aborted", {"spec": {"replicas": 2}})
    eventually("its replicas", lambda: namespace.one("Deployment", fleet.engine)["spec"]["replicas"] == 2)
    assert (fleet.rollout["phase"], fleet.length(fleet.engine)) == ("RolledBack", 512)
    assert namespace.get("Deployment", fleet.canary) is None
    fleet.change(448)
    fleet.wait(phase="Progressing", step=0)
    assert fleet.length(fleet.canary) == 448
    assert again.terminate() == 0
