"""Whether a model fits is known before an engine is made, as vLLM itself counts it; what does not fit says what to change."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.deployed import Deployed
from e2e.kubectl import Kubectl, condition, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")
KV_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
FIX = re.compile(r"[Ss]et --kv-cache-memory-bytes in engine\.extraArgs to (\d+)")


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl) -> Iterator[Kubectl]:
    kubectl.apply_file(MANIFEST)
    yield kubectl
    for name in ("fits", "fits-not"):
        Deployed(kubectl, name).delete()


def test_memory_is_told_before_the_engine_exists_and_as_vllm_counts_it(applied: Kubectl) -> None:
    kubectl, deployed = applied, Deployed(applied, "fits")
    told = deployed.wait_reason("ModelFits", "AsExpected")
    assert told["status"] == "True"
    status = (kubectl.get("llmd", "fits") or {})["status"]
    assert status["model"]["architecture"] == "LlamaForCausalLM"
    assert f"{status['memory']['kvTokens']:,} tokens" in told["message"]

    (engine,) = wait_for("its engine", deployed.engines, timeout=60)
    assert told["lastTransitionTime"] <= engine["metadata"]["creationTimestamp"]
    deployed.wait_ready(1)
    log = kubectl("logs", engine["metadata"]["name"], "-c", "engine")
    found = KV_TOKENS.search(log)
    assert found is not None, log
    counted = int(found[1].replace(",", ""))
    assert status["memory"]["kvTokens"] == pytest.approx(counted, rel=0.02)

    wait_for("nothing to be left of the inspection", lambda: not inspections(kubectl, "fits"), timeout=60)
    version = (kubectl.get("llmd", "fits") or {})["metadata"]["resourceVersion"]
    time.sleep(5)
    assert (kubectl.get("llmd", "fits") or {})["metadata"]["resourceVersion"] == version, "converged means quiet"


def test_what_does_not_fit_is_not_made_and_says_what_makes_it_fit(applied: Kubectl) -> None:
    kubectl, fits_not = applied, Deployed(applied, "fits-not")
    told = fits_not.wait_reason("ModelFits", "DoesNotFit")
    assert told["status"] == "False"
    assert "2,048 tokens" in told["message"]
    assert condition(kubectl.get("llmd", "fits-not"))["reason"] == "DoesNotFit"
    wait_for("its router", lambda: kubectl.items("pods", f"{fits_not.selector},tokenfleet.dev/role=router"), timeout=60)
    assert fits_not.engines() == []
    assert kubectl.get("deployment", "fits-not-engine") is None

    fix = FIX.search(told["message"])
    assert fix is not None, told["message"]
    change = {"spec": {"engine": {"extraArgs": [f"--kv-cache-memory-bytes={fix[1]}"]}}}
    kubectl("patch", "llmd/fits-not", "--type=merge", "-p", json.dumps(change))
    assert fits_not.wait_reason("ModelFits", "AsExpected")["status"] == "True"
    assert inspections(kubectl, "fits-not") == [], "the model is known"
    fits_not.wait_ready(1)


def inspections(kubectl: Kubectl, name: str) -> list[str]:
    """What stands for the inspection of an LLMDeployment: Jobs and pods."""
    selector = f"tokenfleet.dev/deployment={name},tokenfleet.dev/role=inspection"
    return [f"{body['kind']}/{body['metadata']['name']}" for body in kubectl.items("jobs,pods", selector)]
