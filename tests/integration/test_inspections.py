"""A running controller that inspects models, against a real API server and a log that a kubelet serves.

The test is the Job controller and the rest of the kubelet: it makes the Job's pod, and says how that goes.
"""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.controller.inspected import SAID
from tests.controller.objects import noted
from tests.integration.kubelet import NODE, Kubelet
from tests.integration.operators import Audit, Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c

PATIENT, HASTY = "inspections", "inspections-hasty"
H100 = {"accelerator": "nvidia-h100-80gb", "engine": {"maxModelLen": 8192}}
T4 = {"accelerator": "nvidia-t4-16gb"}


@pytest.fixture(scope="module")
def kubelet(control_plane: ControlPlane, api: httpx.Client) -> Iterator[Kubelet]:
    with Kubelet(control_plane, api) as kubelet:
        yield kubelet


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, api: httpx.Client, operators: Operators) -> Iterator[Operator]:
    Namespace(api, PATIENT)
    operator = operators.start(control_plane.kubeconfig, PATIENT, INSPECT_SECONDS="300")
    eventually("the controller to be ready", operator.leads)
    yield operator
    assert operator.terminate() == 0, operator.log


@pytest.fixture
def namespace(api: httpx.Client, operator: Operator) -> Namespace:
    return Namespace(api, PATIENT)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"llm-{abs(hash(request.node.nodeid)) % 10**8}"


def the_job(namespace: Namespace, name: str) -> Json:
    def found() -> Json | None:
        jobs = [body for (kind, _), body in namespace.children(name).items() if kind == "Job"]
        return jobs[0] if len(jobs) == 1 else None

    return eventually(f"the inspection of {name}", found)


def has_job(namespace: Namespace, name: str) -> bool:
    return any(kind == "Job" for kind, _ in namespace.children(name))


def begin(namespace: Namespace, job: Json) -> str:
    """Its pod comes, on the node whose log can be read."""
    template, name = job["spec"]["template"], f"{job['metadata']['name']}-x2x4p"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    metadata = {**template["metadata"], "name": name, "ownerReferences": [{**owner, "controller": True}]}
    namespace.create("Pod", {"metadata": metadata, "spec": {**template["spec"], "nodeName": NODE}})
    return name


def report(namespace: Namespace, pod: str, state: Json, *, phase: str) -> None:
    container = {"name": contract.CONTAINER_INSPECTION, "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": phase, "containerStatuses": [{**container, "state": state}]}
    namespace.patch("Pod", pod, {"status": status}, subresource="status")


def end(namespace: Namespace, kubelet: Kubelet, job: Json, text: str = SAID) -> None:
    """It says what it found."""
    pod = begin(namespace, job)
    kubelet.logs[pod] = text
    done = {"exitCode": 0, "reason": "Completed", "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}
    report(namespace, pod, {"terminated": done}, phase="Succeeded")


def fits(namespace: Namespace, name: str, reason: str) -> Json:
    return eventually(
        f"{name}: {reason}",
        lambda: found if (found := namespace.condition(name, c.MODEL_FITS)).get("reason") == reason else None,
    )


def engines(namespace: Namespace, name: str) -> Json | None:
    return namespace.get("Deployment", f"{name}-engine")


def test_an_engine_is_made_once_its_model_is_known_to_fit(
    name: str, namespace: Namespace, kubelet: Kubelet, control_plane: ControlPlane
) -> None:
    namespace.deploy(name, **H100)
    fits(namespace, name, c.INSPECTING_MODEL)
    job = the_job(namespace, name)
    eventually("all else", lambda: namespace.get("Deployment", f"{name}-router"))
    assert engines(namespace, name) is None
    end(namespace, kubelet, job)
    assert fits(namespace, name, c.AS_EXPECTED)["status"] == "True"
    eventually("the engines", lambda: engines(namespace, name))
    eventually("the Job's end", lambda: not has_job(namespace, name))
    status = namespace.one(contract.KIND, name)["status"]
    assert (status["model"]["architecture"], status["model"]["parameters"]) == ("LlamaForCausalLM", "8.03B")
    assert status["memory"]["kvTokens"] > 400_000
    audit = Audit(control_plane, PATIENT)
    time.sleep(0.5)
    audit.restart()
    time.sleep(1)
    assert audit.writes() == [], "converged means quiet"


def test_none_is_made_of_what_does_not_fit_until_it_does(name: str, namespace: Namespace, kubelet: Kubelet) -> None:
    namespace.deploy(name, **T4)
    end(namespace, kubelet, the_job(namespace, name))
    told = fits(namespace, name, c.DOES_NOT_FIT)
    assert told["status"] == "False" and "Set " in told["message"]
    assert namespace.condition(name, c.READY)["reason"] == c.DOES_NOT_FIT
    assert engines(namespace, name) is None
    namespace.patch(contract.KIND, name, {"spec": {"parallelism": {"tensor": 2}}})
    assert fits(namespace, name, c.AS_EXPECTED)["status"] == "True"
    eventually("the engines", lambda: engines(namespace, name))
    assert not has_job(namespace, name)


def test_what_runs_is_scaled_although_its_new_spec_does_not_fit(name: str, namespace: Namespace, kubelet: Kubelet) -> None:
    namespace.deploy(name, **H100)
    end(namespace, kubelet, the_job(namespace, name))
    before = eventually("the engines", lambda: engines(namespace, name))
    namespace.patch(contract.KIND, name, {"spec": {**T4, "replicas": 3}})
    fits(namespace, name, c.DOES_NOT_FIT)
    eventually("the count", lambda: (engines(namespace, name) or before)["spec"]["replicas"] == 3)
    after = namespace.one("Deployment", f"{name}-engine")
    assert after["spec"]["template"] == before["spec"]["template"]


def test_an_inspection_that_fails_lets_the_engine_say_it(name: str, namespace: Namespace) -> None:
    namespace.deploy(name, **H100)
    pod = begin(namespace, the_job(namespace, name))
    failed: Any = noted(c.MODEL_NOT_FOUND, "There is no model at /models/llama.")
    report(namespace, pod, {"terminated": failed}, phase="Failed")
    told = fits(namespace, name, c.MODEL_NOT_INSPECTED)
    assert told["status"] == "Unknown" and "There is no model at /models/llama." in told["message"]
    eventually("the engines", lambda: engines(namespace, name))
    assert "lastFailure" not in namespace.one(contract.KIND, name)["status"]


def test_a_log_that_nobody_has_holds_nothing_up(name: str, namespace: Namespace, kubelet: Kubelet) -> None:
    namespace.deploy(name, **H100)
    end(namespace, kubelet, the_job(namespace, name), text="")
    fits(namespace, name, c.MODEL_NOT_INSPECTED)
    eventually("the engines", lambda: engines(namespace, name))


def test_a_job_that_is_deleted_by_hand_is_made_again(name: str, namespace: Namespace, kubelet: Kubelet) -> None:
    namespace.deploy(name, **H100)
    job = the_job(namespace, name)
    namespace.delete("Job", job["metadata"]["name"])
    again = eventually(
        "another Job",
        lambda: found if (found := the_job(namespace, name))["metadata"]["uid"] != job["metadata"]["uid"] else None,
    )
    end(namespace, kubelet, again)
    fits(namespace, name, c.AS_EXPECTED)


def test_another_model_is_inspected_and_the_job_of_the_first_goes(name: str, namespace: Namespace, kubelet: Kubelet) -> None:
    namespace.deploy(name, **H100)
    first = the_job(namespace, name)["metadata"]["name"]
    namespace.patch(contract.KIND, name, {"spec": {"model": {"source": "pvc://models/other"}}})
    second = eventually(
        "its own Job", lambda: found if (found := the_job(namespace, name))["metadata"]["name"] != first else None
    )
    assert second["spec"]["template"]["spec"]["containers"][0]["args"] == ["inspect", "/models/other"]
    end(namespace, kubelet, second)
    fits(namespace, name, c.AS_EXPECTED)


def test_a_controller_killed_in_the_middle_goes_on_and_one_without_patience_waits_no_longer(
    name: str, api: httpx.Client, operators: Operators, control_plane: ControlPlane, kubelet: Kubelet
) -> None:
    namespace = Namespace(api, HASTY)
    first = operators.start(control_plane.kubeconfig, HASTY, identity="first", INSPECT_SECONDS="3600")
    eventually("the controller to be ready", first.leads)
    namespace.deploy(name, **H100)
    job = the_job(namespace, name)
    fits(namespace, name, c.INSPECTING_MODEL)
    assert engines(namespace, name) is None
    first.kill()
    second = operators.start(control_plane.kubeconfig, HASTY, identity="second", INSPECT_SECONDS="1")
    eventually("the next one to be ready", second.leads)
    told = fits(namespace, name, c.MODEL_NOT_INSPECTED)
    assert "longer than 1 s" in told["message"]
    eventually("the engines", lambda: engines(namespace, name))
    assert the_job(namespace, name)["metadata"]["uid"] == job["metadata"]["uid"]
    end(namespace, kubelet, job)
    fits(namespace, name, c.AS_EXPECTED)
    eventually("the Job's end", lambda: not has_job(namespace, name))
    assert second.terminate() == 0, second.log
