"""What the chart renders to, by the real helm. No API server: tests/integration/test_chart_install.py has that."""

import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from e2e.cluster import tools
from tests.conftest import Golden
from tests.integration.command_lines import CHART, KUBERNETES, ROOT, Json, documents, render, run
from tokenfleet import contract
from tokenfleet.planning import accelerators
from tokenfleet.settings import ControllerSettings

VALUES = ROOT / "tests" / "chart" / "values"
RENDERS = ["default", "everything", "namespaced"]


def flags(name: str) -> list[str | Path]:
    return [] if name == "default" else ["--values", VALUES / f"{name}.yaml"]


@pytest.fixture(params=RENDERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rendered(name: str) -> list[Json]:
    return documents(render(*flags(name)).ok())


def one(rendered: list[Json], kind: str) -> Json:
    (found,) = [document for document in rendered if document["kind"] == kind]
    return found


def container(rendered: list[Json]) -> Json:
    (found,) = one(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(rendered: list[Json]) -> dict[str, str]:
    """The controller's environment, with its pod's name and namespace as the kubelet would fill them in."""
    fields = {"metadata.name": "tokenfleet-7d9f-x2", "metadata.namespace": "tokenfleet-system"}
    return {
        entry["name"]: entry.get("value") or fields.get(entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath"), "")
        for entry in container(rendered)["env"]
    }


def test_the_render_is_the_one_reviewed(name: str, golden: Golden) -> None:
    text = render(*flags(name)).ok()
    without_crd = "---\n".join(part for part in re.split(r"^---\n", text, flags=re.M) if "kind: CustomResourceDef" not in part)
    golden(f"chart/{name}.yaml", without_crd)


def test_lint_has_nothing_to_say(name: str) -> None:
    tools.ensure("helm")
    done = run([tools.path("helm"), "lint", "--strict", CHART, "--kube-version", KUBERNETES, *flags(name)])
    assert done.status == 0, done.output
    assert "WARNING" not in done.output


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        pytest.param("repicas=2", "additional properties 'repicas' not allowed", id="a name that does not exist"),
        pytest.param("image.tga=1", "at '/image': additional properties 'tga' not allowed", id="a name inside another"),
        pytest.param("replicas=two", "at '/replicas': got string, want integer", id="a word where a number is due"),
        pytest.param("workers=0", "at '/workers': minimum: got 0, want 1", id="a number out of range"),
        pytest.param("image.pullPolicy=Sometimes", "must be one of 'Always', 'IfNotPresent', 'Never'", id="no such policy"),
        pytest.param("image.digest=sha256:12", "at '/image/digest'", id="a digest cut short"),
        pytest.param("image.repository=tokenfleet/operator:1", "at '/image/repository'", id="a tag in the repository"),
        pytest.param("engine.image=two words", "at '/engine/image'", id="an image with a space"),
        pytest.param("engine.simulatedImage=a@b", "at '/engine/simulatedImage'", id="a digest that is none"),
        pytest.param("rbac.podLogs=some", "at '/rbac/podLogs': got string, want boolean", id="a word for yes or no"),
        pytest.param("watchNamespaces=models", "at '/watchNamespaces': got string, want array", id="a word for a list"),
        pytest.param("watchNamespaces[0]=Models", "at '/watchNamespaces/0'", id="a namespace that cannot exist"),
        pytest.param("tests.deployment=demo", "at '/tests/deployment'", id="a deployment without its namespace"),
        pytest.param("autoscaling.keda.enable=true", "additional properties 'enable' not allowed", id="a switch misspelt"),
        pytest.param("autoscaling.externalMetrics.tls.caBundle=/ca.pem", "tls/caBundle'", id="a path where PEM is due"),
        pytest.param("resources=null", "missing property 'resources'", id="a value taken away"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(flag: str, message: str) -> None:
    done = render("--set", flag)
    assert done.status != 0
    assert message in done.error


def test_the_environment_is_all_that_the_controller_reads(rendered: list[Json]) -> None:
    asked: set[str] = set()

    class Recorded(dict[str, str]):
        def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
            asked.add(key)
            return super().get(key, default)

    ControllerSettings.from_environment(Recorded(environment(rendered)))
    assert asked == set(environment(rendered))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "default",
            {
                "operator_image": "tokenfleet/operator:0.1.0",
                "engine_image": "tokenfleet/engine:0.1.0",
                "engine_cpu_image": "tokenfleet/engine-cpu:0.1.0",
                "engine_simulated_image": "tokenfleet/operator:0.1.0",
                "image_pull_policy": "IfNotPresent",
                "watch_namespaces": (),
                "resync_seconds": 300,
                "workers": 8,
                "inspect_seconds": 60,
                "lease_seconds": 15,
                "liveness_seconds": 120,
                "log_level": "info",
                "external_metrics_dir": None,
                "keda_address": None,
            },
            id="by default",
        ),
        pytest.param(
            "everything",
            {
                "operator_image": f"mirror.example:5000/llm/operator@sha256:{'0123456789abcdef' * 4}",
                "engine_image": "mirror.example:5000/llm/engine:1.2.3",
                "engine_cpu_image": f"mirror.example:5000/llm/engine-cpu@sha256:{'0123456789abcdef' * 4}",
                "engine_simulated_image": "mirror.example:5000/llm/simulator:1.2.3",
                "image_pull_policy": "Always",
                "watch_namespaces": ("models",),
                "resync_seconds": 60,
                "workers": 32,
                "inspect_seconds": 0,  # of 90, since no logs may be read
                "lease_seconds": 30,
                "liveness_seconds": 240,
                "log_level": "debug",
                "external_metrics_dir": Path("/etc/tokenfleet/external-metrics"),
                "keda_address": "llm-fleets-keda.tokenfleet-system.svc:9091",
            },
            id="with everything set",
        ),
        pytest.param("namespaced", {"watch_namespaces": ("models", "staging"), "inspect_seconds": 60}, id="in two namespaces"),
    ],
)
def test_the_controller_reads_what_the_values_say(rendered: list[Json], expected: Json) -> None:
    settings = ControllerSettings.from_environment(environment(rendered))
    assert {name: getattr(settings, name) for name in expected} == expected
    assert (settings.identity, settings.own_namespace) == ("tokenfleet-7d9f-x2", "tokenfleet-system")
    ports = {port["name"]: port["containerPort"] for port in container(rendered)["ports"]}
    assert ports == {
        "health": settings.health_port,
        "metrics": settings.metrics_port,
        **({"external": settings.external_metrics_port} if settings.external_metrics_dir else {}),
        **({"keda": settings.keda_port} if settings.keda_address else {}),
    }
    assert container(rendered)["image"] == settings.operator_image


def rules(rendered: list[Json]) -> Iterator[Json]:
    for document in rendered:
        if document["kind"] in ("Role", "ClusterRole"):
            yield from document["rules"]


def test_no_role_has_a_wildcard_or_reads_secrets(rendered: list[Json]) -> None:
    granted = list(rules(rendered))
    assert granted
    for rule in granted:
        assert not any("*" in entry for key in ("apiGroups", "resources", "verbs") for entry in rule[key]), rule
        assert not {"secrets", "pods/exec"} & set(rule["resources"]), rule
        assert "nodes" not in rule["resources"] or set(rule["verbs"]) == {"list", "watch"}, rule
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), rule


@pytest.mark.parametrize(
    ("name", "namespaces"),
    [
        pytest.param("default", [None], id="by default"),
        pytest.param("everything", [], id="not where rbac.podLogs is false"),
        pytest.param("namespaced", ["models", "staging"], id="nor in the controller's own namespace, which it does not serve"),
    ],
)
def test_logs_of_pods_may_be_read_where_models_are_fetched(rendered: list[Json], namespaces: list[str | None]) -> None:
    roles = [document for document in rendered if document["kind"] in ("Role", "ClusterRole")]
    granting = {
        role["metadata"].get("namespace"): rule for role in roles for rule in role["rules"] if "pods/log" in rule["resources"]
    }
    assert list(granting) == namespaces
    assert all(rule["verbs"] == ["get"] and rule["resources"] == ["pods/log"] for rule in granting.values())


def test_nodes_are_read_and_watched_only_where_the_whole_cluster_is(name: str, rendered: list[Json]) -> None:
    assert any("nodes" in rule["resources"] for rule in rules(rendered)) is (name == "default")
    assert environment(rendered)["TOKENFLEET_WATCH_NODES"] == ("true" if name == "default" else "false")
    without = documents(render("--set", "rbac.nodes=false").ok())
    assert not any("nodes" in rule["resources"] for rule in rules(without))
    assert environment(without)["TOKENFLEET_WATCH_NODES"] == "false"


def test_with_watched_namespaces_no_right_is_cluster_wide() -> None:
    rendered = documents(render(*flags("namespaced")).ok())
    assert not [document["kind"] for document in rendered if document["kind"].startswith("Cluster")]
    writing = {
        document["metadata"]["namespace"]
        for document in rendered
        if document["kind"] == "Role" and any("patch" in rule["verbs"] for rule in document["rules"])
    }
    assert writing == {"models", "staging"}


def test_the_crds_are_those_in_crds(name: str) -> None:
    crds = [d for d in documents(render(*flags(name)).ok()) if d["kind"] == "CustomResourceDefinition"]
    plain = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    kept = {"default": [{"helm.sh/resource-policy": "keep"}] * 2, "everything": [None] * 2, "namespaced": []}
    assert [crd["metadata"].pop("annotations") for crd in crds] == kept[name]
    for crd in crds:
        del crd["metadata"]["labels"]
    assert crds in (plain, [])


def test_the_services_select_the_controllers_pods_alone(name: str, rendered: list[Json]) -> None:
    template = one(rendered, "Deployment")["spec"]["template"]
    selectors = [document["spec"]["selector"] for document in rendered if document["kind"] == "Service"]
    assert [selector.pop(contract.LABEL_LEADER, None) for selector in selectors] == (
        ["true", "true", None] if name == "everything" else [None]
    )
    for selector in selectors:
        assert selector == one(rendered, "Deployment")["spec"]["selector"]["matchLabels"]
        assert selector.items() <= template["metadata"]["labels"].items()
        assert not selector.items() <= one(rendered, "Pod")["metadata"]["labels"].items()


EXTERNAL, KEDA = "autoscaling.externalMetrics.enabled=true", "autoscaling.keda.enabled=true"


def test_nobody_elses_api_is_taken_unasked() -> None:
    for flag in ([], ["--set", KEDA]):
        kinds = {document["kind"] for document in documents(render(*flag).ok())}
        assert not kinds & {"APIService", "Secret"}


def test_the_certificate_of_external_metrics_is_its_services_and_the_api_server_knows_its_authority() -> None:
    rendered = documents(render("--set", EXTERNAL).ok())
    service, secret = one(rendered, "APIService")["spec"], one(rendered, "Secret")
    chain, authority = (x509.load_pem_x509_certificate(b64decode(secret["data"][name])) for name in ("tls.crt", "ca.crt"))
    chain.verify_directly_issued_by(authority)
    key = serialization.load_pem_private_key(b64decode(secret["data"]["tls.key"]), password=None)
    assert key.public_key() == chain.public_key()
    host = f"{service['service']['name']}.{service['service']['namespace']}.svc"
    assert host in chain.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert service["caBundle"] == secret["data"]["ca.crt"]
    mounted = {volume["name"]: volume for volume in one(rendered, "Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert mounted["external-metrics"]["secret"]["secretName"] == secret["metadata"]["name"]
    assert "insecureSkipTLSVerify" not in service


def test_a_certificate_of_ones_own_needs_its_authority() -> None:
    own = ["--set", EXTERNAL, "--set", "autoscaling.externalMetrics.tls.secretName=own"]
    assert "set autoscaling.externalMetrics.tls.caBundle" in render(*own).error
    annotation = r"autoscaling.externalMetrics.annotations.cert-manager\.io/inject-ca-from=a/b"
    rendered = documents(render(*own, "--set", annotation).ok())
    assert "caBundle" not in one(rendered, "APIService")["spec"]
    assert "Secret" not in {document["kind"] for document in rendered}


@pytest.mark.parametrize(
    ("flag", "rights"),
    [
        pytest.param([], set(), id="neither is served"),
        pytest.param(["--set", KEDA], {"scaledobjects"}, id="KEDA's scaler"),
        pytest.param(["--set", EXTERNAL], {"subjectaccessreviews"}, id="external metrics"),
    ],
)
def test_the_rights_for_autoscalers_of_others_go_with_what_is_served(flag: list[str], rights: set[str]) -> None:
    rendered = documents(render(*flag).ok())
    granted = {resource for rule in rules(rendered) for resource in rule["resources"]}
    assert granted & {"scaledobjects", "subjectaccessreviews"} == rights
    (leases,) = [role for role in rendered if role["kind"] == "Role" and role["metadata"]["name"].endswith("-leases")]
    assert [rule["verbs"] for rule in leases["rules"] if "pods" in rule["resources"]] == ([["patch"]] if flag else [])


def test_user_labels_are_everywhere_and_do_not_replace_ours() -> None:
    for document in documents(render(*flags("everything")).ok()):
        labels = document["metadata"]["labels"]
        assert (labels["team"], labels["app.kubernetes.io/name"]) == ("ml", "fleets"), document["kind"]
        if document["kind"] != "CustomResourceDefinition":
            assert document["metadata"]["annotations"]["example.com/owner"] == "ml", document["kind"]


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        pytest.param("tokenfleet", "tokenfleet", id="the release is called like the chart"),
        pytest.param("prod", "prod-tokenfleet", id="the release has a name of its own"),
        pytest.param("a" * 53, "a" * 53, id="the longest name that helm takes"),
    ],
)
def test_the_name_of_the_objects(release: str, expected: str) -> None:
    assert one(documents(render(release=release).ok()), "Deployment")["metadata"]["name"] == expected


def test_own_accelerators_arrive_where_the_controller_reads_them(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "accelerators.md").read_text()
    (example,) = [part for part in re.findall(r"```yaml\n(.*?)```", page, flags=re.S) if part.startswith("accelerators:")]
    values = tmp_path / "values.yaml"
    values.write_text(example)
    rendered = documents(render("--values", values).ok())
    (config,) = [one for one in rendered if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-accelerators")]
    (volume,) = [one for one in one_pod(rendered)["volumes"] if one["name"] == "accelerators"]
    (mount,) = [one for one in container(rendered)["volumeMounts"] if one["name"] == "accelerators"]
    assert volume["configMap"] == {"name": config["metadata"]["name"], "optional": True}
    (file,) = config["data"]
    assert environment(rendered)["TOKENFLEET_ACCELERATORS_FILE"] == f"{mount['mountPath']}/{file}"
    assert "subPath" not in mount, "or changes would not arrive"
    try:
        accelerators.extend(config["data"][file], origin="the ConfigMap")
        own = accelerators.find_accelerator("nvidia-rtx-6000-ada-48gb")
        assert (own.memory, own.per_node, dict(own.node_labels)) == (49140 << 20, 4, {"example.com/pool": "workstations"})
    finally:
        accelerators.extend("", origin="the test's end")
    assert not [one for one in documents(render().ok()) if one["metadata"]["name"].endswith("-accelerators")]


def one_pod(rendered: list[Json]) -> Json:
    """The controller's, as its Deployment has it."""
    return dict(one(rendered, "Deployment")["spec"]["template"]["spec"])
