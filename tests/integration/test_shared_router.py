"""A shared router as a process of its own, on a real API server, with no more rights than the controller grants it.

The engines are scripts on addresses of loopback, which stand in the pods' status as the kubelet would write them.
"""

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from e2e.cluster.control_plane import ControlPlane, free_ports
from e2e.cluster.processes import Child, Command, Leash
from tests.integration.operators import Namespace, eventually
from tests.router.harness import Engine
from tokenfleet import contract
from tokenfleet.controller.resources.router_access import (
    build_router_role,
    build_router_role_binding,
    build_router_service_account,
)

NAMESPACE, NAME = "shared-router", "shared"
HOSTS = {"a": "127.0.0.2", "b": "127.0.0.3"}
"""Of the engines: each takes requests on contract.ENGINE_PORT."""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def namespace(api: httpx.Client) -> Namespace:
    """With an LLMRouter, its rights, two LLMDeployments with an engine each, and one that is scaled to zero."""
    namespace = Namespace(api, NAMESPACE)
    owner = {"kind": contract.ROUTER_KIND, "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": "0"}}
    for build in (build_router_service_account, build_router_role, build_router_role_binding):
        child = build(owner)
        child["metadata"].pop("ownerReferences")
        namespace.create(child["kind"], child)
    namespace.create(contract.ROUTER_KIND, {"metadata": {"name": NAME}, "spec": {"routes": routes(a=3, b=1)}})
    for name, served in (("a", "chat"), ("b", "chat-next"), ("large", "large")):
        namespace.deploy(name, model={"source": "pvc://models/x", "servedName": served}, routerRef={"name": NAME})
    for name, host in HOSTS.items():
        labels = {contract.LABEL_DEPLOYMENT: name, contract.LABEL_ROLE: contract.ROLE_ENGINE}
        pod = {"metadata": {"name": f"{name}-0", "labels": labels}, "spec": {"containers": [{"name": "engine", "image": "x"}]}}
        namespace.create("Pod", pod)
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}], "conditions": [ready]}
        namespace.patch("Pod", f"{name}-0", {"status": status}, subresource="status")
    return namespace


def routes(**weights: int) -> list[Json]:
    targets = [{"deployment": name, "weight": weight} for name, weight in weights.items()]
    return [{"model": "chat", "targets": targets}, {"model": "large", "fallbacks": ["chat"]}]


@pytest.fixture(scope="module")
def router(control_plane: ControlPlane, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    path = f"{namespace.path('ServiceAccount', f'{NAME}-router')}/token"
    token = namespace.client.post(path, json={"spec": {}}).raise_for_status().json()["status"]["token"]
    document = yaml.safe_load(control_plane.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    directory = tmp_path_factory.mktemp("router")
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    port, admin_port = free_ports(2)
    with _process(kubeconfig, directory / "router.log", port, admin_port) as process:

        def ready() -> bool:
            assert process.running(), process.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{admin_port}/readyz", trust_env=False).status_code == httpx.codes.OK
            return False

        eventually("the router to be ready", ready)
        yield f"http://127.0.0.1:{port}"
        assert "403" not in process.log.read_text(), "it was refused something"


@contextlib.contextmanager
def _process(kubeconfig: Path, log: Path, port: int, admin_port: int) -> Iterator[Child]:
    environment = {
        contract.ENV_NAMESPACE: NAMESPACE,
        contract.ENV_ROUTER: NAME,
        "TOKENFLEET_ROUTER_HOST": "127.0.0.1",
        "TOKENFLEET_ROUTER_PORT": str(port),
        "TOKENFLEET_ROUTER_ADMIN_PORT": str(admin_port),
        "KUBECONFIG": str(kubeconfig),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    leash = Leash()
    try:
        yield leash.start(Command("router", (sys.executable, "-m", "tokenfleet.router.main"), environment), log)
    finally:
        leash.close()


@contextlib.asynccontextmanager
async def engines() -> AsyncIterator[dict[str, Engine]]:
    """By the name of their LLMDeployment."""
    running = {name: Engine(name=name) for name in HOSTS}
    servers = [await asyncio.start_server(one.serve, HOSTS[name], contract.ENGINE_PORT) for name, one in running.items()]
    try:
        yield running
    finally:
        for server in servers:
            server.close()


async def ask(client: httpx.AsyncClient, model: str, *, times: int = 1) -> None:
    for _ in range(times):
        answer = await client.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1})
        assert answer.status_code == httpx.codes.OK, answer.text


async def until(probe: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await probe():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _answers(client: httpx.AsyncClient, body: Json, status: int) -> bool:
    return (await client.post("/v1/completions", json=body)).status_code == status


async def _lists(client: httpx.AsyncClient, model: str, *, so: bool = True) -> bool:
    return (model in {entry["id"] for entry in (await client.get("/v1/models")).json()["data"]}) is so


async def test_one_address_serves_many_models_each_by_its_share(namespace: Namespace, router: str) -> None:
    async with engines() as running, httpx.AsyncClient(base_url=router, trust_env=False, timeout=30) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert sorted(entry["id"] for entry in listed) == ["chat", "chat-next", "large"]

        await ask(client, "chat", times=40)
        assert {name: len(engine.calls) for name, engine in running.items()} == {"a": 30, "b": 10}
        asked = {name: Counter(b'"chat-next"' in call.body for call in engine.calls) for name, engine in running.items()}
        assert asked == {"a": Counter({False: 30}), "b": Counter({True: 10})}, "each engine is asked by its own model's name"

        for engine in running.values():
            engine.calls.clear()
        await ask(client, "chat-next", times=4)
        assert {name: len(engine.calls) for name, engine in running.items()} == {"a": 0, "b": 4}

        unknown = await client.post("/v1/completions", json={"model": "chatty", "prompt": "x"})
        assert unknown.status_code == httpx.codes.NOT_FOUND
        assert "Served: " in unknown.json()["error"]["message"]


async def test_a_fallback_answers_for_a_model_without_any_replica(namespace: Namespace, router: str) -> None:
    async with engines() as running, httpx.AsyncClient(base_url=router, trust_env=False, timeout=30) as client:
        await ask(client, "large", times=4)
        assert sum(len(engine.calls) for engine in running.values()) == 4
        assert all(b'"large"' not in call.body for engine in running.values() for call in engine.calls)


async def test_weights_and_settings_change_without_a_restart(namespace: Namespace, router: str) -> None:
    namespace.patch(contract.ROUTER_KIND, NAME, {"spec": {"routes": routes(a=0, b=1), "bounds": {"maxChoices": 1}}})
    async with engines() as running, httpx.AsyncClient(base_url=router, trust_env=False, timeout=30) as client:
        two: Json = {"model": "chat", "prompt": "x", "n": 2}
        await until(lambda: _answers(client, two, httpx.codes.BAD_REQUEST))
        for engine in running.values():
            engine.calls.clear()
        await ask(client, "chat", times=8)
        assert {name: len(engine.calls) for name, engine in running.items()} == {"a": 0, "b": 8}
        namespace.patch(contract.ROUTER_KIND, NAME, {"spec": {"routes": routes(a=3, b=1)}})


async def test_a_model_comes_and_goes_with_its_llmdeployment(namespace: Namespace, router: str) -> None:
    async with httpx.AsyncClient(base_url=router, trust_env=False, timeout=30) as client:
        namespace.deploy("fresh", routerRef={"name": NAME})
        await until(lambda: _lists(client, "fresh"))
        namespace.patch(contract.KIND, "fresh", {"spec": {"routerRef": None}})
        await until(lambda: _lists(client, "fresh", so=False))
