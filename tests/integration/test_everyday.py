"""`tokenfleet status` and `diagnose` against a real API server, where no controller runs and where little may be seen."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner, Result

from e2e.cluster.control_plane import ControlPlane
from tests.integration.operators import eventually
from tokenfleet.cli.completion import deployment_names
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.main import app
from tokenfleet.controller.kinds import LLM_DEPLOYMENT

_NAMESPACE = "everyday"
_OURS = LLM_DEPLOYMENT.path(_NAMESPACE)
_SPEC = {"model": {"source": "hf://org/llama"}, "accelerator": "simulated", "replicas": 2}


def body(name: str, **spec: Any) -> dict[str, Any]:
    kind = {"apiVersion": LLM_DEPLOYMENT.api_version, "kind": LLM_DEPLOYMENT.name}
    return {**kind, "metadata": {"name": name}, "spec": {**_SPEC, **spec}}


@pytest.fixture(scope="module")
def llama(api: httpx.Client) -> Iterator[httpx.Client]:
    api.post("/api/v1/namespaces", json={"metadata": {"name": _NAMESPACE}})
    api.post(_OURS, json=body("llama")).raise_for_status()
    yield api
    api.delete(f"{_OURS}/llama")


def tokenfleet(*words: str, kubeconfig: Path) -> Result:
    return CliRunner().invoke(app, [*words, "-n", _NAMESPACE, "--kubeconfig", str(kubeconfig)])


def told(llama: httpx.Client, **status: Any) -> None:
    """As a controller would."""
    change = {"status": {"observedGeneration": 1, "ready": "1/2", "queueDepth": 4, "inFlight": 9, **status}}
    llama.patch(
        f"{_OURS}/llama/status", json=change, headers={"Content-Type": "application/merge-patch+json"}
    ).raise_for_status()


def test_the_fleet_before_and_after_a_controller_has_seen_it(llama: httpx.Client, kubeconfig: Path) -> None:
    done = tokenfleet("status", "--json", kubeconfig=kubeconfig)
    assert [(row["name"], row["ready"], row["reason"]) for row in json.loads(done.stdout)] == [("llama", "Unknown", "Unseen")]
    told(llama)
    row = json.loads(tokenfleet("status", "--json", kubeconfig=kubeconfig).stdout)[0]
    assert (row["readyReplicas"], row["replicas"], row["queueDepth"], row["inFlight"]) == (1, 2, 4, 9)
    page = tokenfleet("status", "llama", kubeconfig=kubeconfig)
    assert "9 requests in flight, 4 waiting" in page.stdout
    everywhere = CliRunner().invoke(app, ["status", "-A", "--json", "--kubeconfig", str(kubeconfig)])
    assert "llama" in {row["name"] for row in json.loads(everywhere.stdout)}


def test_watching_tells_each_change_once_and_ends_on_an_interrupt(llama: httpx.Client, kubeconfig: Path) -> None:
    told(llama, inFlight=1)
    command = [sys.executable, "-c", "from tokenfleet.cli.main import app; app()", "status", "-n", _NAMESPACE, "-w", "--json"]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["inFlight"] == 1
        told(llama, inFlight=2)
        assert json.loads(process.stdout.readline())["inFlight"] == 2
        llama.post(_OURS, json=body("later")).raise_for_status()
        assert json.loads(process.stdout.readline())["name"] == "later"
        llama.delete(f"{_OURS}/later").raise_for_status()
        assert json.loads(process.stdout.readline()) == {"name": f"{_NAMESPACE}/later", "deleted": True}
        process.send_signal(2)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (0, "", "")


def test_a_diagnosis_without_a_controller_says_so_first_and_goes_on(llama: httpx.Client, kubeconfig: Path) -> None:
    done = tokenfleet("diagnose", "llama", "--json", kubeconfig=kubeconfig)
    assert done.exit_code == 1, done.exception
    found = json.loads(done.stdout)
    assert found["cause"]["link"] == "Controller"
    assert "No controller leads" in found["cause"]["message"]
    states = {one["link"]: one["state"] for one in found["findings"]}
    assert states["Objects"] == "waiting"
    assert states["Request"] == "note"
    assert "unknown" not in states.values(), "an administrator may see everything"


@pytest.fixture
def stranger(llama: httpx.Client, control_plane: ControlPlane, tmp_path: Path) -> Path:
    """A kubeconfig of somebody who may look at LLMDeployments, and at nothing else."""
    accounts = f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts"
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{_NAMESPACE}"
    rule = {"apiGroups": [LLM_DEPLOYMENT.group], "resources": [LLM_DEPLOYMENT.plural], "verbs": ["get", "list", "watch"]}
    llama.post(accounts, json={"metadata": {"name": "looker"}})
    llama.post(f"{roles}/roles", json={"metadata": {"name": "looker"}, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looker"}
    subject = {"kind": "ServiceAccount", "name": "looker", "namespace": _NAMESPACE}
    llama.post(f"{roles}/rolebindings", json={"metadata": {"name": "looker"}, "roleRef": reference, "subjects": [subject]})
    token = llama.post(f"{accounts}/looker/token", json={"spec": {}}).raise_for_status().json()["status"]["token"]
    file = tmp_path / "kubeconfig"
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    file.write_text(yaml.safe_dump(config))
    return file


def test_who_may_see_little_is_told_which_right_is_missing(stranger: Path, llama: httpx.Client) -> None:
    eventually("the role", lambda: tokenfleet("status", kubeconfig=stranger).exit_code == 0)
    done = tokenfleet("diagnose", "llama", "--json", kubeconfig=stranger)
    found = {one["link"]: one for one in json.loads(done.stdout)["findings"]}
    assert (found["API"]["state"], found["Spec"]["state"]) == ("ok", "ok")
    for link, right in (
        ("Controller", "list leases.coordination.k8s.io"),
        ("Objects", "list deployments.apps in the namespace everyday"),
        ("Nodes", "list pods in the namespace everyday"),
        ("Service", "list services in the namespace everyday"),
        ("Events", "list events in the namespace everyday"),
    ):
        assert found[link]["state"] == "unknown", link
        assert f"ask for a role that lets you {right}" in found[link]["message"]
    everywhere = CliRunner().invoke(app, ["status", "-A", "--kubeconfig", str(stranger)])
    assert "You may not get the LLMDeployments of all namespaces" in str(everywhere.exception)


def test_names_are_completed(llama: httpx.Client, kubeconfig: Path) -> None:
    chosen = {"kubeconfig": str(kubeconfig), "namespace": _NAMESPACE}
    assert deployment_names(chosen, "ll", seconds=30) == ["llama"]
    assert deployment_names(chosen, "x", seconds=30) == []


def test_a_name_that_is_not_there_lists_those_that_are(llama: httpx.Client, kubeconfig: Path) -> None:
    for words in (("status", "absent"), ("diagnose", "absent"), ("logs", "absent"), ("chat", "absent", "--once", "hello")):
        error = tokenfleet(*words, kubeconfig=kubeconfig).exception
        assert isinstance(error, CliError), words
        assert "There is no LLMDeployment absent in the namespace everyday. There are: llama." in str(error)


def test_without_pods_there_are_no_logs_and_nobody_to_talk_to(llama: httpx.Client, kubeconfig: Path) -> None:
    assert "`tokenfleet diagnose llama -n everyday` says why" in str(
        tokenfleet("logs", "llama", kubeconfig=kubeconfig).exception
    )
    chat = tokenfleet("chat", "llama", "--once", "hello", kubeconfig=kubeconfig)
    assert "No router of the LLMDeployment llama in the namespace everyday is ready" in str(chat.exception)
