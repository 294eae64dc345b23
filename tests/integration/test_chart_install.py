"""The chart on a real API server: it takes what the chart renders, and the rights that it grants are enough, and no more.

The pair of etcd and kube-apiserver runs no pods; that the controller starts is the stories' business.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from e2e.cluster import tools
from e2e.cluster.control_plane import ControlPlane
from tests.integration.command_lines import CHART, ROOT, Done, Json, Kubectl, documents, render, run
from tests.integration.test_chart import RENDERS, environment, flags, one
from tokenfleet.api.v1alpha1 import parse_router_spec, parse_spec
from tokenfleet.controller.resources import build_children
from tokenfleet.settings import ControllerSettings

DRY_RUN = ["--dry-run=server"]
CRDS = ("llmdeployments.tokenfleet.dev", "llmrouters.tokenfleet.dev")
EXAMPLE = ROOT / "examples" / "quickstart.yaml"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """An API server of this module's own, since it takes the CRDs away."""
    with ControlPlane.start(tmp_path_factory.mktemp("control-plane"), audit=False) as plane:
        kubectl = Kubectl(plane.kubeconfig)
        for namespace in ("tokenfleet-system", "models", "staging", "elsewhere"):
            kubectl.ensure_namespace(namespace)
        yield kubectl


def helm(kubectl: Kubectl, *arguments: str | Path) -> Done:
    tools.ensure("helm")
    return run([tools.path("helm"), "--kubeconfig", kubectl.kubeconfig, "-n", "tokenfleet-system", *arguments])


@pytest.mark.parametrize("name", RENDERS)
def test_the_api_server_takes_every_object(kubectl: Kubectl, name: str) -> None:
    rendered = documents(render(*flags(name)).ok())
    for document in rendered:
        document["metadata"].setdefault("namespace", "tokenfleet-system")
    kubectl.apply(*rendered, flags=DRY_RUN).ok()


@pytest.mark.parametrize("name", RENDERS)
def test_both_pods_pass_pod_security_restricted(kubectl: Kubectl, name: str) -> None:
    rendered = documents(render(*flags(name)).ok())
    template = one(rendered, "Deployment")["spec"]["template"]
    template["spec"].pop("priorityClassName", None)
    metadata = {"name": "controller", "namespace": "models"}
    controller = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    test = one(rendered, "Pod") | {"metadata": {"name": "test", "namespace": "models"}}
    kubectl.apply(controller, test, flags=DRY_RUN).ok()
    test["spec"]["containers"][0]["securityContext"] = {}
    refused = kubectl.apply(test, flags=DRY_RUN)
    assert 'violates PodSecurity "restricted' in refused.error, "the namespace does not enforce what this test relies on"


def test_uninstalling_leaves_the_crds_and_what_users_made(kubectl: Kubectl) -> None:
    kubectl("delete", "crd", *CRDS, "--ignore-not-found").ok()
    notes = helm(kubectl, "install", "tokenfleet", CHART).ok()
    assert "kubectl -n default port-forward service/my-model 8080:80" in notes
    for crd in CRDS:
        kubectl.wait_established(crd)
    kubectl("apply", "--server-side", "-n", "models", "-f", EXAMPLE).ok()
    router = {"apiVersion": "tokenfleet.dev/v1alpha1", "kind": "LLMRouter", "spec": {}}
    kubectl.apply({**router, "metadata": {"name": "shared", "namespace": "models"}}).ok()

    helm(kubectl, "upgrade", "tokenfleet", CHART, "--set", "replicas=2", "--set", "tests.deployment=models/demo").ok()
    helm(kubectl, "uninstall", "tokenfleet").ok()
    assert kubectl("get", "llmd", "-n", "models", "-o", "name").ok().split() == ["llmdeployment.tokenfleet.dev/demo"]
    assert "NotFound" in kubectl("get", "deployment", "tokenfleet", "-n", "tokenfleet-system").error

    helm(kubectl, "install", "tokenfleet", CHART).ok()
    helm(kubectl, "uninstall", "tokenfleet").ok()
    other: list[str | Path] = ["install", "other", CHART, "--set", "rbac.userRoles=false"]
    assert "invalid ownership metadata" in helm(kubectl, *other).error
    helm(kubectl, *other, "--take-ownership").ok()
    helm(kubectl, "uninstall", "other").ok()
    assert kubectl("get", "llmd", "-n", "models", "-o", "name").ok().split() == ["llmdeployment.tokenfleet.dev/demo"]
    assert kubectl("get", "llmr", "-n", "models", "-o", "name").ok().split() == ["llmrouter.tokenfleet.dev/shared"]
    kubectl("delete", "llmd,llmr", "--all", "-n", "models").ok()


def test_the_certificate_of_external_metrics_is_kept_at_upgrades(kubectl: Kubectl) -> None:
    """And goes with the release, as the API does that it is for: no other one was there before."""

    def secret() -> Json:
        name = "tokenfleet-external-metrics"
        return dict(json.loads(kubectl("get", "secret", name, "-n", "tokenfleet-system", "-o", "json").ok())["data"])

    def authority() -> str:
        return kubectl("get", "apiservice", "v1beta1.external.metrics.k8s.io", "-o", "jsonpath={.spec.caBundle}").ok()

    values: list[str | Path] = ["--set", "crds.enabled=false,autoscaling.externalMetrics.enabled=true"]
    helm(kubectl, "install", "tokenfleet", CHART, *values).ok()
    made = secret()
    assert made["ca.crt"] == authority()
    other: list[str | Path] = ["install", "other", CHART, *values, "--set", "rbac.userRoles=false"]
    assert 'APIService "v1beta1.external.metrics.k8s.io"' in helm(kubectl, *other).error, "only one may serve it"
    helm(kubectl, "upgrade", "tokenfleet", CHART, *values, "--set", "replicas=2").ok()
    assert (secret(), authority()) == (made, made["ca.crt"])
    helm(kubectl, "upgrade", "tokenfleet", CHART, "--set", "crds.enabled=false").ok()
    assert "NotFound" in kubectl("get", "apiservice", "v1beta1.external.metrics.k8s.io").error
    helm(kubectl, "uninstall", "tokenfleet").ok()


def test_the_manifest_of_the_notes_is_taken(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", ROOT / "crds").ok()
    for crd in CRDS:
        kubectl.wait_established(crd)
    notes = helm(kubectl, "install", "notes", CHART, "--dry-run=server", "--set", "crds.enabled=false").ok()
    manifest = yaml.safe_load(notes.partition("<<EOF")[2].partition("EOF")[0])
    manifest["metadata"]["namespace"] = "models"
    kubectl.apply(manifest, flags=DRY_RUN).ok()


def test_users_who_may_edit_deployments_may_edit_llmdeployments(kubectl: Kubectl) -> None:
    """By labels, which the aggregation controller goes by; it does not run here."""
    roles = {
        document["metadata"]["name"]: document
        for document in documents(render().ok())
        if document["kind"] == "ClusterRole" and document["metadata"]["name"] != "tokenfleet"
    }
    for role in ("view", "edit", "admin"):
        body = json.loads(kubectl("get", "clusterrole", role, "-o", "json").ok())
        (selector,) = body["aggregationRule"]["clusterRoleSelectors"]
        chosen = [name for name, made in roles.items() if selector["matchLabels"].items() <= made["metadata"]["labels"].items()]
        # `edit` itself is a part of `admin`, and `view` of `edit`, so each rule reaches all above.
        assert ("tokenfleet-view" in chosen, "tokenfleet-edit" in chosen) == (True, role != "view"), role


@pytest.fixture(scope="module", params=["default", "namespaced"])
def installed(request: pytest.FixtureRequest, kubectl: Kubectl) -> Iterator[Json]:
    """The chart, installed for the whole cluster or for two namespaces; what it rendered to."""
    kubectl("apply", "--server-side", "-f", ROOT / "crds").ok()
    for crd in CRDS:
        kubectl.wait_established(crd)
    values: list[str | Path] = [*flags(request.param), "--set", "crds.enabled=false"]
    helm(kubectl, "install", "tokenfleet", CHART, *values).ok()
    yield {"objects": documents(render(*values).ok()), "namespaced": request.param == "namespaced"}
    helm(kubectl, "uninstall", "tokenfleet").ok()


def controller(kubectl: Kubectl, installed: Json) -> Kubectl:
    """kubectl as the controller's service account, which only its roles give any right."""
    account = one(installed["objects"], "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    return replace(kubectl, impersonate=f"system:serviceaccount:tokenfleet-system:{account}")


def test_the_controller_may_make_and_remove_every_child(kubectl: Kubectl, installed: Json) -> None:
    """The router's Role among them, which only one who holds its rights may grant. The rest: test_chart_rights.py."""
    deployment = yaml.safe_load(EXAMPLE.read_text())
    deployment["metadata"]["namespace"] = "models"
    kubectl.apply(deployment).ok()
    deployment = json.loads(kubectl("get", "llmd", "demo", "-n", "models", "-o", "json").ok())
    settings = ControllerSettings.from_environment(environment(installed["objects"]))
    children = build_children(deployment, parse_spec("demo", deployment["spec"]), settings)
    router = {"apiVersion": "tokenfleet.dev/v1alpha1", "kind": "LLMRouter", "spec": {"auth": {"keysSecret": "keys"}}}
    kubectl.apply({**router, "metadata": {"name": "shared", "namespace": "models"}}).ok()
    router = json.loads(kubectl("get", "llmr", "shared", "-n", "models", "-o", "json").ok())
    children += build_children(router, parse_router_spec("shared", router["spec"]), settings)

    as_controller = controller(kubectl, installed)
    names = [f"{child['kind']}/{child['metadata']['name']}" for child in children]
    as_controller.apply(*children).ok()
    as_controller.apply(*children, flags=["--force-conflicts"]).ok()
    as_controller("get", *names, "-n", "models").ok()
    as_controller("delete", *names, "-n", "models", "--wait=false").ok()
    kubectl("delete", "llmd/demo", "llmr/shared", "-n", "models").ok()


@pytest.mark.parametrize(
    "question",
    [
        pytest.param("get secrets -n models", id="read a Secret"),
        pytest.param("create pods -n models", id="create a pod"),
        pytest.param("create pods --subresource=exec -n models", id="run a command in a pod"),
        pytest.param("update llmdeployments.tokenfleet.dev -n models", id="write a user's spec"),
        pytest.param("patch llmdeployments.tokenfleet.dev -n models", id="patch a user's spec"),
        pytest.param("patch llmrouters.tokenfleet.dev -n models", id="patch a user's router"),
        pytest.param("create clusterroles", id="make a ClusterRole"),
        pytest.param("escalate roles.rbac.authorization.k8s.io -n models", id="grant more than it holds"),
        pytest.param("create leases.coordination.k8s.io -n models", id="take a Lease elsewhere"),
        pytest.param("update leases.coordination.k8s.io/other -n tokenfleet-system", id="take another's Lease"),
    ],
)
def test_the_controller_may_do_no_more(kubectl: Kubectl, installed: Json, question: str) -> None:
    answer = controller(kubectl, installed)("auth", "can-i", *question.split())
    assert (answer.status, answer.output.strip()) == (1, "no"), question


def test_watched_namespaces_bound_the_controller(kubectl: Kubectl, installed: Json) -> None:
    as_controller = controller(kubectl, installed)
    allowed = {
        namespace: as_controller("auth", "can-i", "create", "deployments.apps", "-n", namespace).output.strip()
        for namespace in ("models", "staging", "elsewhere")
    }
    assert allowed == {"models": "yes", "staging": "yes", "elsewhere": "no" if installed["namespaced"] else "yes"}
