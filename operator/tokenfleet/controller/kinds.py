"""The kinds of object that the controller reads or writes, and where the API server keeps them.

One table instead of discovery: what we depend on is known, old enough to be everywhere, and the permissions in the chart
name the same resources. A child of a kind that is not in CHILDREN would never be watched, so `of` refuses it.
"""

from dataclasses import dataclass
from typing import Final

from tokenfleet import contract


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; all that we write are namespaced."""

    name: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, *, subresource: str | None = None) -> str:
        """Path below the API server's root; without a namespace, of all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace is not None else ""
        rest = "".join(f"/{part}" for part in (name, subresource) if part is not None)
        return f"{root}{scope}/{self.plural}{rest}"


LLM_DEPLOYMENT: Final = Kind(contract.KIND, contract.GROUP, contract.VERSION, contract.PLURAL)
LLM_ROUTER: Final = Kind(contract.ROUTER_KIND, contract.GROUP, contract.VERSION, contract.ROUTER_PLURAL)
OWNERS: Final = (LLM_DEPLOYMENT, LLM_ROUTER)
"""The kinds that users write, and that own all others."""
POD: Final = Kind("Pod", "", "v1", "pods")
LEASE: Final = Kind("Lease", "coordination.k8s.io", "v1", "leases")
NODE: Final = Kind("Node", "", "v1", "nodes")
"""Of no namespace: watched where the controller may, and not stored."""
EVENT: Final = Kind("Event", "", "v1", "events")
SCALED_OBJECT: Final = Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects")
"""KEDA's, and so not in every cluster: neither watched nor stored."""

CHILDREN: Final = (
    Kind("Deployment", "apps", "v1", "deployments"),
    Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"),
    Kind("Job", "batch", "v1", "jobs"),
    Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    Kind("Role", "rbac.authorization.k8s.io", "v1", "roles"),
    Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings"),
    Kind("Service", "", "v1", "services"),
    Kind("ServiceAccount", "", "v1", "serviceaccounts"),
)
"""Every kind that a child can have."""

STORED: Final = (*OWNERS, *CHILDREN, POD)
"""What the store mirrors: all but the owners are chosen by contract.LABEL_ROLE."""

_BY_NAME: Final = {kind.name: kind for kind in STORED}


def of(name: str) -> Kind:
    """The kind called `name`; KeyError for one that the controller does not watch."""
    return _BY_NAME[name]
