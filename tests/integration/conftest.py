"""What the integration tests share: a real etcd and kube-apiserver, started once, on free ports of loopback."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.operators import Operators, eventually
from tests.integration.raw_api import connected
from tests.integration.redis_server import _redis, redis_server, redis_url
from tokenfleet.api.crd import custom_resource_definitions
from tokenfleet.controller.kinds import OWNERS

__all__ = ["_redis", "redis_server", "redis_url"]
"""Fixtures that have a module of their own."""

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane.start(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def kubeconfig(control_plane: ControlPlane) -> Path:
    return control_plane.kubeconfig


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """The API server as its administrator sees it, with our CRDs."""
    with connected(control_plane) as client:
        for definition in custom_resource_definitions():
            client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition)
        eventually("the CRDs", lambda: all(client.get(kind.path(None)).status_code == httpx.codes.OK for kind in OWNERS))
        yield client


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    """Starts controllers; none outlives the module."""
    operators = Operators(tmp_path_factory.mktemp("operators"))
    yield operators
    operators.close()
