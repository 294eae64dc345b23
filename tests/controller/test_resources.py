"""The children as they are built: golden files for a reader to review, and what must hold for every spec."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Golden
from tests.controller.objects import (
    NAME,
    NAMESPACE,
    ROUTER_UID,
    SETTINGS,
    SHARED,
    UID,
    llm_deployment,
    llm_router,
    router_spec_of,
    spec_of,
)
from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.api.router import Router
from tokenfleet.controller.kinds import CHILDREN
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import build_children
from tokenfleet.errors import InvalidSpec

ROUTER: Json = {
    "replicas": 4,
    "policy": "PrefixAffinity",
    "auth": {"keysSecret": "team-keys"},
    "tls": {"secretName": "llama-tls"},
    "redis": {"urlSecret": "redis-url"},
}
EVERYTHING: Json = {
    "model": {"source": "pvc://weights/org/llama-70b", "servedName": "llama-70b"},
    "accelerator": "nvidia-h100-80gb",
    "parallelism": {"tensor": 4, "pipeline": 2},
    "engine": {
        "dtype": "bfloat16",
        "maxModelLen": 8192,
        "gpuMemoryUtilization": "0.85",
        "batching": {"maxNumSeqs": 64, "maxNumBatchedTokens": 8192, "chunkedPrefill": False},
        "prefixCaching": False,
        "extraArgs": ["--enforce-eager", "--seed=7"],
    },
    "replicas": 3,
    "router": ROUTER,
    "drain": {"timeoutSeconds": 1200},
    "rollout": {"maxSurge": 0, "maxUnavailable": 1},
    "podTemplate": {
        "metadata": {"labels": {"team": "search"}, "annotations": {"example.org/scrape": "true"}},
        "spec": {
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [
                {
                    "name": "engine",
                    "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
                    "resources": {"limits": {"memory": "1024Gi"}},
                    "livenessProbe": {"failureThreshold": 30},
                },
                {"name": "log-shipper", "image": "example.org/shipper:1"},
            ],
            "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "32768Mi"}}],
        },
    },
}

FETCHED: Json = {
    "model": {
        "source": "hf://org/llama-8b",
        "revision": "0e9e39f249a16976918f6564b8830bc894c89659",
        "credentials": {"secretName": "hf-token"},
        "cache": {"size": "40Gi"},
        "adapters": [
            {"name": "sql", "source": "s3://adapters/sql"},
            {"name": "chat", "source": "pvc://adapters.v1/chat"},
        ],
    },
    "accelerator": "nvidia",
    "parallelism": {"tensor": 2},
    "engine": {
        "quantization": "fp8",
        "kvCache": {"dtype": "fp8", "blockSize": 32, "cpuOffload": "16Gi"},
        "speculative": {"method": "draft", "draftModel": "hf://org/llama-1b", "numTokens": 3},
        "sleep": True,
        "admission": {"maxInFlight": 64, "maxWaiting": 16, "maxQueueSeconds": 10},
        "env": {"VLLM_LOGGING_LEVEL": "DEBUG", "HTTPS_PROXY": "http://proxy:3128"},
        "resources": {"requests": {"cpu": "8"}, "limits": {"memory": "128Gi"}},
    },
}
CASES = {
    "cpu": {},
    "fetched": FETCHED,
    "cached": {"model": {"source": "s3://models/llama", "cache": {"persistentVolumeClaim": "models"}}},
    "simulated": {**FETCHED, "accelerator": "simulated", "engine": {"maxModelLen": 4096, "batching": {"maxNumSeqs": 8}}},
    "any-gpu": {"accelerator": "nvidia"},
    "everything": EVERYTHING,
    "shared": {"routerRef": {"name": SHARED}},
    "disaggregated": {"disaggregation": {"prefill": {"replicas": 2}}},
}
ROUTER_CASES = {"llmrouter": {}, "llmrouter-everything": {**ROUTER, "drain": {"timeoutSeconds": 60}}}


def children(**spec: Any) -> list[Json]:
    deployment = llm_deployment(**spec)
    return build_children(deployment, spec_of(deployment), SETTINGS)


def router_children(**spec: Any) -> list[Json]:
    router = llm_router(**spec)
    return build_children(router, router_spec_of(router), SETTINGS)


def child(kind: str, name: str, **spec: Any) -> Json:
    (found,) = [body for body in children(**spec) if (body["kind"], body["metadata"]["name"]) == (kind, name)]
    return found


def engine_pod(**spec: Any) -> Json:
    template: Json = child("Deployment", "llama-engine", **spec)["spec"]["template"]
    return template


def engine_container(**spec: Any) -> Json:
    container: Json = engine_pod(**spec)["spec"]["containers"][0]
    return container


@pytest.mark.parametrize("case", CASES)
def test_the_children_are_the_ones_reviewed(case: str, golden: Golden) -> None:
    text = yaml.safe_dump_all(children(**CASES[case]), sort_keys=False, width=120)
    golden(f"controller/{case}.yaml", f"# The children of tests/controller/test_resources.py's case {case!r}.\n{text}")


@pytest.mark.parametrize("case", ROUTER_CASES)
def test_the_children_of_an_llmrouter_are_the_ones_reviewed(case: str, golden: Golden) -> None:
    text = yaml.safe_dump_all(router_children(**ROUTER_CASES[case]), sort_keys=False, width=120)
    golden(f"controller/{case}.yaml", f"# The children of tests/controller/test_resources.py's case {case!r}.\n{text}")


def test_every_child_belongs_to_the_llmrouter() -> None:
    for body in router_children():
        metadata = body["metadata"]
        (owner,) = metadata["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("LLMRouter", SHARED, ROUTER_UID, True)
        assert metadata["labels"][contract.LABEL_ROUTER] == SHARED
        assert contract.LABEL_DEPLOYMENT not in metadata["labels"], "or an LLMDeployment of that name would take it for its own"


def test_an_llmdeployment_with_a_shared_router_has_engines_alone() -> None:
    built = children(routerRef={"name": SHARED})
    assert [body["metadata"]["name"] for body in built] == ["llama-engine"] * 4
    (rule,) = next(body for body in built if body["kind"] == "NetworkPolicy")["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"] for peer in rule["from"]] == [
        {contract.LABEL_DEPLOYMENT: NAME, contract.LABEL_ROLE: "router"},
        {contract.LABEL_ROUTER: SHARED, contract.LABEL_ROLE: "router"},
    ]


def test_an_llmrouter_and_an_llmdeployment_that_it_serves_may_have_one_name() -> None:
    router = llm_router(name=NAME)
    theirs = build_children(router, router_spec_of(router), SETTINGS)
    ours = children(routerRef={"name": NAME})
    names = [(body["kind"], body["metadata"]["name"]) for body in (*theirs, *ours)]
    assert len(set(names)) == len(names)


def test_a_change_of_what_the_router_reads_live_restarts_no_pod() -> None:
    live: Json = {
        "policy": "SessionAffinity",
        "sessionHeader": "x-user",
        "maxInFlight": 3,
        "maxConnectionsPerPeer": 5,
        "queue": {"maxDepth": 1, "timeoutSeconds": 1},
        "shedding": {"startAt": "0.1", "stopAt": "0.2", "ttftMilliseconds": 9},
        "limits": {"requestsPerMinute": 1, "tokensPerMinute": 1},
        "bounds": {"maxBodyBytes": 2048},
        "extraPaths": ["/score"],
        "async": {"enabled": True, "maxTries": 1},
        "accessLog": "All",
    }
    pods = set(Router.model_fields) - {"replicas", "auth", "tls", "redis", "tracing"}
    assert {Router.model_fields[name].alias for name in pods} == set(live), "a new field belongs into one of the two lists"
    route = {"model": "m", "fallbacks": ["n"]}
    redis: Json = {"redis": {"urlSecret": "r"}}
    assert router_children(**redis, **live, routes=[route]) == router_children(**redis)
    del live["async"]
    assert router_children(**live, routes=[route]) == router_children()


def test_traces_are_asked_for_by_opentelemetrys_own_variables() -> None:
    router = {"tracing": {"endpoint": "http://collector:4318", "sampleRatio": "0.25"}}
    env = child("Deployment", "llama-router", router=router)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {each["name"]: each["value"] for each in env if each["name"].startswith("OTEL_")} == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
    }


@pytest.mark.parametrize("field", ["auth", "tls", "redis"])
def test_a_secret_is_mounted_for_the_router_alone_and_may_come_later(field: str) -> None:
    pod = child("Deployment", "llama-router", router={field: ROUTER[field]})["spec"]["template"]["spec"]
    (volume,), (mount,) = pod["volumes"], pod["containers"][0]["volumeMounts"]
    (name,) = ROUTER[field].values()
    assert (volume["secret"]["secretName"], volume["secret"]["optional"]) == (name, True)
    assert volume["secret"]["defaultMode"] == 0o440, "readable by the group, which fsGroup makes the router's own"
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    (variable,) = [each for each in pod["containers"][0]["env"] if each["name"].startswith("TOKENFLEET_ROUTER_")]
    assert variable["value"].startswith(mount["mountPath"])


def test_without_secrets_nothing_is_mounted() -> None:
    pod = child("Deployment", "llama-router")["spec"]["template"]["spec"]
    assert "volumes" not in pod and "fsGroup" not in pod["securityContext"]
    assert "volumeMounts" not in pod["containers"][0]


def test_a_router_that_speaks_tls_is_behind_port_443_and_its_probes_are_not() -> None:
    router = {"tls": {"secretName": "llama-tls"}}
    (port,) = child("Service", "llama", router=router)["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("https", 443, "http")
    container = child("Deployment", "llama-router", router=router)["spec"]["template"]["spec"]["containers"][0]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == "admin" and "scheme" not in container[probe]["httpGet"]


def test_every_child_belongs_to_the_llmdeployment() -> None:
    for body in children():
        metadata = body["metadata"]
        assert metadata["namespace"] == NAMESPACE
        (owner,) = metadata["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("LLMDeployment", NAME, UID, True)
        assert metadata["labels"][contract.LABEL_DEPLOYMENT] == NAME
        assert metadata["labels"][contract.LABEL_ROLE] in (contract.ROLE_ENGINE, contract.ROLE_ROUTER)
        assert "app.kubernetes.io/instance" not in metadata["labels"], "Argo CD takes what carries it for its own"


def test_every_kind_is_one_that_the_controller_watches() -> None:
    watched = {(kind.api_version, kind.name) for kind in CHILDREN if kind.name != "Job"}
    built = children(autoscaling={"maxReplicas": 2, "actuator": "HPA"})
    assert {(body["apiVersion"], body["kind"]) for body in built} == watched


def test_the_longest_name_fits_everywhere() -> None:
    name = "a" * contract.MAX_NAME_LENGTH
    deployment = llm_deployment(name=name)
    for body in build_children(deployment, spec_of(deployment), SETTINGS):
        replica_set = len(body["metadata"]["name"]) + len("-5d8c9b7f6d")
        assert replica_set <= 58, "or Kubernetes cuts the hash off the names of the pods"


@pytest.mark.parametrize("accelerator", ["cpu", "nvidia", "nvidia-h100-80gb"])
def test_pods_are_restricted(accelerator: str) -> None:
    for deployment in (child("Deployment", f"llama-{role}", accelerator=accelerator) for role in ("engine", "router")):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }


def test_engines_get_no_token_and_routers_do() -> None:
    assert engine_pod()["spec"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in engine_pod()["spec"]
    router = child("Deployment", "llama-router")["spec"]["template"]["spec"]
    assert (router["automountServiceAccountToken"], router["serviceAccountName"]) == (True, "llama-router")


def test_a_router_may_read_its_llmdeployment_and_pods_and_nothing_else() -> None:
    rules = child("Role", "llama-router")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [(rule["resources"], rule.get("resourceNames")) for rule in rules] == [
        (["llmdeployments"], ["llama"]),
        (["pods"], None),
    ]


def test_a_shared_router_reads_all_llmdeployments_of_its_namespace() -> None:
    (role,) = [body for body in router_children() if body["kind"] == "Role"]
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [(rule["resources"], rule.get("resourceNames")) for rule in role["rules"]] == [
        (["llmrouters"], [SHARED]),
        (["llmdeployments"], None),
        (["pods"], None),
    ]


@pytest.mark.parametrize("seconds", [1, 600, 86400])
def test_the_grace_period_outlasts_the_drain(seconds: int) -> None:
    drain = {"timeoutSeconds": seconds}
    container = engine_container(drain=drain)
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["tokenfleet-engine", "drain", "--timeout", str(seconds)]
    assert container["args"][container["args"].index("--drain-seconds") + 1] == str(seconds)
    assert engine_pod(drain=drain)["spec"]["terminationGracePeriodSeconds"] == seconds + 30
    router = child("Deployment", "llama-router", drain=drain)["spec"]["template"]["spec"]
    assert router["terminationGracePeriodSeconds"] == seconds + 10


def test_a_rollout_does_not_give_up_before_an_engine_may_have_started() -> None:
    spec = child("Deployment", "llama-engine")["spec"]
    probe = engine_container()["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3600
    assert spec["progressDeadlineSeconds"] > 3600


def test_only_routers_of_the_same_llmdeployment_reach_the_engines() -> None:
    (rule,) = child("NetworkPolicy", "llama-engine")["spec"]["ingress"]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {"tokenfleet.dev/deployment": "llama", "tokenfleet.dev/role": "router"}}}
    ]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]


def test_an_upgrade_of_the_operator_rolls_no_engine() -> None:
    deployment = llm_deployment()
    upgraded = replace(SETTINGS, operator_image="example.org/tokenfleet:2.0", identity="controller-1", workers=99)
    before, after = (build_children(deployment, spec_of(deployment), each) for each in (SETTINGS, upgraded))
    changed = [old["metadata"]["name"] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["llama-router"]


def test_a_class_goes_to_its_nodes_and_any_gpu_anywhere() -> None:
    affinity = engine_pod(accelerator="nvidia-h100-80gb")["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"]}
    ]
    assert "affinity" not in engine_pod(accelerator="nvidia")["spec"]
    assert not engine_pod()["spec"].keys() & {"affinity", "tolerations"}


def test_an_unknown_class_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidSpec) as refused:
        children(accelerator="nvidia-z9000")
    assert refused.value.reason == conditions.UNKNOWN_ACCELERATOR
    assert "'nvidia-z9000'" in refused.value.message
    assert "nvidia-h100-80gb" in refused.value.message


def _specs() -> st.SearchStrategy[Json]:
    """Good specs, with fields there or not."""
    return st.fixed_dictionaries(
        {"accelerator": st.sampled_from(["nvidia", "nvidia-h100-80gb", "nvidia-t4-16gb"])},
        optional={
            "replicas": st.integers(0, 1000),
            "parallelism": st.fixed_dictionaries({}, optional={"tensor": st.integers(1, 64), "pipeline": st.integers(1, 64)}),
            "engine": st.fixed_dictionaries(
                {},
                optional={
                    "maxModelLen": st.integers(1, 16777216),
                    "prefixCaching": st.booleans(),
                    "extraArgs": st.lists(st.from_regex(r"\A--seed=[0-9]{1,20}\Z"), max_size=5),
                },
            ),
            "drain": st.fixed_dictionaries({"timeoutSeconds": st.integers(1, 86400)}),
        },
    )


@given(spec=_specs())
@settings(max_examples=60)
def test_building_is_deterministic_and_plain_json(spec: Json) -> None:
    built = children(**spec)
    assert built == children(**spec)
    assert json.loads(json.dumps(built)) == built
    names = [(body["kind"], body["metadata"]["name"]) for body in built]
    assert len(set(names)) == len(names)


@given(spec=_specs())
@settings(max_examples=60)
def test_building_does_not_change_what_it_is_given(spec: Json) -> None:
    deployment = llm_deployment(**spec)
    before = json.dumps(deployment)
    build_children(deployment, spec_of(deployment), SETTINGS)
    assert json.dumps(deployment) == before


def test_prefill_pods_are_engines_but_for_their_role() -> None:
    pods = [child("Deployment", f"llama-{part}", disaggregation={})["spec"]["template"] for part in ("engine", "prefill")]
    texts = [json.dumps(pod).replace("kv_consumer", "ROLE").replace("kv_producer", "ROLE") for pod in pods]
    role = f'"{contract.LABEL_ROLE}": "%s"'
    assert texts[0].replace(role % "engine", "ROLE") == texts[1].replace(role % "prefill", "ROLE")
    assert texts[0] != texts[1]


def test_engines_that_do_both_know_nothing_of_transfers() -> None:
    assert "kv-transfer" not in json.dumps(children())
    assert "env" not in engine_container()
    assert [port["name"] for port in engine_container()["ports"]] == ["http"]


@pytest.mark.parametrize(
    ("replicas", "prefills"),
    [pytest.param(3, 2, id="as many as are wanted"), pytest.param(0, 0, id="none where nobody goes on with the prompts")],
)
def test_prefill_pods_run_while_there_are_others(replicas: int, prefills: int) -> None:
    spec = {"replicas": replicas, "disaggregation": {"prefill": {"replicas": 2}}}
    assert child("Deployment", "llama-engine", **spec)["spec"]["replicas"] == replicas
    assert child("Deployment", "llama-prefill", **spec)["spec"]["replicas"] == prefills


def test_either_kind_of_pods_is_let_in_where_blocks_move() -> None:
    """From the pods that decode to those that read: the handshake and the blocks; the other way the blocks alone."""
    blocks = {"protocol": "TCP", "port": 5700, "endPort": 6723}
    for name, sender, ports in (
        ("engine", "prefill", [blocks]),
        ("prefill", "engine", [{"protocol": "TCP", "port": 5600}, blocks]),
    ):
        requests, transfers = child("NetworkPolicy", f"llama-{name}", disaggregation={})["spec"]["ingress"]
        assert requests["ports"] == [{"protocol": "TCP", "port": 8000}]
        labels = {contract.LABEL_DEPLOYMENT: "llama", contract.LABEL_ROLE: sender}
        assert transfers == {"from": [{"podSelector": {"matchLabels": labels}}], "ports": ports}
    environment = engine_container(disaggregation={})["env"]
    assert {"name": "UCX_TCP_PORT_RANGE", "value": "5700-6723"} in environment
