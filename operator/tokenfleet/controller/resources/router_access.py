"""What a router may do at the Kubernetes API: read its own LLMDeployment and the pods of its namespace. No write, no Secret."""

from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata, router_name

_READ = ["get", "list", "watch"]


def build_router_service_account(deployment: Json) -> Json:
    """The router's identity; its pod asks for the token itself, so no other pod that borrows the account gets one unasked."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(deployment),
        "automountServiceAccountToken": False,
    }


def build_router_role(deployment: Json) -> Json:
    """`resourceNames` also bounds list and watch, where the request selects metadata.name; pods have no such bound."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _metadata(deployment),
        "rules": [
            {
                "apiGroups": [contract.GROUP],
                "resources": [contract.PLURAL],
                "resourceNames": [deployment["metadata"]["name"]],
                "verbs": _READ,
            },
            {"apiGroups": [""], "resources": ["pods"], "verbs": _READ},
        ],
    }


def build_router_role_binding(deployment: Json) -> Json:
    metadata = _metadata(deployment)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": metadata["name"], "namespace": metadata["namespace"]}],
    }


def _metadata(deployment: Json) -> Json:
    return child_metadata(deployment, name=router_name(deployment["metadata"]["name"]), role=contract.ROLE_ROUTER)
