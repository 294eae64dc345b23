"""`tokenfleet diagnose` on snapshots in memory: the chain, its first broken link, and the fix."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.fleet_objects import EARLIER, NOW, Json, deployment, pod, told
from tokenfleet import contract
from tokenfleet.cli.diagnose.chain import diagnose
from tokenfleet.cli.diagnose.commands import Tools
from tokenfleet.cli.diagnose.findings import Diagnosis, Finding, State
from tokenfleet.cli.diagnose.snapshot import Look, Reply, Snapshot
from tokenfleet.cli.main import app

FRESH = (NOW - timedelta(seconds=3)).isoformat()


def lease(renewed: str = FRESH) -> Look:
    spec = {"holderIdentity": "tokenfleet-1", "renewTime": renewed}
    return Look(({"metadata": {"name": "tokenfleet-controller", "namespace": "tokenfleet-system"}, "spec": spec},))


def workload(role: str, **status: Any) -> Json:
    owner = {"controller": True, "uid": "llama", "kind": contract.KIND, "name": "llama"}
    counts = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 1, **status}
    metadata = {"name": f"llama-{role}", "generation": 1, "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": {"replicas": 2}, "status": counts}


def waiting(reason: str, message: str = "") -> list[Json]:
    return [{"name": "engine", "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}]


SPEC = {"router": {"replicas": 1}, "model": {"source": "hf://org/llama"}}
ROUTER = pod("llama-router-1", role=contract.ROLE_ROUTER)
HEALTHY = Snapshot(
    namespace="chat",
    name="llama",
    now=NOW,
    owner=deployment(spec=SPEC),
    lease=lease(),
    controllers=Look((pod("tokenfleet-1"),)),
    deployments=Look((workload("engine"), workload("router"))),
    services=Look(({"metadata": {"name": "llama"}},)),
    slices=Look(({"endpoints": [{"conditions": {"ready": True}}]},)),
    pods=Look((pod("llama-engine-1"), pod("llama-engine-2"), ROUTER)),
    reply=Reply(url="/v1/models", status=200, models=("llama",)),
)


def with_engine(*engines: Json) -> Look:
    return Look((*engines, ROUTER))


def found(seen: Snapshot) -> tuple[str, State, str, str | None]:
    cause = diagnose(seen).cause
    assert cause is not None
    return cause.link, cause.state, cause.message, cause.fix


def link(seen: Snapshot, title: str) -> Finding:
    return next(one for one in diagnose(seen).findings if one.link == title)


def test_nothing_is_wrong() -> None:
    diagnosis = diagnose(HEALTHY)
    assert {one.state for one in diagnosis.findings} == {State.OK}
    assert diagnosis.summary == "Nothing is wrong."
    assert [one.link for one in diagnosis.findings] == [
        *("API", "Controller", "Spec", "Model fits", "Volumes and Secrets", "Wanted", "Objects", "Quota", "Nodes", "Image"),
        *("Containers", "Model files", "Engine", "In use", "Routers", "Service", "Scaling", "Events", "Request"),
    ]


UNPLACED = pod(
    "llama-engine-1",
    node=None,
    ready=False,
    containers=[],
    conditions=[
        {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."}
    ],
)
UNPLACED["spec"]["containers"] = [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]
ENDED = pod(
    "llama-engine-1",
    ready=False,
    containers=[
        {
            "name": "engine",
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": EARLIER}},
        }
    ],
)
GPU: Json = {**SPEC, "accelerator": "nvidia-h100-80gb"}


@pytest.mark.parametrize(
    ("changes", "cause", "words", "fix"),
    [
        pytest.param({"owner": None}, "API", "Tokenfleet is not installed", "helm install", id="no CRD"),
        pytest.param(
            {"lease": lease(EARLIER), "controllers": Look()},
            "Controller",
            "No controller leads since 18m",
            "kubectl -n tokenfleet-system scale deployment",
            id="a controller that is scaled to 0",
        ),
        pytest.param(
            {"lease": Look(), "controllers": Look((pod("tokenfleet-1", ready=False, containers=waiting("ImagePullBackOff")),))},
            "Controller",
            "Its pod tokenfleet-1 is in ImagePullBackOff.",
            "kubectl -n chat logs tokenfleet-1",
            id="a controller that does not come up",
        ),
        pytest.param(
            {"owner": deployment(spec={**SPEC, "replicas": -1})},
            "Spec",
            "spec.replicas",
            "kubectl -n chat edit llmd/llama",
            id="a spec that cannot be run",
        ),
        pytest.param(
            {"owner": deployment(spec=SPEC, conditions=[told("SpecValid", "False", "NameConflict", "In the way: Service x.")])},
            "Spec",
            "In the way: Service x.",
            "kubectl -n chat edit llmd/llama",
            id="what the controller said of the spec",
        ),
        pytest.param(
            {"owner": deployment(spec=SPEC, conditions=[told("ModelFits", "False", "DoesNotFit", "30Gi are missing.")])},
            "Model fits",
            "30Gi are missing.",
            "tokenfleet plan memory",
            id="a model that does not fit",
        ),
        pytest.param(
            {"owner": deployment(spec={**SPEC, "model": {"source": "pvc://models/a"}, "accelerator": "cpu"})},
            "Volumes and Secrets",
            "The PersistentVolumeClaim models, which spec.model.source names, is not there.",
            "create it",
            id="no claim",
        ),
        pytest.param(
            {"owner": deployment(spec={**SPEC, "router": {"auth": {"keysSecret": "team"}}}), "secrets": {"team": False}},
            "Volumes and Secrets",
            "The Secret team, which the spec names, is not there.",
            "tokenfleet keys create NAME -s team -n chat",
            id="no Secret of keys",
        ),
        pytest.param(
            {"owner": deployment(spec={**SPEC, "suspend": True})},
            "Wanted",
            "spec.suspend is true",
            "kubectl -n chat patch llmd/llama",
            id="suspended",
        ),
        pytest.param(
            {
                "deployments": Look(
                    (
                        workload(
                            "engine",
                            conditions=[
                                {
                                    "type": "ReplicaFailure",
                                    "status": "True",
                                    "message": 'pods "x" is forbidden: exceeded quota: gpus',
                                }
                            ],
                        ),
                        workload("router"),
                    )
                ),
                "pods": with_engine(),
            },
            "Quota",
            "The namespace's quota forbids the pods",
            "kubectl -n chat get resourcequota",
            id="a quota",
        ),
        pytest.param(
            {"owner": deployment(spec=GPU), "pods": with_engine(UNPLACED)},
            "Nodes",
            "No node has 1 free GPU of class nvidia-h100-80gb",
            None,
            id="no GPU is free",
        ),
        pytest.param(
            {"pods": with_engine(pod("llama-engine-1", ready=False, containers=waiting("ErrImagePull", "not found")))},
            "Image",
            "The node cannot pull the image: not found.",
            "kubectl -n chat describe pod llama-engine-1",
            id="no image",
        ),
        pytest.param(
            {
                "pods": with_engine(
                    pod("llama-engine-1", ready=False, containers=waiting("CreateContainerConfigError", 'secret "x" not found'))
                )
            },
            "Containers",
            'secret "x" not found',
            "kubectl -n chat describe pod llama-engine-1",
            id="a Secret that a container wants",
        ),
        pytest.param(
            {"pods": with_engine(ENDED)},
            "Engine",
            "The kernel killed the engine at its memory limit",
            "kubectl -n chat logs llama-engine-1 -c engine --previous",
            id="out of memory",
        ),
        pytest.param(
            {"owner": deployment(spec={k: v for k, v in SPEC.items() if k != "router"} | {"routerRef": {"name": "shared"}})},
            "Routers",
            "There is no LLMRouter shared",
            "kubectl -n chat describe llmr shared",
            id="no shared router",
        ),
        pytest.param(
            {"services": Look()}, "Service", "The Service llama is not there.", "kubectl -n chat get events", id="no Service"
        ),
        pytest.param(
            {"owner": deployment(spec=SPEC, conditions=[told("ScalingReady", "False", "SignalStale", "No reports come.")])},
            "Scaling",
            "No reports come.",
            None,
            id="no signal for autoscaling",
        ),
        pytest.param(
            {"reply": Reply(url="/v1/models", status=502, words="no.")},
            "Request",
            "A router answered 502: no.",
            "tokenfleet logs llama -n chat --role router",
            id="a router that answers with an error",
        ),
        pytest.param(
            {"reply": Reply(url="/v1/models", status=200, models=("other",))},
            "Request",
            "does not serve llama; it serves other",
            "tokenfleet logs llama -n chat --role router",
            id="a router of another model",
        ),
    ],
)
def test_the_first_cause(changes: dict[str, Any], cause: str, words: str, fix: str | None) -> None:
    title, state, message, step = found(replace(HEALTHY, **changes))
    assert (title, state) == (cause, State.PROBLEM), message
    assert words in message
    assert (step or "").startswith(fix or "")
    assert (step is None) == (fix is None)


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        pytest.param(
            {
                "owner": deployment(
                    spec={
                        **SPEC,
                        "autoscaling": {"minReplicas": 0, "maxReplicas": 2, "scaleToZeroAfterSeconds": 60},
                        "replicas": None,
                    },
                    scaling={"desired": 0},
                )
            },
            "Wanted",
            "The next request wakes the model.",
            id="scaled to zero, on purpose",
        ),
        pytest.param(
            {"pods": with_engine(pod("llama-engine-1", ready=False))}, "Engine", "reads the model and warms up", id="it loads"
        ),
        pytest.param(
            {"owner": deployment(spec=SPEC, observedGeneration=0)},
            "Spec",
            "has not looked at the newest spec",
            id="just applied",
        ),
        pytest.param(
            {"owner": deployment(spec=SPEC, conditions=[told("ModelFits", "Unknown", "InspectingModel", "A pod reads it.")])},
            "Model fits",
            "A pod reads it.",
            id="the model is being inspected",
        ),
    ],
)
def test_what_only_takes_time_is_no_fault(changes: dict[str, Any], cause: str, words: str) -> None:
    seen = replace(HEALTHY, **changes)
    title, state, message, _ = found(seen)
    assert (title, state) == (cause, State.WAITING), message
    assert words in message
    assert diagnose(seen).healthy
    assert diagnose(seen).summary.startswith("No fault was found. ")


def test_without_a_controller_all_else_is_still_looked_at() -> None:
    seen = replace(HEALTHY, lease=lease(EARLIER), controllers=Look(), pods=with_engine(ENDED))
    states = {one.link: one.state for one in diagnose(seen).findings}
    assert (states["Controller"], states["Engine"]) == (State.PROBLEM, State.PROBLEM)
    assert diagnose(seen).summary.startswith("Controller: No controller leads since 18m")


def test_node_by_node_why_a_pod_has_none() -> None:
    def node(name: str, **more: Any) -> Json:
        status = {"allocatable": {"nvidia.com/gpu": "4", "cpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]}
        return {"metadata": {"name": name, "labels": {}}, "spec": more, "status": status}

    taken = pod("other", node="busy")
    taken["spec"]["containers"] = [{"name": "x", "resources": {"limits": {"nvidia.com/gpu": "3"}}}]
    taint = {"key": "gpu", "value": "reserved", "effect": "NoSchedule"}
    nodes = (node("busy"), node("cordoned", unschedulable=True), node("tainted", taints=[taint]))
    seen = replace(HEALTHY, owner=deployment(spec=GPU), pods=with_engine(UNPLACED), nodes=Look(nodes), all_pods=Look((taken,)))
    assert link(seen, "Nodes").details == (
        "busy: has 1 of 2 nvidia.com/gpu free",
        "cordoned: it is cordoned",
        "tainted: its taint gpu=reserved:NoSchedule is not tolerated",
    )
    blind = replace(seen, nodes=Look(unseen="You may not list nodes."))
    assert link(blind, "Nodes").details == ("Not looked at node by node: You may not list nodes.",)


def test_what_may_not_be_seen_is_told_with_the_right_that_is_missing() -> None:
    why = "You may not list the Pods in the namespace chat: ask for a role that lets you list pods."
    seen = replace(
        HEALTHY,
        lease=Look(unseen="You may not list the Leases."),
        controllers=Look(),
        pods=Look(unseen=why),
        events=Look(unseen="You may not list the Events."),
        secrets={"team": None},
    )
    diagnosis = diagnose(seen)
    unknown = {one.link: one.message for one in diagnosis.findings if one.state is State.UNKNOWN}
    assert unknown["Engine"] == unknown["Routers"] == why
    assert "You may not list the Leases." in unknown["Controller"]
    assert "You may not get the Secrets team" in unknown["Volumes and Secrets"]
    assert unknown["Events"] == "You may not list the Events."
    assert diagnosis.healthy
    assert diagnosis.summary.startswith("Nothing is wrong; not looked at: Controller, ")


def test_the_last_words_of_an_engine_stand_beside_its_end() -> None:
    seen = replace(HEALTHY, pods=with_engine(ENDED), last_words={"llama-engine-1": ("CUDA out of memory",)})
    assert link(seen, "Engine").details == ("llama-engine-1: CUDA out of memory",)


def test_recent_warnings_of_ours_are_told_once_each() -> None:
    def event(name: str, reason: str, ago: int) -> Json:
        when = (NOW - timedelta(seconds=ago)).isoformat()
        thing = {"kind": "Pod", "name": name}
        return {"metadata": {}, "involvedObject": thing, "reason": reason, "message": "It failed.", "lastTimestamp": when}

    events = (
        event("llama-engine-1", "BackOff", 90),
        event("llama-engine-1", "BackOff", 30),
        event("other-engine-1", "BackOff", 30),
        event("llama-router-1", "Unhealthy", 4_000),
    )
    finding = link(replace(HEALTHY, events=Look(events)), "Events")
    assert finding.state is State.NOTE
    assert finding.details == ("30s ago, pod llama-engine-1: BackOff: It failed.",)


def test_a_shared_router_answers_for_its_own() -> None:
    spec = {"model": SPEC["model"], "routerRef": {"name": "shared"}}
    conditions = [told("RouterReady", message="2 of 2 router replicas are ready."), told("SpecValid")]
    router = {"metadata": {"name": "shared"}, "status": {"conditions": conditions}}
    services = Look(({"metadata": {"name": "shared"}},))
    seen = replace(HEALTHY, owner=deployment(spec=spec), router=Look((router,)), services=services)
    assert link(seen, "Routers").message == "LLMRouter shared: 2 of 2 router replicas are ready."
    assert diagnose(seen).cause is None
    router["status"] = {"conditions": [conditions[0], told("SpecValid", "True", "RoutesUnresolved", "No LLMDeployment x.")]}
    assert found(seen)[:3] == ("Routers", State.PROBLEM, "LLMRouter shared: No LLMDeployment x.")


def run(seen: Snapshot, *words: str) -> Any:
    return CliRunner().invoke(app, ["diagnose", "llama", *words], obj=Tools(take=lambda place, name: seen))


def test_the_command_draws_the_chain_and_ends_with_the_cause() -> None:
    well = run(HEALTHY)
    assert (well.exit_code, well.stdout.splitlines()[-1]) == (0, "Nothing is wrong.")
    ill = run(replace(HEALTHY, pods=with_engine(ENDED)))
    lines = ill.stdout.splitlines()
    assert (ill.exit_code, lines[0]) == (1, "chat/llama")
    assert "✓ Spec                 The spec can be run." in lines
    assert any(line.startswith("✗ Engine               The kernel killed the engine") for line in lines)
    assert lines[-1].startswith("Engine: The kernel killed the engine at its memory limit")


def test_the_same_for_programs() -> None:
    body = json.loads(run(replace(HEALTHY, pods=with_engine(ENDED)), "--json").stdout)
    assert (body["healthy"], body["cause"]["link"]) == (False, "Engine")
    assert body["cause"]["lookedAt"]
    assert len(body["findings"]) == len(diagnose(HEALTHY).findings)


def test_a_diagnosis_prefers_a_problem_to_what_only_takes_time() -> None:
    late = Finding(link="b", state=State.PROBLEM, message="Broken.", fix="mend it")
    findings = (Finding(link="a", state=State.WAITING, message="It takes time."), late)
    diagnosis = Diagnosis(namespace="n", name="x", findings=findings)
    assert (diagnosis.cause, diagnosis.summary) == (late, "b: Broken. Fix: mend it")
