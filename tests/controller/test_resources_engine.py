"""What an engine's pod runs, and what it asks of a node."""

import pytest

from tests.controller.objects import SETTINGS, llm_deployment, spec_of
from tests.controller.test_resources import children, engine_container, engine_pod
from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import build_children
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import extend
from tokenfleet.settings import ControllerSettings


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        pytest.param({}, "example.org/engine-cpu:1.0", id="the CPU has a build of its own"),
        pytest.param({"accelerator": "nvidia-l4-24gb"}, "example.org/engine:1.0", id="a GPU runs the other"),
        pytest.param(
            {"podTemplate": {"spec": {"containers": [{"name": "engine", "image": "own/engine:3"}]}}},
            "own/engine:3",
            id="podTemplate has the last word",
        ),
    ],
)
def test_the_image_follows_the_accelerator(spec: Json, image: str) -> None:
    assert engine_container(**spec)["image"] == image


@pytest.mark.parametrize(
    ("parallelism", "gpus", "memory", "shared"),
    [
        pytest.param({}, "1", "4Gi", "2Gi", id="one GPU"),
        pytest.param({"tensor": 8}, "8", "32Gi", "9Gi", id="eight that share a layer"),
        pytest.param({"tensor": 4, "pipeline": 4}, "16", "64Gi", "17Gi", id="sixteen in groups"),
        pytest.param({"tensor": 64, "pipeline": 64}, "4096", "16Ti", "4097Gi", id="more than anybody has"),
    ],
)
def test_a_replica_asks_for_its_gpus(parallelism: Json, gpus: str, memory: str, shared: str) -> None:
    spec = {"accelerator": "nvidia", "parallelism": parallelism}
    resources = engine_container(**spec)["resources"]
    assert resources["limits"] == {"nvidia.com/gpu": gpus}
    assert resources["requests"]["memory"] == memory
    (volume,) = [volume for volume in engine_pod(**spec)["spec"]["volumes"] if volume["name"] == "shm"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": shared}


@pytest.mark.parametrize("spec", [{}, {"disaggregation": {}}])
def test_a_restart_makes_all_engine_pods_others_and_no_router(spec: Json) -> None:
    deployment = llm_deployment(accelerator="nvidia", **spec)
    before = build_children(deployment, spec_of(deployment), SETTINGS)
    deployment["metadata"]["annotations"] = {contract.ANNOTATION_RESTARTED: "2026-03-01T12:00:00Z"}
    after = build_children(deployment, spec_of(deployment), SETTINGS)
    changed = [new["spec"]["template"] for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == (2 if spec else 1)
    for template in changed:
        assert template["metadata"]["labels"][contract.LABEL_ROLE] != contract.ROLE_ROUTER
        assert template["metadata"]["annotations"] == {contract.ANNOTATION_RESTARTED: "2026-03-01T12:00:00Z"}


def test_a_gate_of_the_users_stands_beside_ours() -> None:
    theirs = {"spec": {"readinessGates": [{"conditionType": "example.org/in-load-balancer"}]}}
    gates = engine_pod(podTemplate=theirs)["spec"]["readinessGates"]
    assert [gate["conditionType"] for gate in gates] == [contract.CONDITION_IN_USE, "example.org/in-load-balancer"]


def test_flags_are_checked_where_the_engine_is_the_bundled_one() -> None:
    engine = {"extraArgs": ["--swap-space", "4"]}
    with pytest.raises(InvalidSpec, match=r"spec\.engine\.extraArgs: vLLM .* has no flag --swap-space"):
        children(engine=engine)
    own = {"spec": {"containers": [{"name": "engine", "image": "own/engine:3"}]}}
    assert engine_container(engine=engine, podTemplate=own)["args"][-2:] == ["--swap-space", "4"]
    assert engine_container(engine=engine, accelerator="simulated")["args"][-2:] == ["--swap-space", "4"], "it has its own"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"disaggregation": {}}, id="disaggregation"),
        pytest.param({"accelerator": "nvidia", "engine": {"kvCache": {"cpuOffload": "1Gi"}}}, id="an offload"),
    ],
)
def test_what_moves_blocks_owns_the_flag_for_it_also_where_that_is_written_short(spec: Json) -> None:
    engine = {**spec.get("engine", {}), "extraArgs": ["--kv-transf={}"]}
    with pytest.raises(InvalidSpec, match="must not set --kv-transfer-config"):
        children(**{**spec, "engine": engine})


def test_a_simulator_runs_in_the_operators_image_or_in_its_own() -> None:
    assert engine_container(accelerator="simulated")["image"] == SETTINGS.operator_image
    deployment = llm_deployment(accelerator="simulated")
    environment = {
        "TOKENFLEET_OPERATOR_IMAGE": "o",
        "TOKENFLEET_ENGINE_IMAGE": "e",
        "TOKENFLEET_ENGINE_CPU_IMAGE": "c",
        "TOKENFLEET_ENGINE_SIMULATED_IMAGE": "example.org/simulator:1",
        "TOKENFLEET_NAMESPACE": "n",
        "TOKENFLEET_IDENTITY": "i",
    }
    configured = ControllerSettings.from_environment(environment)
    (workload, *_) = [
        body
        for body in build_children(deployment, spec_of(deployment), configured)
        if body["metadata"]["name"] == "llama-engine" and body["kind"] == "Deployment"
    ]
    assert workload["spec"]["template"]["spec"]["containers"][0]["image"] == "example.org/simulator:1"


def test_a_simulator_is_an_engine_in_all_but_what_it_takes() -> None:
    """Probes, goodbye, ports, security, access: what a drill is about."""
    real, simulated = engine_container(), engine_container(accelerator="simulated")
    differing = {field for field in real if real[field] != simulated[field]}
    assert differing == {"image", "args", "resources", "volumeMounts"}
    assert real.keys() == simulated.keys()
    others = [[body for body in children(accelerator=name) if body["kind"] != "Deployment"] for name in ("cpu", "simulated")]
    assert others[0] == others[1]


@pytest.mark.parametrize(
    ("engine", "requests", "limits"),
    [
        pytest.param({}, {"cpu": "2", "memory": "8Gi"}, {}, id="what vLLM needs to start a small model"),
        pytest.param(
            {"kvCache": {"cpuOffload": "16Gi"}}, {"cpu": "2", "memory": "24Gi"}, {}, id="and what is kept in the node's memory"
        ),
        pytest.param(
            {"resources": {"requests": {"cpu": "16", "rdma/hca": "1"}}},
            {"cpu": "16", "memory": "8Gi", "rdma/hca": "1"},
            {},
            id="the user's requests",
        ),
        pytest.param(
            {"resources": {"limits": {"memory": "4096Mi"}}},
            {"cpu": "2"},
            {"memory": "4Gi"},
            id="a limit alone, up to which Kubernetes then requests",
        ),
        pytest.param(
            {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
            {"cpu": "2", "memory": "1Gi"},
            {"memory": "2Gi"},
            id="both",
        ),
    ],
)
def test_a_replica_asks_for_what_the_user_says(engine: Json, requests: Json, limits: Json) -> None:
    resources = engine_container(accelerator="nvidia", parallelism={"tensor": 2}, engine=engine)["resources"]
    assert resources == {"requests": requests, "limits": {**limits, "nvidia.com/gpu": "2"}}


def test_a_class_s_node_labels_are_asked_of_its_nodes() -> None:
    labels = '{ "example.com/pool" = "a", "example.com/disk" = "b" }'
    own = f'[pooled]\nsummary = "Ours."\nresource = "amd.com/gpu"\nnode_labels = {labels}'
    extend(own, origin="the cluster's")
    try:
        spec = engine_pod(accelerator="pooled")["spec"]
        changed = engine_container(accelerator="pooled")["resources"]["limits"]
    finally:
        extend("", origin="the test's end")
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "example.com/disk", "operator": "In", "values": ["b"]},
        {"key": "example.com/pool", "operator": "In", "values": ["a"]},
    ]
    assert spec["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert changed == {"amd.com/gpu": "1"}


def test_blocks_that_leave_the_gpu_have_room_in_shared_memory() -> None:
    pod = engine_pod(accelerator="nvidia", engine={"kvCache": {"cpuOffload": "16Gi"}})
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "shm"]
    assert volume["emptyDir"]["sizeLimit"] == "18Gi"


def test_the_environment_is_the_users_and_then_the_transfers() -> None:
    env = engine_container(engine={"env": {"B": "2", "A": "1"}}, disaggregation={})["env"]
    assert [each["name"] for each in env][:3] == ["A", "B", "VLLM_NIXL_SIDE_CHANNEL_HOST"]
    assert engine_container(engine={"env": {"B": "2", "A": "1"}})["env"] == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2"},
    ]
