"""How far the change of an LLMDeployment's engines is, told from the objects in the cluster. Pure.

A canary's steps are read from status.rollout, which the controller writes; how many pods are of the new kind, from Kubernetes'
Deployments. Both may be a moment old, so nothing counts as done before the controller has seen the newest spec.
"""

from dataclasses import asdict, dataclass
from datetime import datetime

from tokenfleet import contract
from tokenfleet.cli.cluster.deployments import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """Of one Kubernetes Deployment."""

    deployment: str
    wanted: int
    new: int
    """Of its newest template."""
    old: int
    ready: int
    seen: bool
    """Whether Kubernetes has looked at the newest template."""

    @classmethod
    def of(cls, body: Json) -> "Pods":
        status = body.get("status") or {}
        seen = (status.get("observedGeneration") or 0) >= (body["metadata"].get("generation") or 0)
        there, updated = status.get("replicas") or 0, (status.get("updatedReplicas") or 0) if seen else 0
        return cls(
            deployment=body["metadata"]["name"],
            wanted=(body.get("spec") or {}).get("replicas", 1),
            new=updated,
            old=there - updated,
            ready=status.get("readyReplicas") or 0,
            seen=seen,
        )

    @property
    def done(self) -> bool:
        return self.seen and self.wanted == self.new == self.ready and not self.old


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Of one LLMDeployment."""

    name: str
    namespace: str
    phase: str
    """Waiting (for the controller), Progressing, Promoting, RolledBack, Updating or Complete."""
    message: str
    pods: tuple[Pods, ...]
    draining: int
    """Pods that end what they have."""
    revision: str | None = None
    step: int | None = None
    weights: tuple[int, ...] = ()
    weight: int | None = None
    began: datetime | None = None
    requests: int | None = None
    failed: int | None = None
    ttft_milliseconds: int | None = None

    @property
    def over(self) -> bool:
        return self.phase in ("Complete", "RolledBack")

    @property
    def error_rate(self) -> float | None:
        return None if not self.requests else (self.failed or 0) / self.requests

    def as_json(self, now: datetime) -> Json:
        body = asdict(self)
        body["pods"] = [{key: value for key, value in asdict(one).items() if key != "seen"} for one in self.pods]
        body["began"] = self.began.isoformat() if self.began is not None else None
        body["elapsed_seconds"] = round((now - self.began).total_seconds()) if self.began is not None else None
        body["error_rate"] = self.error_rate
        return {_camel(key): value for key, value in body.items() if value is not None}


def progress_of(owner: Json, engines: list[Json]) -> Progress:
    """owner: the LLMDeployment; engines: the Kubernetes Deployments of its engines."""
    metadata, status = owner["metadata"], owner.get("status") or {}
    rollout = status.get("rollout") or {}
    pods = tuple(Pods.of(body) for body in engines)
    phase, message = _phase(owner, rollout, pods)
    figures = rollout.get("figures") or {}
    canary = ((owner.get("spec") or {}).get("rollout") or {}).get("canary") or {}
    return Progress(
        name=metadata["name"],
        namespace=metadata["namespace"],
        phase=phase,
        message=message,
        pods=pods,
        draining=len(status.get("draining") or ()),
        revision=rollout.get("revision"),
        step=rollout.get("step"),
        weights=tuple(canary.get("weights") or ()) if rollout else (),
        weight=rollout.get("weight"),
        began=datetime.fromisoformat(rollout["began"]) if "began" in rollout else None,
        requests=figures.get("requests"),
        failed=figures.get("failed"),
        ttft_milliseconds=figures.get("ttftMilliseconds"),
    )


def restarted(owner: Json, engines: list[Json]) -> bool:
    """Whether the controller has handed the last restart that was asked for on to all engines."""
    asked = (owner["metadata"].get("annotations") or {}).get(contract.ANNOTATION_RESTARTED)
    return all(_template_annotations(body).get(contract.ANNOTATION_RESTARTED) == asked for body in engines)


def _phase(owner: Json, rollout: Json, pods: tuple[Pods, ...]) -> tuple[str, str]:
    metadata, status = owner["metadata"], owner.get("status") or {}
    if (status.get("observedGeneration") or 0) < metadata["generation"] or not pods:
        return "Waiting", "The controller has not looked at the newest spec yet."
    if rollout:
        return rollout["phase"], rollout["message"]
    if all(one.done for one in pods):
        return "Complete", "All engines are of the newest spec."
    ready: Json = next((one for one in status.get("conditions") or () if one["type"] == "EngineReady"), {})
    return "Updating", ready.get("message") or "The engines are replaced."


def _template_annotations(body: Json) -> Json:
    return ((body["spec"].get("template") or {}).get("metadata") or {}).get("annotations") or {}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


__all__ = ["Pods", "Progress", "progress_of", "restarted"]
