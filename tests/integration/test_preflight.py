"""`tokenfleet plan -f` against a real API server, beside a real controller: what it foretells is what then happens."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner, Result

from e2e.bench.planning_models import LLAMA_8B
from tests.integration.operators import ENGINE_IMAGE, OPERATOR_IMAGE, Namespace, Operators, eventually
from tokenfleet import contract
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app
from tokenfleet.cli.plan.preflight import CHANGES
from tokenfleet.planning.accelerators import extend

Json = dict[str, Any]

NAMESPACE, SYSTEM, OTHER = "preflight", "preflight-system", "preflight-others"
PRODUCT = {"nvidia.com/gpu.product": "NVIDIA-L4"}
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
TEAM_TAINT = {"key": "team", "value": "other", "effect": "NoSchedule"}
SPEC: Json = {
    "model": {"source": "hf://acme/llama"},
    "accelerator": "nvidia-l4-24gb",
    "engine": {"maxModelLen": 4096, "batching": {"maxNumSeqs": 64}},
    "replicas": 2,
}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


def changed(spec: Json, **fields: Any) -> Json:
    return {**spec, **fields}


@pytest.fixture(scope="module")
def cluster(api: httpx.Client) -> Iterator[Namespace]:
    for name in (SYSTEM, OTHER):
        api.post("/api/v1/namespaces", json={"metadata": {"name": name}})
    node(api, "pf-free", GPU_TAINT)
    node(api, "pf-cordoned", GPU_TAINT, unschedulable=True)
    node(api, "pf-team", TEAM_TAINT)
    pod(api, "runs", gpus=5, on="pf-free")
    pod(api, "ended", gpus=3, on="pf-free", phase="Succeeded")
    pod(api, "waits", gpus=1)
    images = {"OPERATOR_IMAGE": OPERATOR_IMAGE, "ENGINE_IMAGE": ENGINE_IMAGE, "ENGINE_CPU_IMAGE": "example.org/engine-cpu:1"}
    environment = {**images, "WATCH_NAMESPACES": NAMESPACE, "IMAGE_PULL_POLICY": "Always"}
    labels = {"app.kubernetes.io/name": "tokenfleet", "app.kubernetes.io/part-of": "tokenfleet"}
    env = [{"name": f"TOKENFLEET_{name}", "value": value} for name, value in environment.items()]
    env.append({"name": "TOKENFLEET_ACCELERATORS_FILE", "value": "/etc/classes/classes"})
    mounts = [{"name": "more", "mountPath": "/etc/classes"}]
    containers = [{"name": "controller", "image": OPERATOR_IMAGE, "env": env, "volumeMounts": mounts}]
    volumes = [{"name": "more", "configMap": {"name": "more-accelerators", "optional": True}}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, "volumes": volumes}}
    body = {"metadata": {"name": "tokenfleet", "labels": labels}}
    body["spec"] = {"selector": {"matchLabels": labels}, "template": template}
    api.post(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments", json=body).raise_for_status()
    yield Namespace(api, NAMESPACE)
    for name in ("pf-free", "pf-cordoned", "pf-team"):
        api.delete(f"/api/v1/nodes/{name}")


def node(api: httpx.Client, name: str, taint: Json, *, unschedulable: bool = False) -> None:
    spec = {"taints": [taint], "unschedulable": unschedulable}
    made = (
        api.post("/api/v1/nodes", json={"metadata": {"name": name, "labels": PRODUCT}, "spec": spec}).raise_for_status().json()
    )
    amounts = {"nvidia.com/gpu": "8", "cpu": "96", "memory": "768Gi", "pods": "110"}
    made["spec"]["taints"] = [taint]
    status = {"allocatable": amounts, "capacity": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
    api.put(f"/api/v1/nodes/{name}", json=made)
    merge = {"Content-Type": "application/merge-patch+json"}
    api.patch(f"/api/v1/nodes/{name}/status", content=json.dumps({"status": status}), headers=merge).raise_for_status()


def pod(api: httpx.Client, name: str, *, gpus: int, on: str | None = None, phase: str = "Pending") -> None:
    limits = {"nvidia.com/gpu": str(gpus)}
    tolerations = [{"operator": "Exists"}]
    containers = [{"name": "x", "image": "example.org/x", "resources": {"limits": limits}}]
    spec: Json = {"containers": containers, "tolerations": tolerations, **({"nodeName": on} if on else {})}
    path = f"/api/v1/namespaces/{OTHER}/pods"
    api.post(path, json={"metadata": {"name": name}, "spec": spec}).raise_for_status()
    merge = {"Content-Type": "application/merge-patch+json"}
    api.patch(f"{path}/{name}/status", content=json.dumps({"status": {"phase": phase}}), headers=merge).raise_for_status()


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(LLAMA_8B.as_json()))
    return str(path)


Plan = Callable[..., Result]


@pytest.fixture
def plan(kubeconfig: Path, tmp_path: Path, model: str) -> Plan:
    """Plans an LLMDeployment of this name and spec."""

    def run(name: str, spec: Json, *words: str, config: Path = kubeconfig, namespace: str = NAMESPACE) -> Result:
        body = {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": {"name": name}, "spec": spec}
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(body))
        options = ("-f", str(file), "--model", model, "-n", namespace, "--kubeconfig", str(config))
        return CliRunner().invoke(app, ["plan", *options, *words])

    return run


def told(result: Result) -> Json:
    body: Json = json.loads(result.stdout)
    (found,) = body["deployments"]
    return dict(found)


def test_a_new_one_with_what_is_free(cluster: Namespace, plan: Plan) -> None:
    result = plan("fresh", changed(SPEC, replicas=3))
    assert result.exit_code == 0, result.exception
    shown = " ".join(result.stdout.split())
    assert "3 of 8 nvidia.com/gpu free on 1 node of the class; 1 pod that waits already wants 1" in shown
    assert "2 of 3 replicas to be started find room now" in shown
    assert "pf-cordoned is not counted: it is cordoned" in shown
    assert "pf-team is not counted: its taint team=other:NoSchedule is not tolerated" in shown
    assert "No other node of the class has 1 nvidia.com/gpu free at once" in shown
    assert "+ Deployment fresh-engine made" in shown
    assert f"+ image: {ENGINE_IMAGE}" in shown
    assert "imagePullPolicy: Always" in shown
    assert cluster.get(contract.KIND, "fresh") is None


def test_exit_codes_for_ci(cluster: Namespace, plan: Plan) -> None:
    assert plan("fresh", SPEC, "--strict").exit_code == 0
    assert plan("fresh", SPEC, "--strict", "--detailed-exitcode").exit_code == CHANGES
    strict = plan("fresh", changed(SPEC, replicas=3), "--strict")
    assert isinstance(strict.exception, CliError)
    assert strict.exception.code == 1
    large = plan("fresh", changed(SPEC, engine={}))
    assert "The model does not fit" in large.stdout
    assert isinstance(large.exception, CliError)


def test_what_the_api_server_would_refuse(cluster: Namespace, plan: Plan, tmp_path: Path, kubeconfig: Path) -> None:
    """Of what pydantic lets pass, the API server knows more: names of its own objects."""
    file = tmp_path / "labelled.yaml"
    metadata = {"name": "labelled", "labels": {"bad label": "x"}}
    file.write_text(
        yaml.safe_dump({"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": metadata, "spec": SPEC})
    )
    result = CliRunner().invoke(app, ["plan", "-f", str(file), "-n", NAMESPACE, "--kubeconfig", str(kubeconfig), "--no-diff",
                                      "--model", str(_facts(tmp_path))])  # fmt: skip
    assert "metadata.labels: Invalid value" in result.stdout
    assert isinstance(result.exception, CliError)


def _facts(folder: Path) -> Path:
    path = folder / "facts.json"
    path.write_text(json.dumps(LLAMA_8B.as_json()))
    return path


def test_a_namespace_that_is_not_there(cluster: Namespace, plan: Plan) -> None:
    result = plan("fresh", SPEC, namespace="nowhere")
    assert "There is no namespace nowhere in this cluster" in result.stdout
    assert isinstance(result.exception, CliError)


def test_classes_and_prices_of_the_cluster_are_the_controller_s(cluster: Namespace, plan: Plan, tmp_path: Path) -> None:
    path = f"/api/v1/namespaces/{SYSTEM}/configmaps"
    data = {"classes": "[nvidia-l4-24gb]\nprice = { on_demand = 0.25 }\n"}
    cluster.client.post(path, json={"metadata": {"name": "more-accelerators"}, "data": data}).raise_for_status()
    own = tmp_path / "own.toml"
    own.write_text("[nvidia-l4-24gb]\nprice = { on_demand = 0.75 }\n")
    try:
        assert told(plan("fresh", SPEC, "--json"))["cost"]["hourly"] == 0.5
        assert told(plan("fresh", SPEC, "--json", "--accelerators", str(own)))["cost"]["hourly"] == 1.5
    finally:
        cluster.client.delete(f"{path}/more-accelerators").raise_for_status()
        extend("", origin="test")


def test_a_quota_of_the_namespace(cluster: Namespace, plan: Plan) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"
    hard, used = {"requests.nvidia.com/gpu": "4"}, {"requests.nvidia.com/gpu": "3"}
    made = cluster.client.post(path, json={"metadata": {"name": "gpus"}, "spec": {"hard": hard}}).raise_for_status().json()
    cluster.client.put(f"{path}/gpus/status", json={**made, "status": {"hard": hard, "used": used}}).raise_for_status()
    try:
        found = told(plan("fresh", SPEC, "--json"))
    finally:
        cluster.client.delete(f"{path}/gpus").raise_for_status()
    assert found["capacity"]["startable"] == 1
    assert "The ResourceQuota gpus leaves 1 of requests.nvidia.com/gpu, and 2 replicas need 2" in found["risks"][0]


@pytest.fixture
def deployed(cluster: Namespace, kubeconfig: Path, operators: Operators) -> Iterator[str]:
    """An LLMDeployment whose children a real controller has made."""
    operator = operators.start(kubeconfig, NAMESPACE, IMAGE_PULL_POLICY="Always")
    name = "running"
    cluster.create(contract.KIND, {"metadata": {"name": name}, "spec": SPEC})
    eventually("its children", lambda: ("Service", name) in cluster.children(name))
    eventually("its router's Deployment", lambda: cluster.get("Deployment", f"{name}-router"))
    yield name
    cluster.delete(contract.KIND, name)
    for kind, child in cluster.children(name):
        cluster.delete(kind, child)
    operator.kill()


def test_what_is_foretold_is_what_the_controller_does(cluster: Namespace, plan: Plan, deployed: str) -> None:
    assert told(plan(deployed, SPEC, "--json"))["changes"] == []
    assert plan(deployed, SPEC, "--detailed-exitcode").exit_code == 0

    other = changed(SPEC, engine={"maxModelLen": 8192, "batching": {"maxNumSeqs": 64}}, routerRef={"name": "shared"})
    foretold = {
        (each["action"], each["kind"], each["name"]): each["diff"] for each in told(plan(deployed, other, "--json"))["changes"]
    }
    changes = {key[:2] for key in foretold}
    assert ("change", "Deployment") in changes
    engines = foretold["change", "Deployment", f"{deployed}-engine"]
    assert "-        - '4096'" in engines
    assert "+        - '8192'" in engines
    assert ("delete", "Deployment", f"{deployed}-router") in foretold

    only = changed(SPEC, engine={"maxModelLen": 8192, "batching": {"maxNumSeqs": 64}})
    found = told(plan(deployed, only, "--json"))
    assert [(each["action"], each["name"]) for each in found["changes"]] == [("change", f"{deployed}-engine")]
    before = cluster.one("Deployment", f"{deployed}-engine")["metadata"]["generation"]
    cluster.patch(contract.KIND, deployed, {"spec": only})
    eventually("the change", lambda: cluster.one("Deployment", f"{deployed}-engine")["metadata"]["generation"] > before)
    assert told(plan(deployed, only, "--json"))["changes"] == []


def test_a_field_that_is_taken_out_of_the_file_goes(cluster: Namespace, plan: Plan, deployed: str) -> None:
    """As `kubectl apply` has it, by what was applied last; what others set, such as the count, stays."""
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    last = json.dumps({"metadata": {"name": deployed}, "spec": SPEC})
    cluster.patch(contract.KIND, deployed, {"metadata": {"annotations": {annotation: last}}})
    cluster.patch(contract.KIND, deployed, {"spec": {"replicas": 7}})
    eventually("seven", lambda: cluster.one("Deployment", f"{deployed}-engine")["spec"]["replicas"] == 7)
    less = {key: value for key, value in SPEC.items() if key != "replicas"} | {"engine": {"maxModelLen": 4096}}
    last = json.dumps(
        {"metadata": {"name": deployed}, "spec": {key: value for key, value in SPEC.items() if key != "replicas"}}
    )
    cluster.patch(contract.KIND, deployed, {"metadata": {"annotations": {annotation: last}}})
    (change,) = told(plan(deployed, less, "--json"))["changes"]
    assert "---max-num-seqs" in change["diff"].replace(" ", "")
    assert "replicas" not in change["diff"]


def test_somebody_else_s_object_is_in_the_way(cluster: Namespace, plan: Plan) -> None:
    cluster.create("ServiceAccount", {"metadata": {"name": "crowded-router"}})
    result = plan("crowded", SPEC, "--no-diff")
    assert "ServiceAccount crowded-router is somebody else's object" in result.stdout
    assert isinstance(result.exception, CliError)


def test_without_the_right_to_see_nodes_the_rest_is_told(
    cluster: Namespace, plan: Plan, kubeconfig: Path, tmp_path: Path
) -> None:
    found = told(plan("fresh", SPEC, "--json", config=limited(cluster.client, kubeconfig, tmp_path)))
    assert found["capacity"] is None
    assert "You may not get the nodes of the cluster: ask for a role that lets you list nodes." in found["untold"]
    assert any("the controller's Deployment" in each for each in found["untold"])
    assert found["memory"]["fits"]
    assert len(found["changes"]) == 10


def limited(api: httpx.Client, kubeconfig: Path, folder: Path) -> Path:
    """A kubeconfig of somebody who may do all in the namespace, and nothing else."""
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    api.post(accounts, json={"metadata": {"name": "someone"}})
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
    api.post(f"{roles}/roles", json={"metadata": {"name": "all"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "someone", "namespace": NAMESPACE}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"}
    api.post(f"{roles}/rolebindings", json={"metadata": {"name": "all"}, "roleRef": reference, "subjects": [subject]})
    token = api.post(f"{accounts}/someone/token", json={"spec": {}}).raise_for_status().json()["status"]["token"]
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    path = folder / "limited.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_cluster_that_does_not_answer_leaves_the_rest(plan: Plan, kubeconfig: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    away = tmp_path / "away.yaml"
    away.write_text(yaml.safe_dump(config))
    result = plan("fresh", SPEC, config=away)
    assert "GiB of weights" in result.stdout
    assert "does not answer" in result.stdout
    assert isinstance(result.exception, CliError)
    assert not isinstance(result.exception, Unusable)
    assert plan("fresh", SPEC, "--offline", config=away).exit_code == 0


def test_what_the_controller_has_read_of_the_model_is_taken(cluster: Namespace, kubeconfig: Path, tmp_path: Path) -> None:
    spec = changed(SPEC, model={"source": "pvc://models/llama"})
    cluster.create(contract.KIND, {"metadata": {"name": "read"}, "spec": spec})
    facts = {
        "of": "x",
        "architecture": "LlamaForCausalLM",
        "parameters": "8.03B",
        "weights": "15Gi",
        "facts": LLAMA_8B.as_json(),
    }
    cluster.patch(contract.KIND, "read", {"status": {"model": facts}}, subresource="status")
    file = tmp_path / "read.yaml"
    for source, known in (("pvc://models/llama", True), ("pvc://models/other", False)):
        body = {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": {"name": "read", "namespace": NAMESPACE}}
        file.write_text(yaml.safe_dump({**body, "spec": changed(SPEC, model={"source": source})}))
        options = ["-f", str(file), "--kubeconfig", str(kubeconfig), "--json"]
        found = told(CliRunner().invoke(app, ["plan", *options]))
        assert (found["memory"] is not None) is known
        assert any("its files are in a claim" in each or "they are in a claim" in each for each in found["untold"]) is not known
