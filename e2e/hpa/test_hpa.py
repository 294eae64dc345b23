"""The cluster's own HorizontalPodAutoscaler decides, by metrics that the controller serves; then the controller, and back."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e2e import access, install, streams
from e2e.cluster.images import Images
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl, KubectlError, condition, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")
NAME = "scaled"
METRIC = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{{}}/tokenfleet_queue_depth?labelSelector=deployment%3D{NAME}"


@pytest.fixture
def external_metrics(fleet: Images) -> Iterator[None]:
    """A broken API service would hold up every namespace that is deleted, so it goes with the story."""
    install.install(fleet, "autoscaling.externalMetrics.enabled=true")
    yield
    install.install(fleet)


@pytest.fixture
def scaled(external_metrics: None, deploy: Callable[[Path, str], Deployed]) -> Deployed:
    return deploy(MANIFEST, NAME)


def figures(autoscaler: Json | None) -> list[float]:
    """What it last read, of all replicas together; none where it could not."""
    found = ((autoscaler or {}).get("status") or {}).get("currentMetrics") or []
    read = [metric["external"]["current"].get("averageValue") for metric in found if metric.get("type") == "External"]
    return [_number(text) for text in read if text is not None]


def _number(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def set_actuator(kubectl: Kubectl, actuator: str) -> None:
    change = {"spec": {"autoscaling": {"actuator": actuator}}}
    kubectl("patch", "llmd", NAME, "--type=merge", "-p", json.dumps(change))


def owners_of_the_count(kubectl: Kubectl) -> set[str]:
    """Who ever set `replicas` of the engines' Deployment."""
    body = json.loads(kubectl("get", "deployment", f"{NAME}-engine", "--show-managed-fields", "-o", "json"))
    fields = body["metadata"]["managedFields"]
    return {entry["manager"] for entry in fields if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})}


async def test_an_autoscaler_scales_under_load_and_hands_over(kubectl: Kubectl, scaled: Deployed) -> None:
    scaled.wait_ready(1, timeout=90)
    wait_for("the metrics to be served", lambda: _value(kubectl) == 0, timeout=60)
    with access.base_url(kubectl, NAME) as url:
        load = streams.Load(url=url, model="pretended", streams=16, tokens=200, pause=0.1)
        async with streams.running(load) as tally:
            await streams.in_thread(_autoscaler_takes_two, kubectl, scaled)
            whole = tally.whole
            await streams.until(lambda: tally.whole >= whole + 16)
            await streams.in_thread(_controller_takes_over, kubectl, scaled)
            await streams.in_thread(_autoscaler_takes_over, kubectl, scaled)
        assert set(tally.outcomes) == {"whole"}, tally.problems
    assert owners_of_the_count(kubectl) == {"tokenfleet-controller"}


def _value(kubectl: Kubectl) -> int | None:
    """None: nobody serves it, or it is not known yet."""
    with suppress(KubectlError):
        (item,) = json.loads(kubectl("get", "--raw", METRIC.format(kubectl.namespace)))["items"]
        return int(item["value"])
    return None


def _autoscaler_takes_two(kubectl: Kubectl, scaled: Deployed) -> None:
    wait_for("the autoscaler to read both figures", lambda: len(figures(kubectl.get("hpa", NAME))) == 2, timeout=60)
    assert "<unknown>" not in kubectl("get", "hpa", NAME)
    scaled.wait_ready(2, timeout=90)
    body = kubectl.get("llmd", NAME) or {}
    assert body["spec"]["replicas"] == 2, "who decides writes spec.replicas"
    assert body["status"]["scaling"]["actuator"] == "HPA"
    state = condition(body, "ScalingReady")
    assert (state["status"], state["reason"]) == ("True", "AsExpected"), state


def _controller_takes_over(kubectl: Kubectl, scaled: Deployed) -> None:
    set_actuator(kubectl, "Builtin")
    wait_for("the autoscaler to go", lambda: kubectl.get("hpa", NAME) is None, timeout=30)
    wait_for("the controller to decide", lambda: _scaling(kubectl)["actuator"] == "Builtin", timeout=30)
    assert _scaling(kubectl)["desired"] == 2, "what ran goes on"
    scaled.wait_ready(2)


def _autoscaler_takes_over(kubectl: Kubectl, scaled: Deployed) -> None:
    set_actuator(kubectl, "HPA")
    wait_for("the autoscaler to decide", lambda: _scaling(kubectl)["actuator"] == "HPA", timeout=60)
    scaled.wait_ready(2)


def _scaling(kubectl: Kubectl) -> Json:
    return dict((kubectl.get("llmd", NAME) or {})["status"]["scaling"])
