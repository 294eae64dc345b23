"""Names, labels and owners: what makes an object a child of an LLMDeployment or LLMRouter, and lets one find it again."""

from tokenfleet import contract
from tokenfleet.controller.observed import Json


def engine_name(name: str) -> str:
    """The name of the engine's children of the LLMDeployment `name`."""
    return f"{name}-{contract.ROLE_ENGINE}"


def prefill_name(name: str) -> str:
    """The name of the children of the LLMDeployment `name` that only read prompts."""
    return f"{name}-{contract.ROLE_PREFILL}"


def canary_name(name: str) -> str:
    """The name of the Deployment of the pod that tries a change of the LLMDeployment `name`."""
    return f"{name}-{contract.TRACK_CANARY}"


def inspection_name(name: str, digest: str) -> str:
    """The name of the Job that reads what the model of the LLMDeployment `name` is."""
    return f"{name}-inspect-{digest}"


def router_name(name: str) -> str:
    """The name of the router's children, but for the Service that clients use, which is called like the owner itself."""
    return f"{name}-{contract.ROLE_ROUTER}"


def selector_labels(name: str, *, role: str, kind: str = contract.KIND) -> dict[str, str]:
    """The labels that choose the pods of one role; a Deployment's selector cannot change, so neither can these."""
    return {contract.OWNER_LABELS[kind]: name, contract.LABEL_ROLE: role}


def selector_text(name: str, *, role: str, kind: str = contract.KIND) -> str:
    """The same as one string, as `kubectl -l` and /scale take it."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(name, role=role, kind=kind).items())


def labels(name: str, *, role: str, kind: str = contract.KIND) -> dict[str, str]:
    """The labels of every child and pod."""
    return {contract.LABEL_MANAGED_BY: contract.MANAGED_BY, **selector_labels(name, role=role, kind=kind)}


def service_url(name: str, *, namespace: str, tls: bool) -> str:
    """Base URL of the OpenAI-compatible API, inside of the cluster."""
    return f"{'https' if tls else 'http'}://{name}.{namespace}.svc/v1"


def child_metadata(owner: Json, *, name: str, role: str) -> Json:
    """metadata of the child `name`: in its owner's namespace, and deleted with it."""
    metadata = owner["metadata"]
    return {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": labels(metadata["name"], role=role, kind=owner["kind"]),
        "ownerReferences": [
            {
                "apiVersion": contract.API_VERSION,
                "kind": owner["kind"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
