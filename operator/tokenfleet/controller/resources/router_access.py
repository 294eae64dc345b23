"""What a router may do at the Kubernetes API, all of it in its own namespace: no write, no Secret.

It reads pods and its own LLMDeployment; a shared one its own LLMRouter and all LLMDeployments, since those name it.
"""

from tokenfleet import contract
from tokenfleet.controller import kinds
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata, router_name

_READ = ["get", "list", "watch"]
_MORE: dict[str, list[Json]] = {
    contract.KIND: [],
    contract.ROUTER_KIND: [{"apiGroups": [contract.GROUP], "resources": [contract.PLURAL], "verbs": _READ}],
}


def build_router_service_account(owner: Json) -> Json:
    """The router's identity; its pod asks for the token itself, so no other pod that borrows the account gets one unasked."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(owner),
        "automountServiceAccountToken": False,
    }


def build_router_role(owner: Json) -> Json:
    """`resourceNames` also bounds list and watch, where the request selects metadata.name; pods have no such bound."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _metadata(owner),
        "rules": [
            {
                "apiGroups": [contract.GROUP],
                "resources": [kinds.of(owner["kind"]).plural],
                "resourceNames": [owner["metadata"]["name"]],
                "verbs": _READ,
            },
            *_MORE[owner["kind"]],
            {"apiGroups": [""], "resources": ["pods"], "verbs": _READ},
        ],
    }


def build_router_role_binding(owner: Json) -> Json:
    metadata = _metadata(owner)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": metadata["name"], "namespace": metadata["namespace"]}],
    }


def _metadata(owner: Json) -> Json:
    return child_metadata(owner, name=router_name(owner["metadata"]["name"]), role=contract.ROLE_ROUTER)
