"""Names, labels and owners: what makes an object a child of an LLMDeployment, and lets one find it again."""

from tokenfleet import contract
from tokenfleet.controller.observed import Json


def engine_name(name: str) -> str:
    """The name of the engine's children of the LLMDeployment `name`."""
    return f"{name}-{contract.ROLE_ENGINE}"


def router_name(name: str) -> str:
    """The name of the router's children, but for the Service that clients use, which is called like the LLMDeployment."""
    return f"{name}-{contract.ROLE_ROUTER}"


def selector_labels(name: str, *, role: str) -> dict[str, str]:
    """The labels that choose the pods of one role; a Deployment's selector cannot change, so neither can these."""
    return {contract.LABEL_DEPLOYMENT: name, contract.LABEL_ROLE: role}


def selector_text(name: str, *, role: str) -> str:
    """The same as one string, as `kubectl -l` and /scale take it."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(name, role=role).items())


def labels(name: str, *, role: str) -> dict[str, str]:
    """The labels of every child and pod."""
    return {contract.LABEL_MANAGED_BY: contract.MANAGED_BY, **selector_labels(name, role=role)}


def service_url(name: str, *, namespace: str) -> str:
    """Base URL of the OpenAI-compatible API, inside of the cluster."""
    return f"http://{name}.{namespace}.svc/v1"


def child_metadata(deployment: Json, *, name: str, role: str) -> Json:
    """metadata of the child `name`: in its owner's namespace, and deleted with it."""
    owner = deployment["metadata"]
    return {
        "name": name,
        "namespace": owner["namespace"],
        "labels": labels(owner["name"], role=role),
        "ownerReferences": [
            {
                "apiVersion": contract.API_VERSION,
                "kind": contract.KIND,
                "name": owner["name"],
                "uid": owner["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
