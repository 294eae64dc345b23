"""The controller itself, as the service account that the chart makes: it is refused nothing, and uses what it is granted.

The audit log of the API server tells both: no answer of 403, and every right used but those that are named here with why.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from e2e.cluster import tools
from e2e.cluster.control_plane import ControlPlane, free_ports
from tests.integration.command_lines import CHART, ROOT, Json, Kubectl, documents, render, run
from tests.integration.test_chart import environment, flags, one, rules
from tokenfleet import contract

Right = tuple[str, str, str]
"""API group, resource, verb."""

HELD_FOR_OTHERS: set[Right] = {
    ("tokenfleet.dev", "llmdeployments", "get"),  # granted on, to routers
    ("tokenfleet.dev", "llmrouters", "get"),  # granted on, to shared routers
    ("tokenfleet.dev", "llmrouters/finalizers", "update"),  # as below
    ("", "pods", "get"),  # granted on, to routers
    ("", "resourcequotas", "list"),  # before a GPU replica more, which nobody wants here
    ("tokenfleet.dev", "llmdeployments/finalizers", "update"),  # asked for where OwnerReferencesPermissionEnforcement is on
}
OF_OTHER_DAYS = {"get", "delete"}
"""Verbs on children: to look at one that the watch does not show, and to remove one that a later version does not want."""

SYSTEM = "tokenfleet-system"
SETTINGS = "crds.enabled=true,rbac.userRoles=false,inspection.seconds=1"
"""Nobody runs the pod that inspects the model, so engines wait for it in vain."""
FETCHING: Json = {
    "phase": "Pending",
    "initContainerStatuses": [
        {
            **{"name": contract.CONTAINER_FETCH, "image": "x", "imageID": "", "ready": False, "restartCount": 0},
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }
    ],
}
"""The status of a pod that fetches a model, as a kubelet would report it."""
UP: Json = {
    "phase": "Running",
    "conditions": [{"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
}
"""And of one that only lacks the routers' use."""
LEASE = ("-n", SYSTEM, "get", "lease", contract.LEADER_LEASE, "-o", "jsonpath={.spec.holderIdentity}")


@dataclass(frozen=True, slots=True)
class Controller:
    """A running controller, with the rights that the chart gives it."""

    kubectl: Kubectl
    plane: ControlPlane
    granted: set[Right]
    user: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def audit(self) -> list[Json]:
        entries = map(json.loads, self.plane.audit_log.read_text().splitlines())
        return [entry for entry in entries if entry["user"]["username"] == self.user and "objectRef" in entry]

    def used(self) -> set[Right]:
        """An apply that made something new (201) took the right to create; the log calls it a patch."""
        found = set()
        for entry in self.audit():
            where = entry["objectRef"]
            resource = "/".join(filter(None, (where.get("resource"), where.get("subresource"))))
            verbs = {entry["verb"]} | ({"create"} if entry["responseStatus"]["code"] == 201 else set())
            found |= {(where.get("apiGroup", ""), resource, verb) for verb in verbs}
        return found


def fetching_pod(deployment: str) -> Json:
    """An engine pod that downloads. Nobody can read its log here, where there is no node."""
    labels = {contract.LABEL_DEPLOYMENT: deployment, contract.LABEL_ROLE: contract.ROLE_ENGINE}
    restricted = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }

    def container(name: str) -> Json:
        return {"name": name, "image": "x", "securityContext": restricted}

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{deployment}-engine-a", "namespace": "models", "labels": labels},
        "spec": {
            "readinessGates": [{"conditionType": contract.CONDITION_IN_USE}],
            "initContainers": [container(contract.CONTAINER_FETCH)],
            "containers": [container(contract.CONTAINER_ENGINE)],
        },
    }


def eventually(what: str, probe: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


@contextmanager
def running(variables: dict[str, str], kubeconfig: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The controller's command, until its probe says that it is ready."""
    health, metrics = free_ports(2)
    ports = {"TOKENFLEET_HEALTH_PORT": str(health), "TOKENFLEET_METRICS_PORT": str(metrics), "KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "tokenfleet.controller.main"]
    with log.open("w") as output, subprocess.Popen(command, env={**os.environ, **variables, **ports}, stderr=output) as process:
        try:
            with httpx.Client(trust_env=False, timeout=2) as client:

                def ready() -> bool:
                    assert process.poll() is None, log.read_text()
                    try:
                        return client.get(f"http://127.0.0.1:{health}/readyz").status_code == 200
                    except httpx.HTTPError:
                        return False

                eventually("the controller to be ready", ready)
            yield process
        finally:
            process.kill()


def as_account(plane: ControlPlane, token: str, path: Path) -> Path:
    """A kubeconfig for the API server with a service account's token, as its pod would have it."""
    document = yaml.safe_load(plane.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module", params=["default", "namespaced"])
def controller(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    directory = tmp_path_factory.mktemp("rights")
    tools.ensure("helm")
    with ControlPlane.start(directory / "plane") as plane:
        kubectl = Kubectl(plane.kubeconfig)
        for namespace in (SYSTEM, "models", "staging"):
            kubectl.ensure_namespace(namespace)
        values = [*flags(request.param), "--set", f"{SETTINGS},serviceAccount.create=true"]
        run([tools.path("helm"), "--kubeconfig", plane.kubeconfig, "-n", SYSTEM, "install", "tokenfleet", CHART, *values]).ok()
        for crd in ("llmdeployments.tokenfleet.dev", "llmrouters.tokenfleet.dev"):
            kubectl.wait_established(crd)
        rendered = documents(render(*values).ok())
        account = one(rendered, "ServiceAccount")["metadata"]["name"]
        token = kubectl("-n", SYSTEM, "create", "token", account).ok().strip()
        log = directory / "controller.log"
        with running(environment(rendered), as_account(plane, token, directory / "kubeconfig"), log) as process:
            granted = {
                (group, resource, verb)
                for rule in rules(rendered)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
            yield Controller(kubectl, plane, granted, f"system:serviceaccount:{SYSTEM}:{account}", process, log)


def test_the_rights_are_enough_and_are_used(controller: Controller) -> None:
    kubectl = controller.kubectl
    demo = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text())
    taken = {**demo, "metadata": {"name": "taken"}}
    demo["spec"]["autoscaling"] = {"maxReplicas": 2, "actuator": "HPA"}
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}]}}
    objects = [{**each, "metadata": {"name": each["metadata"]["name"], "namespace": "models"}} for each in (demo, taken)]
    router = {"apiVersion": "tokenfleet.dev/v1alpha1", "kind": "LLMRouter", "spec": {}}
    router["metadata"] = {"name": "shared", "namespace": "models"}
    kubectl.apply({**service, "metadata": {"name": "taken", "namespace": "models"}}, router, *objects).ok()

    def names(kind: str) -> list[str]:
        return kubectl("-n", "models", "get", kind, "-o", "name").ok().split()

    eventually("the router of demo", lambda: "deployment.apps/demo-router" in names("deployments"))
    eventually("its autoscaler", lambda: "horizontalpodautoscaler.autoscaling/demo" in names("hpa"))
    eventually("the shared router", lambda: "deployment.apps/shared-router" in names("deployments"))
    eventually("the Service of demo", lambda: "service/demo" in names("services"))
    kubectl("-n", "models", "delete", "service", "demo").ok()
    eventually("the Service to be put back", lambda: "service/demo" in names("services"))
    eventually("an Event about the name that is taken", lambda: names("events"))
    reason = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}"
    assert kubectl("-n", "models", "get", "llmd", "taken", "-o", reason).ok() == "NameConflict"

    kubectl.apply(fetching_pod("demo")).ok()
    status = json.dumps({"status": FETCHING})
    kubectl("-n", "models", "patch", "pod", "demo-engine-a", "--subresource=status", "--type=merge", "-p", status).ok()
    reason = "jsonpath={.status.conditions[?(@.type=='EngineReady')].reason}"
    eventually(
        "the download to be told", lambda: kubectl("-n", "models", "get", "llmd", "demo", "-o", reason).ok() == "FetchingModel"
    )

    status = json.dumps({"status": UP})
    kubectl("-n", "models", "patch", "pod", "demo-engine-a", "--subresource=status", "--type=merge", "-p", status).ok()
    gate = f"jsonpath={{.status.conditions[?(@.type=='{contract.CONDITION_IN_USE}')].status}}"
    eventually(
        "its gate to be opened", lambda: kubectl("-n", "models", "get", "pod", "demo-engine-a", "-o", gate).ok() == "True"
    )
    kubectl("-n", "models", "patch", "llmd", "demo", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}})).ok()
    mark = f"jsonpath={{.metadata.annotations.{contract.ANNOTATION_DRAINING.replace('.', chr(92) + '.')}}}"
    eventually("it to be marked", lambda: kubectl("-n", "models", "get", "pod", "demo-engine-a", "-o", mark).ok())

    controller.process.terminate()
    assert controller.process.wait(20) == 0, controller.log.read_text()
    assert kubectl(*LEASE).ok() == ""

    refused = [entry for entry in controller.audit() if entry["responseStatus"]["code"] == 403]
    assert [(entry["verb"], entry["requestURI"]) for entry in refused] == []
    unused = controller.granted - controller.used() - HELD_FOR_OTHERS
    assert {right for right in unused if right[2] not in OF_OTHER_DAYS} == set()
