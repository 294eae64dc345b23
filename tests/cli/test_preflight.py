"""`tokenfleet plan -f` without a cluster, and the pure parts of it: manifests, differences, what was read of a cluster."""

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from e2e.bench.planning_models import LLAMA_8B
from tests.controller.objects import NAME, NAMESPACE, SETTINGS, UID, llm_deployment, llm_router, spec_of
from tokenfleet import contract
from tokenfleet.cli.cluster.capacity import demand_of, nodes_of, pending_of, quotas_of
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app
from tokenfleet.cli.plan.changes import children_of, rollout_of
from tokenfleet.cli.plan.installation import environment_of, fresh
from tokenfleet.cli.plan.live import merged
from tokenfleet.cli.plan.manifests import parse_manifests
from tokenfleet.cli.plan.preflight import CHANGES
from tokenfleet.cli.plan.room import to_start
from tokenfleet.controller.drift import stamped
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.resources import build_children
from tokenfleet.settings import ControllerSettings

HEAD = f"apiVersion: {contract.API_VERSION}\nkind: LLMDeployment\n"
GOOD = f"""{HEAD}metadata: {{name: chat}}
spec:
  model: {{source: "hf://acme/llama"}}
  accelerator: nvidia-h100-80gb
  engine: {{maxModelLen: 8192}}
"""


# --- The command, offline ------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(LLAMA_8B.as_json()))
    return str(path)


def run(text: str, *words: str, model: str | None = None) -> Result:
    named = ("--model", model) if model is not None else ()
    return CliRunner().invoke(app, ["plan", "-f", "-", "--offline", *named, *words], input=text)


def told(text: str, *words: str, model: str) -> Json:
    (found,) = json.loads(run(text, *words, "--json", model=model).stdout)["deployments"]
    return dict(found)


def test_one_that_fits_with_its_speed_cost_and_objects(model: str) -> None:
    shown = run(GOOD, "--no-diff", model=model)
    assert shown.exit_code == 0, shown.exception
    text = " ".join(shown.stdout.split())
    assert text.startswith("LLMDeployment default/chat (stdin:1) Memory 15.0 GiB of weights")
    assert "Cost $6.88 an hour, $5,022.40 a month, for 1 replica" in text
    assert "+ Deployment chat-engine made" in text
    assert "+++" not in text


def test_what_would_be_made_is_shown_line_by_line(model: str) -> None:
    shown = run(GOOD, model=model)
    assert "+++ Deployment/chat-engine then" in shown.stdout
    assert "+        - '8192'" in shown.stdout


def test_one_that_does_not_fit_ends_with_1_and_says_what_to_change(model: str) -> None:
    shown = run(GOOD.replace("nvidia-h100-80gb", "nvidia-t4-16gb"), model=model)
    assert isinstance(shown.exception, CliError)
    assert (shown.exception.code, str(shown.exception)) == (1, "default/chat would not work as written.")
    assert "The model does not fit" in shown.stdout
    assert "set " in told(GOOD.replace("nvidia-h100-80gb", "nvidia-t4-16gb"), model=model)["problems"][0]


@pytest.mark.parametrize(
    ("words", "risk"),
    [
        pytest.param(("--itl", "1ms"), "The promise of ITL 1.0 ms is not kept, even with one request", id="even alone"),
        pytest.param(("--rate", "1000"), "1000 requests/s are more than 1 replica can take", id="too many"),
        pytest.param(("--rate", "1000", "--ttft", "1s"), "can take within TTFT 1.00 s", id="too many within what is promised"),
    ],
)
def test_promises_that_are_missed_fail_only_where_it_is_strict(model: str, words: tuple[str, ...], risk: str) -> None:
    assert risk in run(GOOD, *words, model=model).stdout
    assert run(GOOD, *words, model=model).exit_code == 0
    strict = run(GOOD, *words, "--strict", model=model)
    assert isinstance(strict.exception, CliError)


def test_what_the_slo_promises_is_held_against_it(model: str) -> None:
    slo = f"{GOOD}  slo: {{itlMilliseconds: 1}}\n  autoscaling: {{maxReplicas: 4}}\n"
    found = told(slo, model=model)
    assert found["risks"] == ["The promise of ITL 1.0 ms is not kept, even with one request at a time."]
    assert found["cost"]["hourlyAtMost"] == pytest.approx(4 * found["cost"]["hourly"])
    assert told(slo, "--itl", "100ms", model=model)["risks"] == []


def test_a_request_longer_than_the_model_is_served_for(model: str) -> None:
    assert "longer than maxModelLen 8192" in told(GOOD, "--input", "9000", model=model)["problems"][0]


def test_at_a_rate_the_latencies_are_those_of_a_replica_s_share(model: str) -> None:
    one = told(GOOD, "--rate", "4", model=model)["speed"]["atRate"]
    two = told(f"{GOOD}  replicas: 2\n", "--rate", "8", model=model)["speed"]["atRate"]
    assert one == two


def test_a_program_may_ask_for_changes_by_the_exit_code(model: str) -> None:
    assert run(GOOD, "--detailed-exitcode", model=model).exit_code == CHANGES


def test_a_model_in_a_claim_cannot_be_read_from_here() -> None:
    shown = run(GOOD.replace("hf://acme/llama", "pvc://models/llama"), "--no-diff")
    assert shown.exit_code == 0
    assert "give a folder with the same files by --model" in shown.stdout


def test_an_accelerator_of_unknown_memory_is_said_to_be_so(model: str) -> None:
    found = told(GOOD.replace("nvidia-h100-80gb", "nvidia"), model=model)
    assert (found["memory"], found["cost"]) == (None, None)
    assert found["untold"][0].startswith("The memory of nvidia is not known")


def test_a_simulator_has_neither_memory_nor_price(model: str) -> None:
    found = told(GOOD.replace("nvidia-h100-80gb", "simulated"), model=model)
    assert (found["memory"], found["speed"], found["cost"], found["untold"]) == (None, None, None, [])


def test_a_router_of_several_models_is_looked_at_too(model: str) -> None:
    text = f"{HEAD.replace('LLMDeployment', 'LLMRouter')}metadata: {{name: shared}}\nspec: {{replicas: 2}}\n---\n{GOOD}"
    shown = run(text, "--no-diff", model=model)
    assert shown.exit_code == 0, shown.exception
    assert "LLMRouter default/shared  (stdin:1)" in shown.stdout
    assert "+ Deployment shared-router made" in shown.stdout
    assert "LLMDeployment default/chat  (stdin:6)" in shown.stdout


def test_other_objects_of_the_file_are_named_and_left_alone(model: str) -> None:
    shown = run(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: hf}}\n---\n{GOOD}", "--no-diff", model=model)
    assert "Not looked at: Secret hf." in shown.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(GOOD.replace("8192", "0"), "stdin:7: LLMDeployment chat: spec.engine.maxModelLen: ", id="a value"),
        pytest.param(
            GOOD.replace("engine:", "engines:"), "stdin:7: LLMDeployment chat: spec.engines: no such field", id="a field"
        ),
        pytest.param(
            GOOD.replace("nvidia-h100-80gb", "tpu"), "stdin:6: LLMDeployment chat: spec.accelerator: no class", id="class"
        ),
        pytest.param(f"{GOOD}  engine: [\n", "stdin:9: this is no YAML", id="no YAML"),
        pytest.param("- 1\n", "stdin:1: this is no object of Kubernetes", id="a list"),
        pytest.param("", "stdin has no LLMDeployment and no LLMRouter", id="nothing"),
        pytest.param("kind: Pod\nmetadata: {name: x}\n", "It has Pod x.", id="nothing of ours"),
        pytest.param(GOOD.replace("v1alpha1", "v9"), "stdin:1: LLMDeployment chat: apiVersion must be", id="a version"),
        pytest.param(GOOD.replace("name: chat", "name: C"), "LLMDeployment C: metadata.name must begin", id="a name"),
    ],
)
def test_what_cannot_be_meant_ends_with_2_and_the_line(text: str, said: str) -> None:
    shown = run(text)
    assert isinstance(shown.exception, Unusable), shown.output
    assert said in str(shown.exception)


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    text = GOOD.replace("8192", "0") + "---\n" + GOOD.replace("name: chat", "name: other").replace("hf://acme/llama", "/x")
    told = str(run(text).exception)
    assert "stdin:7: LLMDeployment chat" in told
    assert "stdin:13: LLMDeployment other" in told


def test_a_flag_that_vllm_does_not_know_is_told_as_the_controller_would(model: str) -> None:
    shown = run(GOOD.replace("{maxModelLen: 8192}", "{extraArgs: [--no-such-flag]}"), model=model)
    assert isinstance(shown.exception, Unusable)
    assert "--no-such-flag" in str(shown.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("-f", "/nowhere.yaml"), "/nowhere.yaml cannot be read", id="no file"),
        pytest.param(("-f", "-", "--rate", "0"), "--rate 0: name a rate above 0.", id="no rate"),
        pytest.param(("-f", "-", "--ttft", "0ms"), "--ttft 0ms: write a span above 0", id="no time"),
    ],
)
def test_options_that_cannot_be_meant(words: tuple[str, ...], said: str) -> None:
    shown = CliRunner().invoke(app, ["plan", *words, "--offline"], input=GOOD)
    assert isinstance(shown.exception, Unusable)
    assert said in str(shown.exception)


def test_a_cluster_without_our_kinds_says_so(tmp_path: Path, model: str) -> None:
    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"kind": "Status", "message": "not found"}).encode()
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    Thread(target=server.serve_forever, daemon=True).start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    contexts = [{"name": "c", "context": {"cluster": "c", "user": "c"}}]
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [{"name": "c", "user": {}}]}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config | {"contexts": contexts, "current-context": "c"}))
    words = ["plan", "-f", "-", "--kubeconfig", str(path), "--model", model, "--no-diff"]
    shown = CliRunner().invoke(app, words, input=GOOD)
    server.shutdown()
    assert "This cluster knows no LLMDeployments: install Tokenfleet there first." in shown.stdout
    assert "GiB of weights" in shown.stdout
    assert isinstance(shown.exception, CliError)


# --- What would change ---------------------------------------------------------------------------------------------------


def live(owner: Json) -> dict[tuple[str, str], Json]:
    """As the controller made its children."""
    children = [stamped(child) for child in build_children(owner, spec_of(owner), SETTINGS)]
    return {(child["kind"], child["metadata"]["name"]): child for child in children}


def changes(before: Json, after: Json) -> dict[tuple[str, str], str]:
    found = children_of(Observed(owner=after, children=live(before)), SETTINGS, before=before)
    return {(change.action, change.name): "\n".join(change.diff()) for change in found.changes}


def test_the_same_spec_changes_nothing() -> None:
    assert changes(llm_deployment(), llm_deployment()) == {}


def test_a_field_that_is_not_sent_any_more_is_a_change() -> None:
    labelled = llm_deployment(podTemplate={"metadata": {"annotations": {"team": "x"}}})
    diff = changes(labelled, llm_deployment())["change", f"{NAME}-engine"]
    assert "-        team: x" in diff


def test_where_the_controller_s_settings_are_not_known_the_specs_are_compared() -> None:
    before, after = llm_deployment(), llm_deployment(engine={"dtype": "float16"})
    unknown = replace(SETTINGS, engine_cpu_image="example.org/another", operator_image="example.org/another")
    observed = Observed(owner=after, children=live(before))
    (change,) = children_of(observed, unknown, before=before, certain=False).changes
    assert "float16" in "".join(change.diff())
    assert "image" not in "".join(line for line in change.diff() if line[0] in "+-")
    assert len(children_of(observed, unknown, before=before).changes) == 2
    same = Observed(owner=before, children=live(before))
    assert children_of(same, unknown, before=before, certain=False).changes == ()


def test_what_others_added_is_not_ours_to_change() -> None:
    children = live(llm_deployment())
    engines = children["Deployment", f"{NAME}-engine"]
    engines["metadata"]["annotations"]["other"] = "theirs"
    engines["spec"]["template"]["spec"]["schedulerName"] = "default-scheduler"
    found = children_of(Observed(owner=llm_deployment(), children=children), SETTINGS, before=llm_deployment())
    assert found.changes == ()


def test_replicas_alone_restart_nothing_and_a_flag_does() -> None:
    before = llm_deployment(replicas=2)
    for after, restarts in (
        (llm_deployment(replicas=3), False),
        (llm_deployment(replicas=2, engine={"dtype": "float16"}), True),
    ):
        children = children_of(Observed(owner=after, children=live(before)), SETTINGS, before=before)
        assert [change.name for change in children.changes] == [f"{NAME}-engine"]
        assert children.changes[0].template_differs is restarts
        said = rollout_of(spec_of(after), children.changes, name=NAME, running=2)
        assert bool(said) is restarts
        assert to_start(spec_of(after), children, running=2) == 1


def test_how_a_rollout_goes() -> None:
    rollout = {"maxSurge": 0, "maxUnavailable": 1, "canary": {"weights": [5, 50], "pauseSeconds": 30}}
    after = llm_deployment(rollout=rollout, drain={"timeoutSeconds": 90}, engine={"dtype": "float16"})
    children = children_of(Observed(owner=after, children=live(llm_deployment())), SETTINGS, before=llm_deployment())
    assert rollout_of(spec_of(after), children.changes, name=NAME, running=1) == [
        "Engines are restarted: their pods would be others.",
        "A canary is tried first, with 5 %, 50 % of the requests, each for 30 s.",
        "Up to 1 of 1 replicas are away meanwhile.",
        "Each old one first answers what it has begun, for 90 s at most.",
    ]
    assert rollout_of(spec_of(after), children.changes, name=NAME, running=0) == ["Engines would be others; none runs now."]


def test_a_router_that_is_shared_takes_the_place_of_its_own() -> None:
    found = changes(llm_deployment(), llm_deployment(routerRef={"name": "shared"}))
    assert ("delete", f"{NAME}-router") in found
    assert ("delete", NAME) in found


def test_a_canary_is_left_to_its_rollout() -> None:
    children = live(llm_deployment())
    canary = {**children["Deployment", f"{NAME}-engine"], "metadata": {"name": f"{NAME}-canary"}}
    children["Deployment", f"{NAME}-canary"] = canary
    canary["metadata"]["ownerReferences"] = [{"uid": UID, "controller": True}]
    found = children_of(Observed(owner=llm_deployment(), children=children), SETTINGS, before=llm_deployment())
    assert found.changes == ()


def test_children_of_a_router_are_its_own() -> None:
    found = children_of(Observed(owner=llm_router(), children={}), SETTINGS, before=None)
    assert {change.action for change in found.changes} == {"create"}
    assert (found.engines, found.replicas) == (None, 0)


# --- What was read of a cluster ------------------------------------------------------------------------------------------


def test_kubectl_s_merge_takes_away_what_was_applied_last_and_leaves_what_others_set() -> None:
    last = {"spec": {"replicas": 2, "engine": {"maxModelLen": 4096, "dtype": "float16"}}, "metadata": {"labels": {"a": "1"}}}
    before = llm_deployment(replicas=5, engine={"maxModelLen": 4096, "dtype": "float16", "sleep": False}, suspend=True)
    before["metadata"] |= {
        "labels": {"a": "1", "b": "2"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(last)},
    }
    body = llm_deployment(engine={"dtype": "bfloat16"})
    del body["spec"]["replicas"]
    found = merged(before, {**body, "metadata": {"name": NAME, "labels": {}}})
    assert found["metadata"]["labels"] == {"b": "2"}
    assert found["spec"]["engine"] == {"dtype": "bfloat16", "sleep": False}
    assert "replicas" not in found["spec"]
    assert found["spec"]["suspend"] is True


def test_lines_are_found_in_lists_of_objects() -> None:
    text = f"apiVersion: v1\nkind: List\nitems:\n- {GOOD.replace(chr(10), chr(10) + '  ')}"
    (manifest,) = parse_manifests(text, origin="x").ours
    assert (manifest.where(), manifest.where("spec.engine.maxModelLen")) == ("x:4", "x:10")


def test_dates_stay_text() -> None:
    text = GOOD.replace("{name: chat}", "{name: chat, annotations: {at: 2026-03-01}}")
    (manifest,) = parse_manifests(text, origin="x").ours
    assert manifest.body["metadata"]["annotations"]["at"] == "2026-03-01"


def a_pod(name: str, *, on: str | None = None, **fields: Any) -> Json:
    containers = [{"name": "x", "resources": {"limits": {"nvidia.com/gpu": "2"}, "requests": {"cpu": "500m"}}}]
    spec = {"containers": containers, **({"nodeName": on} if on else {})}
    metadata = {"name": name, "namespace": NAMESPACE, "creationTimestamp": f"2026-01-0{len(name)}T00:00:00Z", "labels": {}}
    return {"metadata": metadata | fields.pop("metadata", {}), "spec": {**spec, **fields}, "status": {"phase": "Pending"}}


def test_a_pod_asks_for_its_containers_together_or_for_the_largest_that_runs_before() -> None:
    first = {"name": "fetch", "resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}
    two = [
        {"resources": {"requests": {"cpu": "1"}}},
        {"resources": {"requests": {"cpu": "500m"}, "limits": {"nvidia.com/gpu": 1}}},
    ]
    found = demand_of({"containers": two, "initContainers": [first], "overhead": {"memory": "1Gi"}})
    assert found.requests == {"cpu": 3.0, "memory": 2 * 1024**3, "nvidia.com/gpu": 1.0}


def test_nodes_have_what_the_pods_on_them_do_not_ask_for() -> None:
    allocatable = {"nvidia.com/gpu": "8", "cpu": "4"}
    nodes = [
        {
            "metadata": {"name": "a"},
            "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "False"}]},
        }
    ]
    ended = a_pod("ended", on="a") | {"status": {"phase": "Failed"}}
    (found,) = nodes_of(nodes, [a_pod("one", on="a"), a_pod("two", on="a"), a_pod("elsewhere", on="b"), a_pod("waits"), ended])
    assert (found.free("nvidia.com/gpu"), found.free("cpu"), found.used["pods"], found.ready) == (4, 3, 2, False)


def test_pods_that_wait_are_told_by_their_age_without_our_own() -> None:
    ours = a_pod("ours", metadata={"labels": {contract.LABEL_DEPLOYMENT: NAME}})
    pods = [a_pod("young", nodeSelector={"a": "young"}), a_pod("old", nodeSelector={"a": "old"}), ours, a_pod("placed", on="a")]
    assert [each.node_selector["a"] for each in pending_of(pods, own=(NAMESPACE, NAME))] == ["old", "young"]


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        pytest.param({}, True, id="of all pods"),
        pytest.param({"scopes": ["NotTerminating"]}, True, id="of pods that run on"),
        pytest.param({"scopes": ["Terminating"]}, False, id="of pods that end"),
        pytest.param({"scopes": ["BestEffort"]}, False, id="of pods that ask for nothing"),
        pytest.param({"scopeSelector": {"matchExpressions": []}}, False, id="of a priority"),
    ],
)
def test_quotas_that_count_our_pods(spec: Json, counts: bool) -> None:
    quota = {"metadata": {"name": "q"}, "spec": spec, "status": {"hard": {"pods": "4"}, "used": {"pods": "1"}}}
    assert [each.left for each in quotas_of([quota])] == ([{"pods": 3.0}] if counts else [])


def test_a_controller_s_settings_are_read_of_its_container() -> None:
    env = [
        {"name": "TOKENFLEET_OPERATOR_IMAGE", "value": "o:1"},
        {"name": "TOKENFLEET_ENGINE_IMAGE", "value": "e:1"},
        {"name": "TOKENFLEET_ENGINE_CPU_IMAGE", "value": "c:1"},
        {"name": "TOKENFLEET_KEDA_ADDRESS"},
        {"name": contract.ENV_NAMESPACE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    settings = ControllerSettings.from_environment(environment_of({"env": env}, namespace="system"))
    assert (settings.engine_image, settings.own_namespace, settings.keda_address) == ("e:1", "system", None)
    assert replace(settings, own_namespace="x") != fresh().settings
