"""All that is known of one LLMDeployment, for one page: pure, from its object, its pods and what its routers tell."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from tokenfleet import contract
from tokenfleet.cli.status.rows import row_of
from tokenfleet.cli.status.words import Json, since

_CAMEL = {"in_flight": "inFlight"}
_NO_LOADS: Mapping[str, int] = {}
_USUAL = ("", "PodInitializing", "ContainerCreating")
_PHASES = {"Running": "starting", "Pending": "pending"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One pod."""

    pod: str
    role: str
    node: str | None
    state: str
    """ready, draining, leaving, the reason why its container waits, or its phase."""
    in_flight: int | None
    """By the routers' own word; None: they were not asked, or do not say."""
    restarts: int
    deadline: str | None
    """Of its drain."""
    created: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    owner: Json
    replicas: tuple[Replica, ...]

    def as_json(self) -> dict[str, Any]:
        status = {key: value for key, value in (self.owner.get("status") or {}).items() if key != "model"}
        model = {key: value for key, value in ((self.owner.get("status") or {}).get("model") or {}).items() if key != "facts"}
        pods = [
            {_CAMEL.get(key, key): value for key, value in asdict(one).items() if value is not None} for one in self.replicas
        ]
        return {**row_of(self.owner).as_json(), "pods": pods, "status": {**status, **({"model": model} if model else {})}}


def page_of(owner: Json, pods: Iterable[Json], loads: Mapping[str, int] | None = None) -> Page:
    """loads: requests in flight by pod, of all routers together; None: not known."""
    replicas = [_replica(pod, loads) for pod in pods]
    return Page(owner=owner, replicas=tuple(sorted(replicas, key=lambda one: (one.role, one.pod))))


def loads_of(reports: Iterable[Json], deployment: str) -> dict[str, int]:
    """By pod, from /debug/replicas.json of each router."""
    loads: dict[str, int] = {}
    for report in reports:
        for model in report.get("models") or ():
            for replica in model.get("replicas") or ():
                if replica.get("deployment") == deployment:
                    loads[replica["name"]] = loads.get(replica["name"], 0) + int(replica.get("inFlight") or 0)
    return loads


def _replica(pod: Json, loads: Mapping[str, int] | None) -> Replica:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    annotations, role = metadata.get("annotations") or {}, _role(metadata)
    known = loads is not None and role != contract.ROLE_ROUTER
    return Replica(
        pod=metadata["name"],
        role=role,
        node=spec.get("nodeName"),
        state=_state(pod),
        in_flight=(loads or _NO_LOADS).get(metadata["name"], 0) if known else None,
        restarts=sum(int(one.get("restartCount") or 0) for one in _containers(pod)),
        deadline=annotations.get(contract.ANNOTATION_DRAINING),
        created=metadata.get("creationTimestamp"),
    )


def _role(metadata: Json) -> str:
    labels = metadata.get("labels") or {}
    return "canary" if labels.get(contract.LABEL_TRACK) else str(labels.get(contract.LABEL_ROLE, ""))


def _state(pod: Json) -> str:
    metadata, status = pod["metadata"], pod.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "leaving"
    if contract.ANNOTATION_DRAINING in (metadata.get("annotations") or {}):
        return "draining"
    for container in _containers(pod):
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
        if reason not in _USUAL:
            return str(reason)
    if any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ()):
        return "ready"
    return _PHASES.get(status.get("phase", ""), str(status.get("phase", "unknown")).lower())


def _containers(pod: Json) -> list[Json]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def facts(page: Page, now: datetime) -> list[tuple[str, str]]:
    """Name and value of each line above the tables."""
    spec, status, row = page.owner.get("spec") or {}, page.owner.get("status") or {}, row_of(page.owner)
    lines = [
        ("LLMDeployment", f"{row.namespace}/{row.name}, {since(row.created, now)} old"),
        ("Ready", f"{row.ready} ({row.reason}). {row.message}"),
        ("Model", _model(spec, status.get("model") or {})),
        ("Replicas", _replicas(row.ready_replicas, row.replicas, status.get("scaling"))),
        ("Load", _load(row.queue_depth, row.in_flight)),
        ("URL", str(status.get("url") or "-")),
        *_memory(status.get("memory") or {}),
        *_cost(status.get("cost") or {}),
        *_rollout(status.get("rollout") or {}),
        *_download(status.get("download") or {}),
        *_failure(status.get("lastFailure") or {}, now),
    ]
    return [(name, value) for name, value in lines if value]


def _model(spec: Json, model: Json) -> str:
    source, revision = (spec.get("model") or {}).get("source", ""), (spec.get("model") or {}).get("revision")
    told = [f"{model['parameters']} parameters, weights of {model['weights']}"] if model else []
    return ", ".join([f"{source}{'@' + revision if revision else ''} on {spec.get('accelerator', '')}", *told])


def _replicas(ready: int | None, wanted: int | None, scaling: Json | None) -> str:
    if wanted is None:
        return ""
    by = f"; {scaling['actuator']} autoscaling wants {scaling['desired']}" if scaling else ""
    return f"{ready} of {wanted} ready{by}"


def _load(queue: int | None, in_flight: int | None) -> str:
    return "" if queue is None and in_flight is None else f"{in_flight or 0} requests in flight, {queue or 0} waiting"


def _memory(memory: Json) -> list[tuple[str, str]]:
    if not memory:
        return []
    sequences = f"{memory['maxConcurrency']:,} of the longest sequences"
    cache = f"{memory['kvCache']} of KV cache ({memory['kvTokens']:,} tokens, {sequences})"
    return [("Memory", f"of a replica: {memory['weights']} of weights, {cache}")]


def _cost(cost: Json) -> list[tuple[str, str]]:
    if not cost:
        return []
    told = [f"{cost['hourly']} {cost['currency']} an hour"]
    if "perMillionTokens" in cost:
        told.append(f"{cost['perMillionTokens']} a million tokens")
    if "idleShare" in cost:
        told.append(f"{float(cost['idleShare']):.0%} of it idle")
    return [("Cost", ", ".join(told))]


def _rollout(rollout: Json) -> list[tuple[str, str]]:
    return [("Rollout", f"{rollout['phase']}, revision {rollout['revision']}. {rollout['message']}")] if rollout else []


def _download(download: Json) -> list[tuple[str, str]]:
    if not download:
        return []
    share = download["bytes"] / download["totalBytes"] if download["totalBytes"] else 1.0
    left = f", {download['secondsLeft']} s left" if "secondsLeft" in download else ""
    return [("Download", f"{share:.0%} of {download['totalBytes'] / 2**30:.1f} GiB on {download['pod']}{left}")]


def _failure(failure: Json, now: datetime) -> list[tuple[str, str]]:
    if not failure:
        return []
    when = f"{since(failure['time'], now)} ago, " if failure.get("time") else ""
    return [("Last failure", f"{when}{failure['pod']}: {failure['reason']}. {failure['message']}")]
