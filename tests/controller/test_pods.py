"""What a pod's own conditions say of it, with the gate that opens only once routers use it."""

import pytest

from tests.controller.objects import pod, running
from tokenfleet import contract
from tokenfleet.controller import pods
from tokenfleet.controller.observed import Json

GATED = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}
LOST = {"type": "Ready", "status": "False", "reason": "NodeNotReady"}
READY = {"type": "Ready", "status": "True"}
CONTAINERS = {"type": "ContainersReady", "status": "True"}
OPEN = {"type": contract.CONDITION_IN_USE, "status": "True"}


def gated(*conditions: Json) -> Json:
    body = pod(containers=(running(ready=True),))
    body["status"]["conditions"] = list(conditions)
    return {**body, "spec": {"readinessGates": [{"conditionType": contract.CONDITION_IN_USE}]}}


@pytest.mark.parametrize(
    ("found", "up", "ready", "awaits"),
    [
        pytest.param(gated(), False, False, False, id="nothing is known"),
        pytest.param(gated(GATED, CONTAINERS), True, False, True, id="only the gate is closed"),
        pytest.param(gated(READY, CONTAINERS, OPEN), True, True, False, id="it is in use"),
        pytest.param(gated(LOST, CONTAINERS, OPEN), False, False, False, id="its node is lost, and its kubelet says nothing"),
        pytest.param(gated({**GATED, "reason": "ContainersNotReady"}), False, False, False, id="its engine is not ready"),
        pytest.param(gated(GATED, CONTAINERS, OPEN), True, False, False, id="its gate was just opened"),
        pytest.param(pod(ready=True), True, True, False, id="it was made before there was a gate"),
    ],
)
def test_up_ready_and_awaiting_use(found: Json, up: bool, ready: bool, awaits: bool) -> None:
    assert (pods.is_up(found), pods.is_ready(found), pods.awaits_use(found)) == (up, ready, awaits)
    assert pods.is_routable(found) is up


@pytest.mark.parametrize(
    ("found", "begun"),
    [
        pytest.param(pod(containers=(running(),)), False, id="it loads"),
        pytest.param(pod(containers=(running(started=True),)), True, id="it is through its start, and not ready"),
        pytest.param(pod(phase="Pending"), False, id="it has no node"),
        pytest.param(pod(ready=True), True, id="it is ready"),
    ],
)
def test_an_engine_that_has_not_begun_has_no_requests(found: Json, begun: bool) -> None:
    assert pods.has_begun(found) is begun
