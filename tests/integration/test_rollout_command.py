"""`tokenfleet rollout`, `restart`, `suspend` and `resume` against a real API server, where nobody acts on what they write."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner, Result

from tokenfleet import contract
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.main import app

_NAMESPACE = "rollouts"
_OWNERS = f"/apis/{contract.API_VERSION}/namespaces/{_NAMESPACE}/{contract.PLURAL}"
_APPS = f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments"
_REVISION = "1-ab12cd34"
_CANARY = {"weights": [10, 50], "pauseSeconds": 60}
_STAGE = {
    "phase": "Progressing",
    "revision": _REVISION,
    "step": 1,
    "weight": 10,
    "began": "2026-03-01T12:00:00Z",
    "since": "2026-03-01T12:00:00Z",
    "message": "It is watched.",
    "figures": {
        "since": "2026-03-01T12:00:00Z",
        "time": "2026-03-01T12:00:00Z",
        "requests": 100,
        "failed": 1,
        "countedRequests": 7,
        "countedFailed": 0,
    },
}


@pytest.fixture(scope="module", autouse=True)
def namespace(api: httpx.Client) -> None:
    api.post("/api/v1/namespaces", json={"metadata": {"name": _NAMESPACE}})


def deployed(api: httpx.Client, name: str, *, stage: dict[str, Any] | None = None) -> None:
    """An LLMDeployment with one engine, and with a status as the controller would write it."""
    spec = {
        "model": {"source": "pvc://models/llama"},
        "accelerator": "cpu",
        "rollout": {"canary": _CANARY},
    }
    body = {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": {"name": name}, "spec": spec}
    made = api.post(_OWNERS, json=body).raise_for_status().json()
    made["status"] = {"observedGeneration": 1} | ({"rollout": stage} if stage else {})
    api.put(f"{_OWNERS}/{name}/status", json=made).raise_for_status()
    labels = {contract.LABEL_DEPLOYMENT: name, contract.LABEL_ROLE: contract.ROLE_ENGINE}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "engine", "image": "example.org/engine"}]}}
    engines: dict[str, Any] = {"metadata": {"name": f"{name}-engine", "labels": labels}}
    engines |= {"spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}}
    api.post(_APPS, json=engines).raise_for_status()


def owner(api: httpx.Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"{_OWNERS}/{name}").raise_for_status().json()
    return found


def tokenfleet(*words: str, kubeconfig: Path) -> Result:
    return CliRunner().invoke(app, [*words, "-n", _NAMESPACE, "--kubeconfig", str(kubeconfig)])


def done(*words: str, kubeconfig: Path) -> Result:
    result = tokenfleet(*words, kubeconfig=kubeconfig)
    assert result.exit_code == 0, result.exception
    return result


def test_the_status_of_a_canary_is_read_and_orders_are_written(api: httpx.Client, kubeconfig: Path) -> None:
    deployed(api, "tried", stage=_STAGE)
    body = json.loads(done("rollout", "status", "tried", "--json", kubeconfig=kubeconfig).stdout)
    assert (body["phase"], body["step"], body["weights"], body["errorRate"]) == ("Progressing", 1, [10, 50], 0.01)
    assert body["pods"] == [{"deployment": "tried-engine", "wanted": 1, "new": 0, "old": 0, "ready": 0}]
    for verb in ("promote", "abort"):
        done("rollout", verb, "tried", kubeconfig=kubeconfig)
        assert owner(api, "tried")["metadata"]["annotations"] == {contract.ANNOTATION_ROLLOUT: f"{verb}:{_REVISION}"}


def test_restart_suspend_and_resume_change_what_they_name_alone(api: httpx.Client, kubeconfig: Path) -> None:
    deployed(api, "plain")
    before = owner(api, "plain")["spec"]
    done("restart", "plain", "--no-wait", kubeconfig=kubeconfig)
    assert list(owner(api, "plain")["metadata"]["annotations"]) == [contract.ANNOTATION_RESTARTED]
    assert owner(api, "plain")["spec"] == before
    done("suspend", "plain", kubeconfig=kubeconfig)
    assert owner(api, "plain")["spec"] == {**before, "suspend": True}
    done("resume", "plain", kubeconfig=kubeconfig)
    assert owner(api, "plain")["spec"] == {**before, "suspend": False}


def test_what_there_is_is_said_where_a_name_is_wrong(api: httpx.Client, kubeconfig: Path) -> None:
    deployed(api, "there")
    error = tokenfleet("suspend", "their", kubeconfig=kubeconfig).exception
    assert isinstance(error, CliError)
    assert str(error).startswith(f"There is no LLMDeployment their in the namespace {_NAMESPACE}. There are: ")
    assert "there" in str(error).partition("There are: ")[2].rstrip(".").split(", ")


def test_a_stranger_is_told_what_is_missing(kubeconfig: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = {}
    other = tmp_path / "kubeconfig"
    other.write_text(yaml.safe_dump(config))
    error = tokenfleet("rollout", "promote", "x", kubeconfig=other).exception
    assert isinstance(error, CliError)
    assert f"You may not get the LLMDeployment {_NAMESPACE}/x: ask for a role that lets you get, list and patch" in str(error)
