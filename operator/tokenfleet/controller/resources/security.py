"""Pod Security "restricted", plus a read-only root: the same for engines and routers.

No fsGroup here: the kubelet would change the owner of every file of the model's volume, which is the user's. A pod that has
Secrets to read, or a claim to fill that is nobody else's, adds one.
"""

from tokenfleet.controller.observed import Json

USER = 65532
"""The unprivileged user of both images."""


def pod_security() -> Json:
    """securityContext of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Json:
    """securityContext of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
