"""An LLMDeployment that a story applied, and what stories ask of it."""

from dataclasses import dataclass

from e2e.kubectl import Json, Kubectl, condition, wait_for

CHILD_KINDS = (
    "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,replicasets,jobs,pods"
)


@dataclass(frozen=True, slots=True)
class Deployed:
    """By name, in kubectl's namespace."""

    kubectl: Kubectl
    name: str

    @property
    def selector(self) -> str:
        """Of all its children and pods."""
        return f"tokenfleet.dev/deployment={self.name}"

    def engines(self) -> list[Json]:
        """Its engine pods, those going away included."""
        return self.kubectl.items("pods", f"{self.selector},tokenfleet.dev/role=engine")

    def children(self) -> list[str]:
        """kind/name of everything that stands for it."""
        return [f"{body['kind']}/{body['metadata']['name']}" for body in self.kubectl.items(CHILD_KINDS, self.selector)]

    def wait_ready(self, replicas: int, *, timeout: float = 600) -> None:
        """Until the status of the newest generation says that this many replicas are ready and nothing is under way."""

        def ready() -> bool:
            body = self.kubectl.get("llmd", self.name) or {"metadata": {"generation": -1}}
            status, state = body.get("status") or {}, condition(body)
            return (
                status.get("observedGeneration") == body["metadata"]["generation"]
                and status.get("readyReplicas") == status.get("replicas") == replicas
                and (state.get("status"), state.get("reason")) == ("True", "AsExpected")
            )

        wait_for(f"{self.name} to have {replicas} ready replicas", ready, timeout=timeout)

    def wait_reason(self, kind: str, reason: str, *, timeout: float = 180) -> Json:
        """Until the condition `kind` has this reason; returns the condition."""

        def reached() -> Json | None:
            state = condition(self.kubectl.get("llmd", self.name), kind)
            return state if state.get("reason") == reason else None

        return wait_for(f"{self.name}: {kind} to be {reason}", reached, timeout=timeout)

    def wait_gone(self, *, timeout: float = 90) -> None:
        """Until nothing is left of it and its children."""
        wait_for(f"the children of {self.name} to go", lambda: not self.children(), timeout=timeout)

    def delete(self) -> None:
        """Delete it, and wait until nothing is left."""
        self.kubectl.delete("llmd", self.name)
        self.wait_gone()
