"""The controller is killed with -9 after every k-th write, before it hears the answer, and started anew, until all is done."""

from functools import partial
from pathlib import Path

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.api_proxy import ApiProxy
from tests.integration.operators import Audit, Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c

NAME = "llama"
SPEC: Json = {"replicas": 3, "podTemplate": {"spec": {"nodeSelector": {"zone": "a"}}}}
_OF_ITS_OWN = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "namespace", "generation")


def essence(namespace: Namespace) -> dict[tuple[str, str], Json]:
    """What was made, without what differs between any two of the same making; the hash covers the owner's uid."""
    found = {}
    for key, body in {**namespace.children(NAME), (contract.KIND, NAME): namespace.one(contract.KIND, NAME)}.items():
        metadata = body["metadata"]
        for field in _OF_ITS_OWN:
            metadata.pop(field, None)
        for reference in metadata.get("ownerReferences", ()):
            assert reference.pop("uid")
        metadata.get("annotations", {}).pop(contract.ANNOTATION_APPLIED_HASH, None)
        for condition in body.get("status", {}).get("conditions", ()):
            condition.pop("lastTransitionTime")
            condition["message"] = condition["message"].replace(namespace.name, "NAMESPACE")
        if key[0] == "RoleBinding":
            for subject in body["subjects"]:
                assert subject.pop("namespace") == namespace.name
        if key[0] == "Service":
            for field in ("clusterIP", "clusterIPs"):
                body["spec"].pop(field)
        if "url" in body.get("status", {}):
            body["status"]["url"] = body["status"]["url"].replace(namespace.name, "NAMESPACE")
        found[key] = body
    return found


@pytest.fixture(scope="module")
def undisturbed(api: httpx.Client, control_plane: ControlPlane, operators: Operators) -> dict[tuple[str, str], Json]:
    namespace = Namespace(api, "kills-none")
    namespace.deploy(NAME, **SPEC)
    operator = operators.start(control_plane.kubeconfig, namespace.name)
    eventually("its status", lambda: namespace.condition(NAME, c.READY))
    assert operator.terminate() == 0
    return essence(namespace)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_it_comes_to_the_same(
    k: int,
    api: httpx.Client,
    control_plane: ControlPlane,
    operators: Operators,
    undisturbed: dict[tuple[str, str], Json],
    tmp_path: Path,
) -> None:
    namespace = Namespace(api, f"kills-{k}")
    namespace.deploy(NAME, **SPEC)
    audit = Audit(control_plane, namespace.name)
    kills = 0
    with ApiProxy(control_plane, tmp_path) as proxy:
        while not namespace.condition(NAME, c.READY):
            operator = operators.start(proxy.kubeconfig, namespace.name)
            began = proxy.writes
            proxy.after_write = partial(_kill_at, began + k, operator)
            eventually("the kill, or the end", partial(_is_over, operator, namespace))
            operator.kill()
            kills += 1
            assert kills < 30, operator.log
        proxy.after_write = lambda _: None
        survivor = operators.start(proxy.kubeconfig, namespace.name)
        eventually(
            "the last one to have looked at everything", lambda: survivor.metric(RECONCILED) >= 1 if survivor.leads() else 0
        )
        assert survivor.terminate() == 0
    assert essence(namespace) == undisturbed
    assert kills >= len(undisturbed) // k
    writes = [write for write in audit.writes() if write[1] != "events"]
    assert len(writes) == len(set(writes)) == len(undisturbed), "each of them once, whoever died in between"


def _kill_at(last: int, victim: Operator, write: int) -> None:
    if write >= last:
        victim.child.process.kill()


def _is_over(operator: Operator, namespace: Namespace) -> bool:
    return not operator.running() or bool(namespace.condition(NAME, c.READY))


RECONCILED = f'{contract.METRIC_RECONCILES}_total{{result="done"}}'
