"""A running controller while pods fetch their model, against a real API server.

There is no node, so the test writes what a kubelet would report of its pods, and every read of a log fails: which must cost the
numbers of status.download and nothing else. Where logs can be read, tests/controller/test_reconcile_downloads.py goes on.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.operators import Audit, Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.controller.downloads import SILENT_SECONDS

NAMESPACE = "downloads"
FETCH = contract.CONTAINER_FETCH
STARTED = {"startedAt": "2026-01-01T00:00:00Z"}
NOTE = json.dumps({"reason": c.MODEL_ACCESS_DENIED, "message": "The store answers 403. Look at the Secret."})


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
def name(request: pytest.FixtureRequest, namespace: Namespace, operator: Operator) -> str:
    """An LLMDeployment with one engine pod, on a node that there is not."""
    name = f"llm-{abs(hash(request.node.nodeid)) % 10**8}"
    namespace.deploy(name)
    eventually("its status", lambda: namespace.condition(name, c.READY))
    labels = {contract.LABEL_DEPLOYMENT: name, contract.LABEL_ROLE: contract.ROLE_ENGINE, "pod-template-hash": "a"}
    spec = {
        "nodeName": "away",
        "initContainers": [{"name": FETCH, "image": "x"}],
        "containers": [{"name": "engine", "image": "x"}],
    }
    namespace.create("Pod", {"metadata": {"name": f"{name}-a", "labels": labels}, "spec": spec})
    return name


def report(namespace: Namespace, name: str, state: Json, **fields: Any) -> None:
    """What a kubelet says of the init container that fetches."""
    status = {"name": FETCH, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state, **fields}
    change = {"status": {"phase": "Pending", "initContainerStatuses": [status]}}
    namespace.patch("Pod", f"{name}-a", change, subresource="status")


def has_reason(namespace: Namespace, name: str, reason: str) -> Json:
    return eventually(
        reason, lambda: found if (found := namespace.condition(name, c.ENGINE_READY)).get("reason") == reason else None
    )


def log_reads(plane: ControlPlane, name: str) -> list[int]:
    """The answers, by their codes."""
    entries = map(json.loads, plane.audit_log.read_text().splitlines()) if plane.audit_log.exists() else ()
    return [
        entry["responseStatus"]["code"]
        for entry in entries
        if entry.get("objectRef", {}).get("subresource") == "log" and entry["objectRef"].get("name") == f"{name}-a"
    ]


def test_a_download_is_told_although_its_log_cannot_be_read(
    name: str, namespace: Namespace, operator: Operator, audit: Audit, control_plane: ControlPlane
) -> None:
    report(namespace, name, {"running": STARTED})
    found = has_reason(namespace, name, c.FETCHING_MODEL)
    assert found["message"] == (
        f"Pod {name}-a fetches the model. kubectl -n {NAMESPACE} logs -f {name}-a -c {FETCH} shows how far it is."
    )
    assert "download" not in namespace.one(contract.KIND, name)["status"]
    reads = eventually("the read of its log", lambda: log_reads(control_plane, name))
    assert all(code >= 400 for code in reads)
    assert operator.running()
    (line,) = [line for line in operator.log.splitlines() if f"{name}: a download runs" in line]
    assert "INFO" in line
    time.sleep(0.5)
    audit.restart()
    time.sleep(1)
    assert audit.writes() == [], "a log that cannot be read is no reason to write"
    assert len(log_reads(control_plane, name)) == len(reads), f"nor to ask again within {SILENT_SECONDS} s"


def test_other_llmdeployments_are_not_held_up(name: str, namespace: Namespace) -> None:
    report(namespace, name, {"running": STARTED})
    has_reason(namespace, name, c.FETCHING_MODEL)
    namespace.patch(contract.KIND, name, {"spec": {"replicas": 3}})
    eventually("its own change", lambda: namespace.one("Deployment", f"{name}-engine")["spec"]["replicas"] == 3)
    namespace.deploy(f"{name}-b")
    eventually("another one", lambda: namespace.condition(f"{name}-b", c.READY))


def test_a_download_that_fails_is_told_at_its_first_try(name: str, namespace: Namespace) -> None:
    report(namespace, name, {"running": STARTED})
    has_reason(namespace, name, c.FETCHING_MODEL)
    end = {"exitCode": 2, "reason": "Error", "message": NOTE, "finishedAt": "2026-01-01T00:01:00Z"}
    report(namespace, name, {"terminated": end})
    found = has_reason(namespace, name, c.MODEL_ACCESS_DENIED)
    assert found["message"].startswith("The store answers 403. Look at the Secret. kubectl")
    assert f"logs {name}-a -c {FETCH} --previous" in found["message"]
    failure = namespace.one(contract.KIND, name)["status"]["lastFailure"]
    assert (failure["pod"], failure["reason"], failure["exitCode"]) == (f"{name}-a", c.MODEL_ACCESS_DENIED, 2)


def test_where_nothing_is_fetched_no_log_is_read(
    name: str, namespace: Namespace, audit: Audit, control_plane: ControlPlane
) -> None:
    done = {"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-01T00:01:00Z"}
    report(namespace, name, {"terminated": done}, ready=True)
    has_reason(namespace, name, c.CREATING)
    time.sleep(0.5)
    audit.restart()
    time.sleep(1)
    assert audit.writes() == []
    assert log_reads(control_plane, name) == []
