"""LLMDeployments and pods as an API server has them, for the tests of commands."""

from datetime import UTC, datetime
from typing import Any

from tokenfleet import contract

Json = dict[str, Any]
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EARLIER = "2026-03-01T11:42:00Z"
"""18 minutes before."""


def told(kind: str, status: str = "True", reason: str = "AsExpected", message: str = "It is as it should be.") -> Json:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": EARLIER}


def deployment(name: str = "llama", *, spec: Json | None = None, **status: Any) -> Json:
    """Ready, unless `status` says otherwise."""
    usual: Json = {
        "observedGeneration": 1,
        "ready": "2/2",
        "queueDepth": 3,
        "inFlight": 14,
        "url": f"http://{name}.chat.svc/v1",
    }
    usual["conditions"] = [told("Ready", message="Requests are served."), told("SpecValid"), told("EngineReady")]
    metadata = {"name": name, "namespace": "chat", "uid": name, "generation": 1, "creationTimestamp": EARLIER}
    body = {"model": {"source": "hf://org/llama"}, "accelerator": "simulated", "replicas": 2, **(spec or {})}
    body = {name: value for name, value in body.items() if value is not None}
    return {"metadata": metadata, "spec": body, "status": {**usual, **status}}


def pod(
    name: str,
    *,
    role: str = contract.ROLE_ENGINE,
    ready: bool = True,
    node: str | None = "node-1",
    conditions: list[Json] | None = None,
    containers: list[Json] | None = None,
    **metadata: Any,
) -> Json:
    container = contract.CONTAINER_ROUTER if role == contract.ROLE_ROUTER else contract.CONTAINER_ENGINE
    running = {
        "name": container,
        "ready": ready,
        "restartCount": 0,
        "containerID": f"{name}-1",
        "state": {"running": {"startedAt": EARLIER}},
    }
    ready_conditions = [{"type": kind, "status": str(ready)} for kind in ("Ready", "ContainersReady")]
    return {
        "metadata": {
            "name": name,
            "namespace": "chat",
            "uid": name,
            "creationTimestamp": EARLIER,
            "labels": {contract.LABEL_DEPLOYMENT: "llama", contract.LABEL_ROLE: role},
            **metadata,
        },
        "spec": {"containers": [{"name": container}], **({"nodeName": node} if node else {})},
        "status": {
            "phase": "Running" if node else "Pending",
            "podIP": "10.0.0.1" if node else None,
            "conditions": conditions if conditions is not None else ready_conditions,
            "containerStatuses": containers if containers is not None else [running],
        },
    }
