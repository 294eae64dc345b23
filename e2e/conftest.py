"""What the stories share: a cluster with Tokenfleet in it, a namespace, and the small model. Each is made once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import install
from e2e.cluster import cluster, images
from e2e.cluster.images import Images
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl
from e2e.model import model, objects

NAMESPACE = "tokenfleet-e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def fleet() -> Images:
    """A running cluster with the operator installed by its chart; returns the images."""
    cluster.up()
    built = images.ensure()
    install.install(built)
    return built


@pytest.fixture(scope="session")
def kubectl(fleet: Images) -> Kubectl:
    """kubectl in the stories' namespace, where the claim `models` holds the small model."""
    kubectl = Kubectl(NAMESPACE)
    kubectl.ensure_namespace()
    model.ensure(NAMESPACE, images=fleet)
    return kubectl


@pytest.fixture(scope="session")
def variants(kubectl: Kubectl, fleet: Images) -> str:
    """What goes with the small model: a draft, adapters, broken copies. Their source."""
    return model.ensure(NAMESPACE, images=fleet, recipe=objects.VARIANTS)


@pytest.fixture
def deploy(kubectl: Kubectl) -> Iterator[Callable[[Path, str], Deployed]]:
    """`deploy(manifest, name)` applies a story's manifest; at the end of the story what it made is deleted."""
    made: list[str] = []

    def apply(manifest: Path, name: str) -> Deployed:
        made.append(name)
        kubectl.apply_file(manifest)
        return Deployed(kubectl, name)

    yield apply
    for name in made:
        Deployed(kubectl, name).delete()
