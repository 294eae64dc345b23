"""The router's Deployment: what stands between clients and engines, in the operator's own image.

The same for a router of one LLMDeployment and for a shared one; only whose it is differs. A rollout never takes a router
before its successor is ready, and a router that goes away has as long for its streams as an engine has. What the router reads
live from the API is not in here, so that changing it restarts nothing.
"""

from tokenfleet import contract
from tokenfleet.api.router import Router
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import router_secrets, security, spread
from tokenfleet.controller.resources.metadata import child_metadata, labels, router_name, selector_labels
from tokenfleet.controller.resources.router_secrets import secrets_of
from tokenfleet.settings import ControllerSettings

_OWNER_VARIABLES = {contract.KIND: contract.ENV_DEPLOYMENT, contract.ROUTER_KIND: contract.ENV_ROUTER}


def build_router_deployment(owner: Json, router: Router, settings: ControllerSettings, *, drain_seconds: int) -> Json:
    name, kind = owner["metadata"]["name"], owner["kind"]
    selector = selector_labels(name, role=contract.ROLE_ROUTER, kind=kind)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(owner, name=router_name(name), role=contract.ROLE_ROUTER),
        "spec": {
            "replicas": router.replicas,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels(name, role=contract.ROLE_ROUTER, kind=kind)},
                "spec": {
                    "automountServiceAccountToken": True,
                    "containers": [_container(owner, router, settings, drain_seconds)],
                    "enableServiceLinks": False,
                    **_secrets(router),
                    "serviceAccountName": router_name(name),
                    "terminationGracePeriodSeconds": contract.router_grace_seconds(drain_seconds=drain_seconds),
                    "topologySpreadConstraints": spread.over_nodes(selector),
                },
            },
        },
    }


def _secrets(router: Router) -> Json:
    """Volumes, and the group that may read them."""
    volumes = [router_secrets.volume(secret) for secret in secrets_of(router)]
    if not volumes:
        return {"securityContext": security.pod_security()}
    return {"securityContext": {**security.pod_security(), "fsGroup": security.USER}, "volumes": volumes}


def _container(owner: Json, router: Router, settings: ControllerSettings, drain_seconds: int) -> Json:
    container: Json = {
        "name": contract.CONTAINER_ROUTER,
        "image": settings.operator_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tokenfleet-router"],
        "env": [
            {
                "name": contract.ENV_NAMESPACE,
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            },
            {"name": _OWNER_VARIABLES[owner["kind"]], "value": owner["metadata"]["name"]},
            {"name": contract.ENV_DRAIN_SECONDS, "value": str(drain_seconds)},
            *({"name": secret.variable, "value": secret.value} for secret in secrets_of(router)),
            *_tracing(router),
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
    mounts = [router_secrets.mount(secret) for secret in secrets_of(router)]
    return {**container, "volumeMounts": mounts} if mounts else container


def _tracing(router: Router) -> list[Json]:
    """OpenTelemetry's own variables."""
    if router.tracing is None:
        return []
    return [
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": router.tracing.endpoint},
        {"name": "OTEL_TRACES_SAMPLER", "value": "parentbased_traceidratio"},
        {"name": "OTEL_TRACES_SAMPLER_ARG", "value": router.tracing.sample_ratio},
    ]
