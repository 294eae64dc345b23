"""One real engine, looked at from all sides: its bounds, its metrics, who leaves early, its profile, its flags."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from e2e import access
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl, KubectlError, wait_for
from e2e.model.objects import MODEL
from tokenfleet import contract

MANIFEST = Path(__file__).with_name("manifest.yaml")


@dataclass(frozen=True, slots=True)
class Running:
    """The engine's pod, its own address and its router's."""

    kubectl: Kubectl
    pod: str
    url: str
    router: str

    def execute(self, *command: str) -> str:
        return self.kubectl("exec", self.pod, "-c", contract.CONTAINER_ENGINE, "--", *command, timeout=300)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name with these labels."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        lines = re.findall(rf"^{re.escape(name)}(?:\{{([^}}]*)\}})? (\S+)$", text, re.MULTILINE)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(value) for found, value in lines if all(label in found for label in wanted))


@pytest.fixture(scope="module")
def engine(kubectl: Kubectl) -> Iterator[Running]:
    kubectl.apply_file(MANIFEST)
    deployed = Deployed(kubectl, "engine")
    with ExitStack() as stack:
        stack.callback(deployed.delete)
        deployed.wait_ready(1)
        (pod,) = (one["metadata"]["name"] for one in deployed.engines())
        urls = access.pod_url(kubectl, pod), access.base_url(kubectl, "engine")
        yield Running(kubectl, pod, *(stack.enter_context(url) for url in urls))


def _body(tokens: int, **more: object) -> Json:
    return {"model": "tiny", "prompt": "A ship sails.", "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **more}


async def _ask_many(url: str, count: int) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        return list(await asyncio.gather(*(client.post("/v1/completions", json=_body(200)) for _ in range(count))))


async def test_a_full_engine_refuses_and_its_router_waits(engine: Running) -> None:
    direct = await _ask_many(engine.url, 12)
    refused = [answer for answer in direct if answer.status_code == 503]
    assert {answer.status_code for answer in direct} == {200, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert "spec.engine.admission" in refused[0].json()["error"]["message"] or "in flight" in refused[0].text
    routed = await _ask_many(engine.router, 12)
    assert [answer.status_code for answer in routed] == [200] * 12


async def test_a_client_that_leaves_frees_the_engine_at_once(engine: Running) -> None:
    """Several requests, each begun anew where it ended: one alone may be over between two looks."""
    for stream in (True, False):
        async with httpx.AsyncClient(base_url=engine.url, timeout=60, trust_env=False) as client:
            requests = [asyncio.create_task(_ask_on(client, _body(1000, stream=stream))) for _ in range(3)]
            async with asyncio.timeout(20):
                while not engine.metric("vllm:num_requests_running"):
                    await asyncio.sleep(0.05)
                    assert not any(request.done() for request in requests), [request for request in requests if request.done()]
            for request in requests:
                request.cancel()
        async with asyncio.timeout(3):
            while engine.metric("vllm:num_requests_running") or engine.metric(contract.METRIC_ENGINE_ACTIVE):
                await asyncio.sleep(0.05)


async def _ask_on(client: httpx.AsyncClient, body: Json) -> None:
    """Until it is cancelled, or is refused."""
    while True:
        (await client.post("/v1/completions", json=body)).raise_for_status()


async def test_the_fleets_metrics_tell_what_happened(engine: Running) -> None:
    requests, tokens = contract.METRIC_ENGINE_REQUESTS + "_total", contract.METRIC_ENGINE_TOKENS + "_total"
    before = engine.metric(requests, model="tiny", status="200"), engine.metric(tokens)
    repeated = _body(100, prompt="Tokens come one by one. " * 12)
    async with httpx.AsyncClient(base_url=engine.url, timeout=60, trust_env=False) as client:
        for _ in range(2):
            assert (await client.post("/v1/completions", json=repeated)).status_code == 200
    assert engine.metric(requests, model="tiny", status="200") == before[0] + 2
    wait_for("the tokens to be counted", lambda: engine.metric(tokens) == before[1] + 200, timeout=5)
    assert 0 < engine.metric("llm_prefix_cache_hit_ratio") <= 1
    assert 0 < engine.metric("llm_speculative_acceptance_ratio") <= 1
    assert engine.metric("llm_time_to_first_token_seconds_count") >= 2
    assert engine.metric("llm_inter_token_latency_seconds_count") > 0


def test_an_engine_without_a_gpu_does_not_sleep_and_says_why(engine: Running) -> None:
    with pytest.raises(KubectlError, match="GPU"):
        engine.execute("tokenfleet-engine", "sleep")
    assert httpx.get(f"{engine.url}/ready", trust_env=False).status_code == 200


def test_the_flags_that_the_controller_knows_are_this_engines(engine: Running) -> None:
    told = engine.execute("python3", "-m", "tokenfleet_engine.launch.flags")
    command = [sys.executable, "-m", "tokenfleet.planning.engine_flags"]
    made = subprocess.run(command, input=told, capture_output=True, text=True, check=True)
    assert made.stdout == files("tokenfleet.planning").joinpath("engine_flags.txt").read_text()


def test_a_running_engine_is_traced(engine: Running) -> None:
    told = json.loads(
        engine.execute("tokenfleet-engine", "profile", "trace", "--requests", "4", "--out", "/tmp/trace", "--json")
    )
    (worker,) = (trace for trace in told["traces"] if trace["file"].startswith("rank0"))
    assert worker["steps"] > 0
    assert worker["operations"][0]["self_seconds"] > 0
    assert any(name.startswith("rank0") for name in engine.execute("ls", "/tmp/trace").split())


def test_prefill_and_decode_are_profiled_apart(engine: Running) -> None:
    engine.execute(
        *(
            "tokenfleet-engine",
            "profile",
            "phases",
            "--model",
            f"{contract.MODEL_MOUNT_PATH}/{MODEL.name}",
            "--out",
            "/tmp/profile",
        ),
        *("--prompt-tokens", "64,256", "--batch", "1,4", "--context", "64", "--repeat", "2", "--decode-steps", "5"),
        *("--", "--max-model-len", "512", "--enforce-eager", "--kv-cache-memory-bytes", str(1 << 28)),
    )
    profile = json.loads(engine.execute("cat", "/tmp/profile/profile.json"))
    assert {step["kind"] for step in profile["steps"]} == {"prefill", "decode"}
    assert all(step["seconds"] > 0 for step in profile["steps"])
    assert "<svg" in engine.execute("cat", "/tmp/profile/report.html")
    assert {"prefill.png", "decode.png", "memory.png"} <= set(engine.execute("ls", "/tmp/profile").split())
