"""Every file of examples/ is what a real API server takes: a strict server-side dry run, with the CRDs of its kinds."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from e2e.cluster import go
from tests.integration.command_lines import ROOT, Kubectl

EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
ARGO = "github.com/argoproj/argo-cd/v3@v3.2.1"
ARGO_SUM = "h1:rvrkW/JdH4V+xJgNDZI9wa/Ygd+fWoGbd1rAhvno22c="


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """An API server with our CRDs, Argo CD's, and the namespaces that the examples go to."""
    kubectl = Kubectl(kubeconfig)
    for namespace in ("examples", "argocd"):
        kubectl.ensure_namespace(namespace)
    crds = {
        **{f"{plural}.tokenfleet.dev": ROOT / "crds" / f"{plural}.yaml" for plural in ("llmdeployments", "llmrouters")},
        "applications.argoproj.io": _argo(tmp_path_factory.mktemp("go")) / "application-crd.yaml",
    }
    for name, path in crds.items():
        kubectl("apply", "--server-side", "--force-conflicts", "-f", path).ok()
        kubectl.wait_established(name)
    return kubectl


def _argo(scratch: Path) -> Path:
    """The CRDs in Argo CD's Go module, which is fetched once and kept in Go's cache."""
    command: list[str | Path] = [go.find()[0], "mod", "download", "-json", ARGO]
    done = subprocess.run(command, cwd=scratch, env=go.environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    module = json.loads(done.stdout)
    assert module["Sum"] == ARGO_SUM
    return Path(module["Dir"]) / "manifests" / "crds"


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT / "examples"))) for path in EXAMPLES])
def test_the_api_server_takes_it(kubectl: Kubectl, path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    for document in documents:
        document["metadata"].setdefault("namespace", "examples")
    kubectl.apply(*documents, flags=["--dry-run=server"]).ok()


def test_a_misspelt_field_would_be_noticed(kubectl: Kubectl) -> None:
    document = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text())
    document["metadata"]["namespace"] = "examples"
    document["spec"]["enginee"] = {}
    refused = kubectl.apply(document, flags=["--dry-run=server"])
    assert refused.status != 0
    assert "enginee" in refused.error


def test_the_health_check_is_added_to_the_config_map_that_is_there(kubectl: Kubectl) -> None:
    """By the command in the file's own comment, which leaves what else is in it."""
    metadata = {"name": "argocd-cm", "namespace": "argocd"}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"url": "here"}}).ok()
    patch = ROOT / "examples" / "gitops" / "argocd-cm.yaml"
    kubectl("-n", "argocd", "patch", "configmap", "argocd-cm", "--patch-file", patch).ok()
    data = json.loads(kubectl("-n", "argocd", "get", "configmap", "argocd-cm", "-o", "json").ok())["data"]
    health = "resource.customizations.health.tokenfleet.dev"
    assert sorted(data) == [f"{health}_LLMDeployment", f"{health}_LLMRouter", "url"]
