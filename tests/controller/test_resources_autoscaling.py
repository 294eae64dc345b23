"""What is built for those who decide instead of the controller: a HorizontalPodAutoscaler, and KEDA's ScaledObject."""

from typing import Any

import pytest
import yaml

from tests.conftest import Golden
from tests.controller.objects import NAME, NAMESPACE, SETTINGS, UID, llm_deployment, spec_of
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import build_children
from tokenfleet.controller.resources.autoscaling import build_scaled_object, in_flight_target

SCALING: Json = {"maxReplicas": 4, "queueDepth": 8, "scaleDown": {"stabilizationSeconds": 120}}


def autoscalers(*, actuator: str = "HPA", router_max_in_flight: int | None = None, **spec: Any) -> list[Json]:
    deployment = llm_deployment(**{"autoscaling": {**SCALING, "actuator": actuator}, **spec})
    built = build_children(deployment, spec_of(deployment), SETTINGS, router_max_in_flight=router_max_in_flight)
    return [body for body in built if body["kind"] == "HorizontalPodAutoscaler"]


def scaled_object(**spec: Any) -> Json | None:
    deployment = llm_deployment(**{"autoscaling": {**SCALING, "actuator": "KEDA"}, **spec})
    return build_scaled_object(deployment, spec_of(deployment), scaler="keda.tokenfleet-system.svc:9091")


def test_the_autoscaler_is_the_one_reviewed(golden: Golden) -> None:
    (body,) = autoscalers()
    golden("controller/hpa.yaml", f"# actuator: HPA\n{yaml.safe_dump(body, sort_keys=False, width=120)}")


def test_the_scaled_object_is_the_one_reviewed(golden: Golden) -> None:
    autoscaling = {**SCALING, "actuator": "KEDA", "minReplicas": 0, "scaleToZeroAfterSeconds": 600}
    body = scaled_object(autoscaling=autoscaling)
    golden("controller/scaled-object.yaml", f"# actuator: KEDA\n{yaml.safe_dump(body, sort_keys=False, width=120)}")


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"autoscaling": None}, id="nothing is autoscaled"),
        pytest.param({"autoscaling": {**SCALING, "actuator": "Builtin"}}, id="the controller decides"),
        pytest.param({"suspend": True}, id="suspended, so that its count stays for later"),
    ],
)
def test_there_is_none_where(spec: Json) -> None:
    assert autoscalers(**spec) == []
    assert scaled_object(**spec) is None


def test_each_of_the_two_has_its_own_alone() -> None:
    assert autoscalers(actuator="KEDA") == []
    assert scaled_object(autoscaling={**SCALING, "actuator": "HPA"}) is None


def test_both_scale_the_llmdeployment_and_go_with_it() -> None:
    target = {"apiVersion": "tokenfleet.dev/v1alpha1", "kind": "LLMDeployment", "name": NAME}
    for body in (*autoscalers(), scaled_object()):
        assert body is not None
        assert body["spec"]["scaleTargetRef"] == target
        assert (body["metadata"]["namespace"], body["metadata"]["name"]) == (NAMESPACE, NAME)
        assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == [UID]


@pytest.mark.parametrize(
    ("scaling", "spec", "shared", "target"),
    [
        pytest.param({"concurrency": 12}, {"router": {"maxInFlight": 64}}, None, 12, id="what the user wants"),
        pytest.param({}, {"router": {"maxInFlight": 64}}, None, 51, id="four fifths of what the router gives a replica"),
        pytest.param({}, {"engine": {"batching": {"maxNumSeqs": 10}}}, None, 8, id="else of what the engine runs at once"),
        pytest.param({}, {}, None, 204, id="else of the router's default"),
        pytest.param({}, {"routerRef": {"name": "shared"}}, 20, 16, id="of what the shared router gives a replica"),
        pytest.param(
            {}, {"routerRef": {"name": "shared"}, "engine": {"batching": {"maxNumSeqs": 10}}}, None, 8, id="which says nothing"
        ),
        pytest.param({}, {"router": {"maxInFlight": 1}}, None, 1, id="never nothing"),
    ],
)
def test_the_requests_in_flight_that_are_wanted_on_each_replica(
    scaling: Json, spec: Json, shared: int | None, target: int
) -> None:
    autoscaling = {**SCALING, "actuator": "HPA", **scaling}
    deployment = llm_deployment(autoscaling=autoscaling, **spec)
    parsed = spec_of(deployment)
    assert parsed.autoscaling is not None
    assert in_flight_target(parsed, parsed.autoscaling, shared) == target
    (built,) = autoscalers(autoscaling=autoscaling, router_max_in_flight=shared, **spec)
    assert [metric["external"]["target"]["averageValue"] for metric in built["spec"]["metrics"]] == ["8", str(target)]


def test_thousands_are_written_as_the_api_server_keeps_them() -> None:
    (built,) = autoscalers(autoscaling={**SCALING, "actuator": "HPA", "queueDepth": 2000})
    assert built["spec"]["metrics"][0]["external"]["target"]["averageValue"] == "2k"


def test_without_a_window_one_goes_each_second_at_most() -> None:
    (built,) = autoscalers(autoscaling={**SCALING, "actuator": "HPA", "scaleDown": {"stabilizationSeconds": 0}})
    down = built["spec"]["behavior"]["scaleDown"]
    assert down == {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}]}
