"""Objects as the API server would tell them, written short: a test says only how one differs from the usual."""

import json
from typing import Any

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, LLMRouterSpec, parse_router_spec, parse_spec
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.settings import ControllerSettings

NAME, NAMESPACE, UID = "llama", "models", "6f1d-llama"
SHARED, ROUTER_UID = "shared", "6f1d-shared"
EARLY, CREATED, STARTED, LATER, LATEST = (f"2026-03-01T10:0{minute}:00Z" for minute in range(5))
NOW = "2026-03-01T12:00:00Z"

SETTINGS = ControllerSettings.from_environment(
    {
        "TOKENFLEET_OPERATOR_IMAGE": "example.org/tokenfleet:1.0",
        "TOKENFLEET_ENGINE_IMAGE": "example.org/engine:1.0",
        "TOKENFLEET_ENGINE_CPU_IMAGE": "example.org/engine-cpu:1.0",
        "TOKENFLEET_NAMESPACE": "tokenfleet-system",
        "TOKENFLEET_IDENTITY": "controller-0",
    }
)


def llm_deployment(*, name: str = NAME, status: Json | None = None, generation: int = 1, **spec: Any) -> Json:
    """An LLMDeployment of one CPU replica; `spec` replaces fields."""
    fields = {"model": {"source": "pvc://weights/llama"}, "accelerator": "cpu", "replicas": 1, **spec}
    metadata = {"name": name, "namespace": NAMESPACE, "uid": UID, "generation": generation}
    made = {"apiVersion": contract.API_VERSION, "kind": contract.KIND, "metadata": metadata, "spec": fields}
    return made | ({} if status is None else {"status": status})


def llm_router(*, name: str = SHARED, status: Json | None = None, generation: int = 1, **spec: Any) -> Json:
    """An LLMRouter of two replicas; `spec` replaces fields."""
    metadata = {"name": name, "namespace": NAMESPACE, "uid": ROUTER_UID, "generation": generation}
    made = {"apiVersion": contract.API_VERSION, "kind": contract.ROUTER_KIND, "metadata": metadata, "spec": {**spec}}
    return made | ({} if status is None else {"status": status})


def router_spec_of(router: Json) -> LLMRouterSpec:
    return parse_router_spec(router["metadata"]["name"], router["spec"])


def spec_of(deployment: Json) -> LLMDeploymentSpec:
    return parse_spec(deployment["metadata"]["name"], deployment["spec"])


def observed(*pods: Json, deployment: Json | None = None, children: tuple[Json, ...] | None = None) -> Observed:
    """A snapshot; without `children`, the two Deployments are there and as they should be."""
    deployment = deployment or llm_deployment()
    if children is None:
        children = (workload("engine", replicas=deployment["spec"]["replicas"]), workload("router", replicas=1))
    found = {(child["kind"], child["metadata"]["name"]): child for child in children}
    return Observed(owner=deployment, children=found, pods=pods)


def workload(
    role: str, *, replicas: int = 1, owner: str | None = UID, owner_kind: str = "LLMDeployment", status: Json | None = None
) -> Json:
    """The Deployment of a role: converged, but for what `status` says."""
    owners = [{"kind": owner_kind, "name": NAME, "uid": owner, "controller": True}] if owner else []
    counts = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas}
    return {
        "kind": "Deployment",
        "metadata": {"name": f"{NAME}-{role}", "namespace": NAMESPACE, "generation": 1, "ownerReferences": owners},
        "spec": {"replicas": replicas},
        "status": {**counts, **(status or {})},
    }


def pod(
    name: str = "engine-a",
    *,
    role: str = "engine",
    template: str = "t1",
    created: str = CREATED,
    going: bool = False,
    draining: bool = False,
    phase: str = "Running",
    ip: str = "10.0.0.1",
    ready: bool = False,
    changed: str = CREATED,
    conditions: tuple[Json, ...] = (),
    containers: tuple[Json, ...] = (),
    inits: tuple[Json, ...] = (),
    **status: Any,
) -> Json:
    """A pod that was placed on a node; `changed` is when its condition Ready changed last."""
    metadata: Json = {
        "name": name,
        "namespace": NAMESPACE,
        "creationTimestamp": created,
        "labels": {"tokenfleet.dev/deployment": NAME, "tokenfleet.dev/role": role, "pod-template-hash": template},
    }
    if going:
        metadata |= {"deletionTimestamp": LATEST, "deletionGracePeriodSeconds": 630}
    if draining:
        metadata["annotations"] = {"tokenfleet.dev/draining": LATEST}
    readiness = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": changed}
    listed = [readiness, *conditions] if phase != "Pending" or containers else [*conditions]
    body: Json = {"phase": phase, "conditions": listed, **status}
    if ip:
        body["podIP"] = ip
    if containers:
        body["containerStatuses"] = list(containers)
    if inits:
        body["initContainerStatuses"] = list(inits)
    return {"kind": "Pod", "metadata": metadata, "status": body}


def ready_pod(name: str = "engine-a", *, role: str = "engine", **fields: Any) -> Json:
    """One that serves."""
    return pod(name, role=role, ready=True, changed=LATER, containers=(running(role, ready=True),), **fields)


def unplaced_pod(message: str, *, name: str = "engine-a", reason: str = "Unschedulable", **fields: Any) -> Json:
    """One that the scheduler has no node for."""
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod(name, phase="Pending", ip="", conditions=(condition,), **fields)


def waiting(
    reason: str, message: str = "", *, name: str = "engine", image: str = "example.org/engine:1.0", **fields: Any
) -> Json:
    """The status of a container that waits."""
    return {
        "name": name,
        "image": image,
        "ready": False,
        "started": False,
        "state": {"waiting": {"reason": reason, "message": message}},
        **fields,
    }


def running(name: str = "engine", *, ready: bool = False, since: str = STARTED, **fields: Any) -> Json:
    """The status of a container that runs."""
    return {"name": name, "ready": ready, "started": ready, "state": {"running": {"startedAt": since}}, **fields}


def terminated(exit_code: int, message: str = "", *, reason: str = "Error", at: str = STARTED) -> Json:
    """How a container ended."""
    return {"exitCode": exit_code, "reason": reason, "message": message, "finishedAt": at}


def crashed(end: Json, *, name: str = "engine", restarts: int = 1) -> Json:
    """The status of a container that ended and waits for its next start."""
    return waiting("CrashLoopBackOff", "back-off 10s", name=name, lastState={"terminated": end}, restartCount=restarts)


def ended(end: Json, *, name: str = "engine", ready: bool = False, **fields: Any) -> Json:
    """The status of a container that ended just now, or for good."""
    return {"name": name, "ready": ready, "state": {"terminated": end}, **fields}


def noted(reason: str, message: str = "Do this.") -> Json:
    """How an engine ended that knew why."""
    return terminated(2, json.dumps({"reason": reason, "message": message}))
