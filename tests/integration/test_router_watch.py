"""The router's view of a real API server, read with no more rights than the controller grants it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from e2e.cluster.control_plane import ControlPlane
from tests.integration.raw_api import connected
from tokenfleet import contract
from tokenfleet.api.crd import custom_resource_definitions
from tokenfleet.controller.resources.router_access import build_router_role, build_router_role_binding
from tokenfleet.router.catalog import Catalog
from tokenfleet.router.reporting.metrics import Metrics
from tokenfleet.router.shared import Shared
from tokenfleet.router.source.sources import ClusterSource
from tokenfleet.router.source.watch import Patience
from tokenfleet.router.wire.limits import Limits
from tokenfleet.settings import RouterSettings

NAMESPACE, NAME = "router-watch", "llama"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
OBJECTS = f"/apis/{contract.API_VERSION}/namespaces/{NAMESPACE}/{contract.PLURAL}"
RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
QUICK = Patience(backoff=0.05, backoff_limit=0.2)

Json = dict[str, Any]


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """With the CRDs, an LLMDeployment, and a router's Role."""
    with connected(control_plane) as client:
        client.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}})
        apply = {"Content-Type": "application/apply-patch+yaml"}
        for definition in custom_resource_definitions():
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
            answer = client.patch(path, json=definition, params={"fieldManager": "test", "force": "true"}, headers=apply)
            assert answer.is_success, answer.text
        owner = {"kind": contract.KIND, "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": "0"}}
        for kind, made in (("roles", build_router_role(owner)), ("rolebindings", build_router_role_binding(owner))):
            made["metadata"].pop("ownerReferences", None)
            _do(client, "POST", f"{RBAC}/{kind}", made)
        deadline = time.monotonic() + 30
        while not (answer := client.get(OBJECTS)).is_success:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)
        yield client
        client.delete(f"{OBJECTS}/{NAME}")


def _do(api: httpx.Client, method: str, path: str, body: Json | None = None, **query: str) -> None:
    headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
    answer = api.request(method, path, json=body, params=query, headers=headers)
    assert answer.is_success, answer.text


async def _until(so: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _deployment(**model: str) -> Json:
    spec = {"model": {"source": "pvc://weights/llama", **model}, "accelerator": "cpu"}
    return {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": {"name": NAME}, "spec": spec}


def _pod(name: str, *, role: str = contract.ROLE_ENGINE) -> Json:
    labels = {contract.LABEL_DEPLOYMENT: NAME, contract.LABEL_ROLE: role}
    container = {"name": "engine", "image": "none"}
    spec = {"containers": [container], "nodeName": "nowhere", "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _set_status(api: httpx.Client, name: str, *, ready: bool) -> None:
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"phase": "Running", "podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}], "conditions": conditions}
    _do(api, "PATCH", f"{PODS}/{name}/status", {"status": status})


@contextlib.asynccontextmanager
async def _router(kubeconfig: Path) -> AsyncIterator[tuple[Catalog, Metrics]]:
    """What a router knows, that follows the API as its service account."""

    async def connect() -> Any:
        configuration = kubernetes.Configuration()
        load: Any = config.load_kube_config
        await load(config_file=str(kubeconfig), client_configuration=configuration)
        client: Any = kubernetes.ApiClient(configuration)
        client.set_default_header("Impersonate-User", f"system:serviceaccount:{NAMESPACE}:{NAME}-router")
        return client

    settings = RouterSettings.from_environment({contract.ENV_NAMESPACE: NAMESPACE, contract.ENV_DEPLOYMENT: NAME})
    shared = Shared.new(Limits())
    following = asyncio.create_task(ClusterSource(shared, settings, connect=connect, patience=QUICK).follow())
    try:
        yield shared.catalog, shared.metrics
        assert not following.done()
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def _states(catalog: Catalog) -> dict[str, str]:
    pools = [pool for model in catalog.models() for pool in model.pools]
    return {one.name: one.seen.state.value for pool in pools for one in pool.replicas.all()}


async def test_a_router_follows_its_deployment_and_its_pods(api: httpx.Client, control_plane: ControlPlane) -> None:
    async with _router(control_plane.kubeconfig) as (catalog, metrics):
        await _until(lambda: catalog.synced)
        assert catalog.models() == []
        _do(api, "POST", OBJECTS, _deployment())
        await _until(lambda: [model.name for model in catalog.models()] == [NAME])
        assert catalog.models()[0].created > 1_700_000_000
        _do(api, "PATCH", f"{OBJECTS}/{NAME}", {"spec": {"model": {"servedName": "llama-3"}}})
        await _until(lambda: [model.name for model in catalog.models()] == ["llama-3"])

        for one in (_pod("engine-a"), _pod("engine-b"), _pod("router-a", role=contract.ROLE_ROUTER)):
            _do(api, "POST", PODS, one)
        await _until(lambda: _states(catalog) == {"engine-a": "unready", "engine-b": "unready"})
        _set_status(api, "engine-a", ready=True)
        _set_status(api, "engine-b", ready=True)
        await _until(lambda: _states(catalog) == {"engine-a": "routable", "engine-b": "routable"})
        (replica, _) = sorted(catalog.models()[0].pools[0].replicas.all(), key=lambda one: one.name)
        assert replica.authority == b"10.9.8.7:8000"

        mark = {"metadata": {"annotations": {contract.ANNOTATION_DRAINING: "2026-01-01T00:00:00Z"}}}
        _do(api, "PATCH", f"{PODS}/engine-a", mark)
        await _until(lambda: _states(catalog)["engine-a"] == "draining")
        _do(api, "DELETE", f"{PODS}/engine-b")
        await _until(lambda: _states(catalog)["engine-b"] == "draining")
        _do(api, "DELETE", f"{PODS}/engine-b", gracePeriodSeconds="0")
        await _until(lambda: "engine-b" not in _states(catalog))
        assert metrics.watch_failures.total() == 0
        _do(api, "DELETE", f"{OBJECTS}/{NAME}")
        await _until(lambda: not catalog.models())


async def test_a_router_outlives_the_api_and_catches_up(api: httpx.Client, control_plane: ControlPlane) -> None:
    _do(api, "POST", OBJECTS, _deployment())
    _do(api, "POST", PODS, _pod("engine-c"))
    _set_status(api, "engine-c", ready=True)
    async with _router(control_plane.kubeconfig) as (catalog, metrics):
        await _until(lambda: _states(catalog).get("engine-c") == "routable")
        await asyncio.to_thread(control_plane.stop_apiserver)
        await _until(lambda: metrics.watch_failures["pods"] >= 3 and metrics.watch_failures[contract.PLURAL] >= 3)
        assert (_states(catalog)["engine-c"], len(catalog.models()), catalog.synced) == ("routable", 1, True)
        await asyncio.to_thread(control_plane.start_apiserver)
        _set_status(api, "engine-c", ready=False)
        await _until(lambda: _states(catalog)["engine-c"] == "unready")
