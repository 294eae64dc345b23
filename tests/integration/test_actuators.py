"""Who decides, with the controller as a process: its servers, its label, and ScaledObjects where their kind comes and goes."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane, free_ports
from tests.integration.operators import Json, Namespace, Operator, Operators, eventually
from tests.router.certificates import Pair
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller.actuators import keda_protocol as protocol
from tokenfleet.controller.kinds import SCALED_OBJECT

NAME = "llama"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SCALED_OBJECTS: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": SCALED_OBJECT.group,
        "scope": "Namespaced",
        "names": {"kind": SCALED_OBJECT.name, "plural": SCALED_OBJECT.plural},
        "versions": [
            {
                **{"name": SCALED_OBJECT.version, "served": True, "storage": True},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
"""KEDA's kind without its schema: what we send is checked against that by hand, since it is KEDA's."""


@pytest.fixture
def namespace(api: httpx.Client) -> Iterator[Namespace]:
    namespace = Namespace(api, "actuators")
    pod = {"metadata": {"name": "controller", "labels": {}}, "spec": {"containers": [{"name": "controller", "image": "x"}]}}
    api.post("/api/v1/namespaces/actuators/pods", json=pod).raise_for_status()
    yield namespace
    api.delete(f"{CRDS}/scaledobjects.keda.sh")


def leads(namespace: Namespace) -> bool:
    labels = namespace.one("Pod", "controller")["metadata"].get("labels") or {}
    return bool(labels.get(contract.LABEL_LEADER) == "true")


def is_active(port: int) -> grpc.StatusCode:
    """What the scaler says of an LLMDeployment of which no router tells."""
    ref = protocol.ScaledObjectRef(name=NAME, namespace="actuators", scalerMetadata={"deployment": NAME})
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary("/externalscaler.ExternalScaler/IsActive")(ref.SerializeToString(), timeout=5)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def scaled_object(namespace: Namespace) -> Json | None:
    answer = namespace.client.get(SCALED_OBJECT.path(namespace.name, NAME))
    return answer.json() if answer.status_code == httpx.codes.OK else None


def autoscaler(namespace: Namespace) -> Json | None:
    return namespace.get("HorizontalPodAutoscaler", NAME)


def set_actuator(namespace: Namespace, actuator: str) -> None:
    namespace.patch(contract.KIND, NAME, {"spec": {"autoscaling": {"actuator": actuator, "maxReplicas": 4}}})


def start(operators: Operators, plane: ControlPlane, namespace: Namespace, tmp_path: Path) -> tuple[Operator, int]:
    external, keda = free_ports(2)
    Pair("served").mount(tmp_path)
    variables = {
        "EXTERNAL_METRICS_TLS_DIR": str(tmp_path),
        "EXTERNAL_METRICS_PORT": str(external),
        "KEDA_ADDRESS": "keda.example:9091",
        "KEDA_PORT": str(keda),
    }
    return operators.start(plane.kubeconfig, namespace.name, identity="controller", **variables), keda


def test_servers_and_scaled_objects(
    control_plane: ControlPlane, namespace: Namespace, operators: Operators, tmp_path: Path
) -> None:
    namespace.client.patch(
        namespace.path("Pod", "controller"),
        json={"metadata": {"labels": {contract.LABEL_LEADER: "true"}}},
        headers={"Content-Type": "application/merge-patch+json"},
    ).raise_for_status()
    first, _ = start(operators, control_plane, namespace, tmp_path)
    eventually("the first to lead", lambda: first.leads() and leads(namespace))
    first.kill()
    operator, port = start(operators, control_plane, namespace, tmp_path)
    eventually("a label of a life before to go", lambda: not leads(namespace))
    eventually("the lead to pass on", lambda: operator.leads() and leads(namespace))
    eventually("the scaler to answer", lambda: is_active(port) is grpc.StatusCode.UNAVAILABLE)

    namespace.deploy(NAME)
    set_actuator(namespace, "KEDA")

    def ready() -> tuple[str, str]:
        state = namespace.condition(NAME, c.SCALING_READY) or {}
        return str(state.get("status")), str(state.get("reason"))

    eventually("to be told that KEDA is missing", lambda: ready() == ("False", c.KEDA_NOT_INSTALLED))
    set_actuator(namespace, "HPA")
    eventually("an autoscaler", lambda: autoscaler(namespace))
    namespace.client.post(CRDS, json=SCALED_OBJECTS).raise_for_status()
    eventually("KEDA's kind", lambda: namespace.client.get(SCALED_OBJECT.path(namespace.name)).status_code == httpx.codes.OK)
    set_actuator(namespace, "KEDA")
    found = eventually("a ScaledObject", lambda: scaled_object(namespace))
    assert found["spec"]["triggers"][0]["metadata"]["scalerAddress"] == "keda.example:9091"
    assert autoscaler(namespace) is None
    eventually("it to be told", lambda: ready() == ("True", c.AS_EXPECTED))

    assert operator.terminate() == 0, operator.log
    assert "Traceback" not in operator.log
    set_actuator(namespace, "Builtin")
    start(operators, control_plane, namespace, tmp_path)
    eventually("another controller to take the ScaledObject away", lambda: scaled_object(namespace) is None)
