"""What a pod and an LLMDeployment mean to the router, from the JSON that the API gives."""

from typing import Any

import msgspec
import pytest

from tokenfleet.router.balancing.replicas import State
from tokenfleet.router.source.cluster_objects import Deployment, Pod, created, served_name, sighting

READY = {"type": "Ready", "status": "True"}
CONTAINERS = {"type": "ContainersReady", "status": "True"}


def pod(*, metadata: dict[str, Any] | None = None, **status: Any) -> Pod:
    """A routable pod, but for what is given."""
    raw = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "llama-x", "uid": "1", "labels": {"a": "b"}, "managedFields": [{}], **(metadata or {})},
        "spec": {"containers": [{"name": "engine"}]},
        "status": {"phase": "Running", "podIP": "10.1.2.3", "conditions": [READY], **status},
    }
    return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)


@pytest.mark.parametrize(
    ("one", "state", "reason"),
    [
        pytest.param(pod(), State.ROUTABLE, "", id="running and ready"),
        pytest.param(pod(podIP=""), State.UNREADY, "it has no address yet", id="no address"),
        pytest.param(pod(podIP=None), State.UNREADY, "it has no address yet", id="address null"),
        pytest.param(pod(phase="Pending"), State.UNREADY, "its phase is Pending", id="pending"),
        pytest.param(pod(phase="Succeeded"), State.UNREADY, "its phase is Succeeded", id="ended"),
        pytest.param(
            pod(conditions=[{"type": "Ready", "status": "False"}]),
            State.UNREADY,
            "its condition Ready is not True",
            id="not ready",
        ),
        pytest.param(
            pod(conditions=[{"type": "Ready", "status": "Unknown"}]),
            State.UNREADY,
            "its condition Ready is not True",
            id="its node is lost",
        ),
        pytest.param(
            pod(conditions=[{"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}, CONTAINERS]),
            State.ROUTABLE,
            "",
            id="ready but for its gate, which opens once it is used",
        ),
        pytest.param(
            pod(conditions=[{"type": "Ready", "status": "False"}, CONTAINERS]),
            State.UNREADY,
            "its condition Ready is not True",
            id="its node is lost, which its containers do not know",
        ),
        pytest.param(
            pod(
                conditions=[
                    {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
                    {"type": "ContainersReady", "status": "False"},
                ]
            ),
            State.UNREADY,
            "its condition Ready is not True",
            id="neither its containers nor its gate are ready",
        ),
        pytest.param(pod(conditions=None), State.UNREADY, "its condition Ready is not True", id="no conditions"),
        pytest.param(
            pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            State.DRAINING,
            "it is being deleted",
            id="being deleted",
        ),
        pytest.param(
            pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, conditions=[]),
            State.DRAINING,
            "it is being deleted",
            id="being deleted and not ready any more",
        ),
        pytest.param(
            pod(metadata={"annotations": {"tokenfleet.dev/draining": "2026-01-01T00:00:00Z", "x": "y"}}),
            State.DRAINING,
            "it drains until 2026-01-01T00:00:00Z",
            id="marked as draining",
        ),
        pytest.param(pod(metadata={"annotations": {"tokenfleet.dev/draining": ""}}), State.DRAINING, None, id="empty mark"),
        pytest.param(pod(metadata={"annotations": {"x": "y"}}), State.ROUTABLE, "", id="other annotations"),
    ],
)
def test_pods(one: Pod, state: State, reason: str | None) -> None:
    found = sighting(one)
    assert found.state is state
    assert reason is None or found.reason == reason
    assert (found.key, found.name, found.port) == ("1", "llama-x", 8000)


def test_a_pod_without_a_status_is_not_ready() -> None:
    one = msgspec.json.decode(b'{"metadata":{"name":"a","uid":"u"}}', type=Pod)
    assert sighting(one).state is State.UNREADY


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        pytest.param({"spec": {"model": {"source": "pvc://a", "servedName": "llama"}}}, "llama", id="served name"),
        pytest.param({"spec": {"model": {"source": "pvc://a"}}}, "cr", id="no served name"),
        pytest.param({"spec": {"model": {"servedName": ""}}}, "cr", id="an empty served name"),
        pytest.param({}, "cr", id="no spec"),
    ],
)
def test_deployments(raw: dict[str, Any], name: str) -> None:
    raw["metadata"] = {"name": "cr", "uid": "1", "creationTimestamp": "2026-01-02T03:04:05Z"}
    one = msgspec.json.decode(msgspec.json.encode(raw), type=Deployment)
    assert (served_name(one), created(one)) == (name, 1_767_323_045)


@pytest.mark.parametrize(
    ("annotations", "adapters"),
    [
        pytest.param({"tokenfleet.dev/adapters": "sql,chat"}, {"sql", "chat"}, id="two"),
        pytest.param({"tokenfleet.dev/adapters": " sql , "}, {"sql"}, id="written by hand"),
        pytest.param({"tokenfleet.dev/adapters": ""}, set(), id="none"),
        pytest.param({"x": "y"}, set(), id="a pod of before"),
    ],
)
def test_which_adapters_a_pod_has(annotations: dict[str, str], adapters: set[str]) -> None:
    assert sighting(pod(metadata={"annotations": annotations})).adapters == adapters
