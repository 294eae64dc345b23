"""Deletion in every order: with the operator running or gone, one LLMDeployment or its whole namespace."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from e2e import access, install
from e2e.cluster.images import Images
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")
OPERATOR = Kubectl(install.NAMESPACE)


@pytest.fixture
def operator_gone(fleet: Images) -> Iterator[Callable[[], None]]:
    """A call that takes the operator away; it comes back after the test."""
    yield install.uninstall
    install.install(fleet)


def _begun(deployed: Deployed) -> None:
    """Until the engine's and the router's pods exist."""
    wait_for("two pods", lambda: len(deployed.kubectl.items("pods", deployed.selector)) == 2, timeout=60)


def test_deleting_with_the_operator_running_leaves_nothing(deploy: Callable[[Path, str], Deployed]) -> None:
    deletion = deploy(MANIFEST, "deletion")
    _begun(deletion)
    deletion.kubectl.delete("llmd", "deletion")
    deletion.wait_gone()


def test_deleting_with_the_operator_gone_leaves_nothing(
    deploy: Callable[[Path, str], Deployed], operator_gone: Callable[[], None]
) -> None:
    deletion = deploy(MANIFEST, "deletion")
    deletion.wait_ready(1)
    operator_gone()

    with access.base_url(deletion.kubectl, "deletion") as url:
        body = {"model": "deletion", "prompt": "The fleet", "max_tokens": 8}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60, trust_env=False)
    assert answer.status_code == 200, "without the operator, traffic flows on"

    deletion.kubectl.delete("llmd", "deletion")
    deletion.wait_gone()


def test_a_namespace_is_deleted_with_what_is_in_it(fleet: Images) -> None:
    _delete_namespace("tokenfleet-e2e-running", before=lambda: None)


def test_a_namespace_is_deleted_with_the_operator_gone(operator_gone: Callable[[], None]) -> None:
    _delete_namespace("tokenfleet-e2e-gone", before=operator_gone)


def _delete_namespace(name: str, *, before: Callable[[], None]) -> None:
    kubectl = Kubectl(name)
    kubectl.ensure_namespace()
    kubectl.apply_file(MANIFEST)
    _begun(Deployed(kubectl, "deletion"))
    before()
    kubectl.delete("namespace", name, timeout=120)
    assert kubectl.get("namespace", name) is None


def test_deleted_and_applied_again_at_once_comes_back(deploy: Callable[[Path, str], Deployed]) -> None:
    deletion = deploy(MANIFEST, "deletion")
    _begun(deletion)
    first = {pod["metadata"]["uid"] for pod in deletion.kubectl.items("pods", deletion.selector)}
    deletion.kubectl.delete("llmd", "deletion", wait=False)
    deletion.kubectl.apply_file(MANIFEST)

    def replaced() -> bool:
        pods = deletion.kubectl.items("pods", deletion.selector)
        return len(pods) == 2 and not first & {pod["metadata"]["uid"] for pod in pods}

    wait_for("pods of the second LLMDeployment alone", replaced, timeout=120)
    deletion.wait_reason("SpecValid", "AsExpected")
