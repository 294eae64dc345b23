"""A user's first minutes: apply the example, wait, ask, look."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from e2e import access, install
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl

MANIFEST = install.CHART.parent.parent / "examples" / "quickstart.yaml"


def _lines(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_the_example_serves_chat_completions(kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]) -> None:
    demo = deploy(MANIFEST, "demo")
    demo.wait_ready(1)

    with access.base_url(kubectl, "demo") as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        models = client.get("/v1/models").json()
        assert [entry["id"] for entry in models["data"]] == ["demo"]

        question = {"model": "demo", "messages": [{"role": "user", "content": "What does a router do?"}], "max_tokens": 32}
        whole = client.post("/v1/chat/completions", json=question)
        assert whole.status_code == 200, whole.text
        content = whole.json()["choices"][0]["message"]["content"]
        assert len(content.split()) >= 3

        streamed = client.post("/v1/chat/completions", json=question | {"stream": True, "temperature": 0})
        *events, last = _lines(streamed.text)
        assert last == "[DONE]"
        assert len(events) > 3
        assert "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events if event).strip()

        unknown = client.post("/v1/chat/completions", json=question | {"model": "other"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        assert "demo" in unknown.json()["error"]["message"]

    header, row = kubectl("get", "llmd", "demo").splitlines()
    assert header.split() == ["NAME", "MODEL", "READY", "QUEUE", "REASON", "AGE"]
    assert row.split()[:5] == ["demo", "pvc://models/tokenfleet-demo", "1/1", "0", "AsExpected"]
    status = (kubectl.get("llmd", "demo") or {})["status"]
    assert status["url"] == f"http://demo.{kubectl.namespace}.svc/v1"
    told = {c["type"]: c["status"] for c in status["conditions"]}
    assert told == dict.fromkeys(("Ready", "SpecValid", "ModelFits", "EngineReady", "RouterReady"), "True")


@pytest.mark.parametrize("field", ["", ".model", ".engine.batching", ".drain"])
def test_kubectl_explain_teaches_the_api(kubectl: Kubectl, field: str) -> None:
    text = kubectl("explain", f"llmd.spec{field}")
    assert "DESCRIPTION" in text
    assert "<no description>" not in text
