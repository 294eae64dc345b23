"""One router for two models: the request's `model` chooses, a model may be split by weight, another one may stand in for it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from e2e import access
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl, condition, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")
NAMES = ("shared-a", "shared-b")


@pytest.fixture(scope="module")
def client(kubectl: Kubectl) -> Iterator[httpx.Client]:
    """Of the shared router, when it and both engines are ready."""
    kubectl.apply_file(MANIFEST)
    try:
        for name in NAMES:
            Deployed(kubectl, name).wait_ready(1)
        wait_for("the LLMRouter to be ready", lambda: reason(kubectl) == "AsExpected", timeout=120)
        with access.base_url(kubectl, "shared") as url, httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
            yield client
    finally:
        kubectl("delete", "-f", str(MANIFEST), "--ignore-not-found", "--wait=true", timeout=180)
        wait_for("what they made to go", lambda: not remains(kubectl), timeout=120)


def reason(kubectl: Kubectl) -> str:
    return str(condition(kubectl.get("llmr", "shared")).get("reason"))


def remains(kubectl: Kubectl) -> list[Json]:
    of_router = kubectl.items("deployments,services,pods", "tokenfleet.dev/router=shared")
    return of_router + [pod for name in NAMES for pod in kubectl.items("pods", f"tokenfleet.dev/deployment={name}")]


def complete(client: httpx.Client, model: str) -> Json:
    """The answer's JSON; its `model` is what the engine that answered calls itself."""
    body = {"model": model, "prompt": "One router", "max_tokens": 4, "ignore_eos": True, "temperature": 0}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_one_address_lists_all_models_and_the_llmdeployments_have_no_router(client: httpx.Client, kubectl: Kubectl) -> None:
    assert sorted(entry["id"] for entry in client.get("/v1/models").json()["data"]) == ["first", "second", "tiny"]
    status = (kubectl.get("llmr", "shared") or {})["status"]
    assert (status["models"], status["ready"]) == (["first", "second", "tiny"], "1/1")
    for name in NAMES:
        assert not [child for child in Deployed(kubectl, name).children() if "router" in child or child == f"Service/{name}"]
        assert (kubectl.get("llmd", name) or {})["status"]["url"] == status["url"]
    assert '["first","second","tiny"]' in kubectl("get", "llmr", "shared")


def test_the_request_chooses_its_model(client: httpx.Client) -> None:
    for model in ("first", "second"):
        assert complete(client, model)["model"] == model
    refused = client.post("/v1/completions", json={"model": "third", "prompt": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


def test_a_model_is_split_by_weight_and_the_weight_changes_while_it_serves(client: httpx.Client, kubectl: Kubectl) -> None:
    answered = Counter(complete(client, "tiny")["model"] for _ in range(20))
    assert answered == {"first": 10, "second": 10}

    routers = [pod["metadata"]["uid"] for pod in kubectl.items("pods", "tokenfleet.dev/router=shared")]
    change = '[{"op": "replace", "path": "/spec/routes/0/targets/0/weight", "value": 3}]'
    kubectl("patch", "llmr", "shared", "--type=json", "-p", change)

    def split() -> Counter[str]:
        return Counter(complete(client, "tiny")["model"] for _ in range(8))

    wait_for("three of four to go to the first", lambda: split() == {"first": 6, "second": 2}, timeout=60)
    assert [pod["metadata"]["uid"] for pod in kubectl.items("pods", "tokenfleet.dev/router=shared")] == routers


def test_another_model_stands_in_for_one_that_is_scaled_to_zero(client: httpx.Client, kubectl: Kubectl) -> None:
    kubectl("scale", "llmd/shared-a", "--replicas=0")
    Deployed(kubectl, "shared-a").wait_reason("EngineReady", "ScaledToZero")
    wait_for("its engine to go", lambda: not Deployed(kubectl, "shared-a").engines(), timeout=180)
    assert complete(client, "first")["model"] == "second"
    assert {complete(client, "tiny")["model"] for _ in range(4)} == {"second"}
    assert sorted(entry["id"] for entry in client.get("/v1/models").json()["data"]) == ["first", "second", "tiny"]


def test_a_target_that_is_not_there_is_told_and_the_rest_is_served(client: httpx.Client, kubectl: Kubectl) -> None:
    change = '[{"op": "replace", "path": "/spec/routes/0/targets/0/deployment", "value": "shared-c"}]'
    kubectl("patch", "llmr", "shared", "--type=json", "-p", change)
    wait_for("the LLMRouter to say so", lambda: reason(kubectl) == "RoutesUnresolved", timeout=60)
    state = condition(kubectl.get("llmr", "shared"))
    assert state["status"] == "True" and "no LLMDeployment shared-c names this router" in state["message"]
    assert complete(client, "tiny")["model"] == "second"
