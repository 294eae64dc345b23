"""To zero and back: a real controller and a real router, as processes of their own, on a real API server.

The router's pod and the engine's stand there with addresses of loopback, as a kubelet would write them; the test makes the
engine's pod and takes it away as the Deployment says, and the engine is a script.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.processes import Command, Leash
from tests.integration.operators import Namespace, Operator, Operators, eventually
from tests.router.harness import Engine
from tokenfleet import contract
from tokenfleet.api import conditions as c

NAMESPACE, NAME = "scaling", "llama"
ROUTER_HOST, ENGINE_HOST = "127.0.0.77", "127.0.0.78"
IDLE_SECONDS = 3
Json = dict[str, Any]


@pytest.fixture(scope="module")
def namespace(api: httpx.Client) -> Namespace:
    """With an LLMDeployment that sleeps after a while, and its router's pod."""
    namespace = Namespace(api, NAMESPACE)
    scaling = {"minReplicas": 0, "maxReplicas": 2, "scaleToZeroAfterSeconds": IDLE_SECONDS}
    namespace.deploy(NAME, accelerator="simulated", autoscaling=scaling, router={"replicas": 1}, drain={"timeoutSeconds": 30})
    make_pod(namespace, "router", ROUTER_HOST)
    return namespace


def make_pod(namespace: Namespace, role: str, host: str) -> None:
    labels = {contract.LABEL_DEPLOYMENT: NAME, contract.LABEL_ROLE: role, "pod-template-hash": "a"}
    spec = {"containers": [{"name": role, "image": "x"}], "nodeName": "node-0"}
    namespace.create("Pod", {"metadata": {"name": f"{NAME}-{role}-a", "labels": labels}, "spec": spec})
    listed = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled")]
    running: Json = {"name": role, "image": "x", "imageID": "", "ready": True, "started": True, "restartCount": 0}
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    status: Json = {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}], "conditions": listed}
    status["containerStatuses"] = [{**running, "state": state}]
    namespace.patch("Pod", f"{NAME}-{role}-a", {"status": status}, subresource="status")


def end_pod(namespace: Namespace) -> None:
    """The engine's, as a kubelet reports it ended."""
    path = namespace.path("Pod", f"{NAME}-engine-a")
    namespace.client.request("DELETE", path, json={"gracePeriodSeconds": 0}).raise_for_status()


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    running = Operators(tmp_path_factory.mktemp("operators"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def router(control_plane: ControlPlane, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    environment = {
        contract.ENV_NAMESPACE: NAMESPACE,
        contract.ENV_DEPLOYMENT: NAME,
        "TOKENFLEET_ROUTER_HOST": ROUTER_HOST,
        "KUBECONFIG": str(control_plane.kubeconfig),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    leash = Leash()
    log = tmp_path_factory.mktemp("router") / "router.log"
    leash.start(Command("router", (sys.executable, "-m", "tokenfleet.router.main"), environment), log)

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            admin = f"http://{ROUTER_HOST}:{contract.ROUTER_ADMIN_PORT}/readyz"
            return httpx.get(admin, trust_env=False).status_code == httpx.codes.OK
        return False

    try:
        eventually("the router to be ready", ready)
        yield f"http://{ROUTER_HOST}:{contract.ROUTER_PORT}"
    finally:
        leash.close()


@contextlib.asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    one = Engine(name="engine")
    server = await asyncio.start_server(one.serve, ENGINE_HOST, contract.ENGINE_PORT)
    try:
        yield one
    finally:
        server.close()


def wanted(namespace: Namespace) -> int | None:
    """Engines, by their Deployment."""
    found = namespace.get("Deployment", f"{NAME}-engine")
    return found["spec"]["replicas"] if found is not None else None


def start(operators: Operators, plane: ControlPlane) -> Operator:
    operator = operators.start(plane.kubeconfig, NAMESPACE)
    eventually("the controller to lead", operator.leads)
    return operator


def reasons(namespace: Namespace) -> list[str]:
    found = namespace.client.get(f"/api/v1/namespaces/{NAMESPACE}/events").raise_for_status().json()
    return [event["reason"] for event in found["items"]]


def models(router: str) -> list[str]:
    found = httpx.get(f"{router}/v1/models", trust_env=False).raise_for_status().json()
    return [model["id"] for model in found["data"]]


async def ask(router: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(f"{router}/v1/chat/completions", json={"model": NAME, "messages": []})


async def sleeps(namespace: Namespace) -> None:
    """Return once its Deployment wants nobody; its pod goes then."""
    await asyncio.to_thread(eventually, "no engine to be wanted", lambda: wanted(namespace) == 0)
    await asyncio.to_thread(end_pod, namespace)
    await asyncio.to_thread(
        eventually, "EngineReady to say so", lambda: namespace.condition(NAME, c.ENGINE_READY).get("reason") == c.SCALED_TO_ZERO
    )


async def wakes(namespace: Namespace, router: str) -> httpx.Response:
    """Ask, and start the engine as soon as its Deployment wants it."""
    asking = asyncio.create_task(ask(router))
    await asyncio.to_thread(eventually, "an engine to be wanted", lambda: wanted(namespace) == 1, seconds=5)
    assert not asking.done(), "the request waits"
    await asyncio.to_thread(make_pod, namespace, "engine", ENGINE_HOST)
    return await asking


async def test_to_zero_and_back_and_over_the_deaths_of_controllers(
    namespace: Namespace, router: str, operators: Operators, control_plane: ControlPlane
) -> None:
    async with engine() as running:
        operator = await asyncio.to_thread(start, operators, control_plane)
        await asyncio.to_thread(eventually, "an engine to be wanted at first", lambda: wanted(namespace) == 1)
        make_pod(namespace, "engine", ENGINE_HOST)
        await sleeps(namespace)
        assert await asyncio.to_thread(models, router) == [NAME], "it is listed all the same"

        assert (await wakes(namespace, router)).status_code == httpx.codes.OK
        assert len(running.calls) == 1
        scaling = namespace.one(contract.KIND, NAME)["status"]["scaling"]
        assert [item["reason"] for item in scaling["history"]] == ["WakeUp", "Idle"]
        await asyncio.to_thread(eventually, "the Event of its awakening", lambda: "Awake" in reasons(namespace))
        assert {"Asleep", "Waking"} <= set(reasons(namespace))
        assert namespace.condition(NAME, c.SCALING_READY)["status"] == "True"

        await sleeps(namespace)
        await asyncio.to_thread(operator.kill)
        asking = asyncio.create_task(ask(router))
        await asyncio.to_thread(start, operators, control_plane)
        await asyncio.to_thread(eventually, "an engine to be wanted once more", lambda: wanted(namespace) == 1, seconds=10)
        make_pod(namespace, "engine", ENGINE_HOST)
        assert (await asking).status_code == httpx.codes.OK, "it waited all the while that no controller ran"
