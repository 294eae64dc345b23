"""LoRA adapters: on every pod before it gets their requests, beside the model that they change, and again after a restart."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from e2e import access, streams
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl
from tokenfleet import contract

MANIFEST = Path(__file__).with_name("manifest.yaml")
VARIANTS = "pvc://models/tokenfleet-demo-variants"


async def _say(client: httpx.AsyncClient, model: str) -> str:
    body = {"model": model, "prompt": "A ship sails", "max_tokens": 32, "temperature": 0}
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return str(answer.json()["choices"][0]["text"])


def _give(kubectl: Kubectl, *names: str) -> None:
    adapters = [{"name": name, "source": f"{VARIANTS}/{name}"} for name in names]
    kubectl("patch", "llmd", "adapters", "--type=merge", "-p", json.dumps({"spec": {"model": {"adapters": adapters}}}))


@pytest.mark.usefixtures("variants")
async def test_each_adapter_answers_from_pods_that_have_it(kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]) -> None:
    adapters = deploy(MANIFEST, "adapters")
    adapters.wait_ready(1)
    with access.base_url(kubectl, "adapters") as url:
        async with httpx.AsyncClient(base_url=url, timeout=310, trust_env=False) as client:
            base, loud = await _say(client, "base"), await _say(client, "loud")
            assert loud != base
            listed = (await client.get("/v1/models")).json()["data"]
            assert {entry["id"]: entry["parent"] for entry in listed} == {"base": None, "loud": "base"}

            load = streams.Load(url=url, model="base", streams=2, tokens=64, pause=0.2)
            async with streams.running(load) as tally:
                await asyncio.to_thread(_give, kubectl, "loud", "shy")
                answers = [asyncio.create_task(_say(client, name)) for name in ("base", "loud")]
                await streams.until(lambda: tally.whole > 2)
                async with asyncio.timeout(30):  # the router learns of it within moments, and then the request waits for a pod
                    while "shy" not in (await client.get("/v1/models")).text:
                        await asyncio.sleep(0.2)
                shy = await _say(client, "shy")
                assert [await answer for answer in answers] == [base, loud]
            assert set(tally.outcomes) == {"whole"}, tally.problems
            assert shy not in (base, loud)

            await asyncio.to_thread(adapters.wait_ready, 1)
            (pod,) = (one["metadata"]["name"] for one in adapters.engines() if "deletionTimestamp" not in one["metadata"])
            kubectl("exec", pod, "-c", contract.CONTAINER_ENGINE, "--", "python3", "-c", "import os; os.kill(1, 15)")
            await asyncio.to_thread(kubectl, "wait", "--for=condition=Ready=false", f"pod/{pod}", "--timeout=60s")
            assert await _say(client, "shy") == shy, "the container's new start has them again"
