"""The router's Deployment: what stands between clients and engines, in the operator's own image.

A rollout never takes a router before its successor is ready, and a router that goes away has as long for its streams as an
engine has.
"""

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import security, spread
from tokenfleet.controller.resources.metadata import child_metadata, labels, router_name, selector_labels
from tokenfleet.settings import ControllerSettings


def build_router_deployment(deployment: Json, spec: LLMDeploymentSpec, settings: ControllerSettings) -> Json:
    name = deployment["metadata"]["name"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(deployment, name=router_name(name), role=contract.ROLE_ROUTER),
        "spec": {
            "replicas": spec.router.replicas,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector_labels(name, role=contract.ROLE_ROUTER)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels(name, role=contract.ROLE_ROUTER)},
                "spec": {
                    "automountServiceAccountToken": True,
                    "containers": [_container(name, spec, settings)],
                    "enableServiceLinks": False,
                    "securityContext": security.pod_security(),
                    "serviceAccountName": router_name(name),
                    "terminationGracePeriodSeconds": contract.router_grace_seconds(drain_seconds=spec.drain.timeout_seconds),
                    "topologySpreadConstraints": spread.over_nodes(name, role=contract.ROLE_ROUTER),
                },
            },
        },
    }


def _container(name: str, spec: LLMDeploymentSpec, settings: ControllerSettings) -> Json:
    return {
        "name": contract.CONTAINER_ROUTER,
        "image": settings.operator_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tokenfleet-router"],
        "env": [
            {
                "name": contract.ENV_NAMESPACE,
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            },
            {"name": contract.ENV_DEPLOYMENT, "value": name},
            {"name": contract.ENV_DRAIN_SECONDS, "value": str(spec.drain.timeout_seconds)},
        ],
        "ports": [
            {"name": "http", "containerPort": contract.ROUTER_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": contract.ROUTER_ADMIN_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "admin"},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "admin"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        # No CPU limit: throttling stalls every stream at once. The memory limit is far above what buffers take.
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": security.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
