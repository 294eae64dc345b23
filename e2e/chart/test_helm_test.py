"""`helm test`, as the user of the chart runs it: it looks at the controller, and makes a model answer where it is told one."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import install
from e2e.cluster import paths
from e2e.cluster.images import Images
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl

MANIFEST = Path(__file__).with_name("manifest.yaml")


def helm_test() -> tuple[int, str]:
    """Its exit status, and all that it printed: the pod's log goes to stderr."""
    command = [str(paths.tool("helm")), "--kubeconfig", str(paths.kubeconfig())]
    command += ["test", install.RELEASE, "--namespace", install.NAMESPACE]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def installed_anew(fleet: Images) -> Iterator[Callable[[str], None]]:
    """`installed_anew(setting)` upgrades the release; at the end it is as the other stories know it."""
    yield lambda setting: install.install(fleet, setting)
    install.install(fleet)


def test_it_says_that_the_controller_is_ready(fleet: Images) -> None:
    status, printed = helm_test()
    assert status == 0, printed
    assert "ok    the API server serves llmdeployments.tokenfleet.dev/v1alpha1" in printed
    assert "ok    the controller is ready" in printed


def test_it_makes_a_real_completion(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed], installed_anew: Callable[[str], None]
) -> None:
    deploy(MANIFEST, "smoke").wait_ready(1)
    installed_anew(f"tests.deployment={kubectl.namespace}/smoke")
    status, printed = helm_test()
    assert status == 0, printed
    assert "ok    smoke answers: Kubernetes is" in printed


def test_it_fails_where_the_model_does_not_answer(kubectl: Kubectl, installed_anew: Callable[[str], None]) -> None:
    installed_anew(f"tests.deployment={kubectl.namespace}/nobody,tests.timeoutSeconds=3")
    status, printed = helm_test()
    assert status != 0, printed
    assert f"FAIL  http://nobody.{kubectl.namespace}.svc/v1/models did not answer" in printed
    assert "See: kubectl describe llmd" in printed
