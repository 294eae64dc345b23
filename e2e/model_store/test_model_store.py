"""A model that is fetched before it is served: how far it is, that it answers, and why another one never comes."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from e2e import access
from e2e.cluster.images import Images
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl, wait_for

HERE = Path(__file__).parent
MANIFEST = HERE / "manifest.yaml"


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl, fleet: Images) -> Iterator[Kubectl]:
    """The hub, and all that want something of it."""
    program = {"hub.py": (HERE / "hub.py").read_text(encoding="utf-8")}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hub"}, "data": program})
    service, pod = yaml.safe_load_all((HERE / "hub.yaml").read_text(encoding="utf-8"))
    pod["spec"]["containers"][0]["image"] = fleet.operator
    for body in (service, pod):
        kubectl.apply(body)
    kubectl("wait", "--for=condition=Ready", "pod/hub", "--timeout=60s")
    kubectl.apply_file(MANIFEST)
    yield kubectl
    kubectl("delete", "-f", str(MANIFEST), "--ignore-not-found", "--wait=true")
    kubectl("delete", "pod/hub", "service/hub", "configmap/hub", "--ignore-not-found", "--wait=true")


def _status(kubectl: Kubectl) -> Json:
    return dict((kubectl.get("llmd", "fetched") or {}).get("status") or {})


def test_a_fetched_model_tells_how_far_it_is_and_is_served(applied: Kubectl) -> None:
    fetched, seen = Deployed(applied, "fetched"), set[int]()

    def two_looks() -> bool:
        if download := _status(applied).get("download"):
            assert 0 <= download["bytes"] <= download["totalBytes"]
            seen.add(download["bytes"])
        return len(seen) >= 2

    wait_for("status.download to move", two_looks, timeout=90, interval=0.3)
    fetched.wait_reason("EngineReady", "FetchingModel", timeout=10)
    fetched.wait_ready(1)
    assert "download" not in _status(applied)
    with access.base_url(applied, "fetched") as url:
        body = {"model": "fetched", "prompt": "A ship sails", "max_tokens": 16, "temperature": 0}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60, trust_env=False)
    assert answer.json()["choices"][0]["text"].strip()


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        pytest.param("not-there", "ModelNotFound", "fleet/nothing", id="a model that nobody has"),
        pytest.param("no-licence", "ModelAccessDenied", "licence", id="a model whose licence was not accepted"),
        pytest.param("no-secret", "ContainerConfigInvalid", "spec.model.credentials.secretName", id="a Secret that is missing"),
    ],
)
def test_what_cannot_be_fetched_says_why(applied: Kubectl, name: str, reason: str, words: str) -> None:
    state = Deployed(applied, name).wait_reason("EngineReady", reason)
    assert state["status"] == "False"
    assert words in state["message"]
