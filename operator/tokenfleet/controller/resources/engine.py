"""The engines' Deployment, or two of them where prompts have pods of their own: vLLM pods that say goodbye properly.

The pod template depends on the LLMDeployment and the engine's image, and on nothing else of the operator, so that an upgrade
of the operator alone rolls no engine. Environment and caches are the image's own affair; the pod gives it /tmp and
/dev/shm to write to.
"""

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import security, spread
from tokenfleet.controller.resources.disaggregation import DECODE, Part, transfer_environment, transfer_ports
from tokenfleet.controller.resources.engine_command import engine_arguments, model_claim
from tokenfleet.controller.resources.metadata import child_metadata, labels, selector_labels
from tokenfleet.controller.resources.quantities import canonical_quantity
from tokenfleet.controller.resources.template import merge_pod_template
from tokenfleet.planning.accelerators import PRODUCT_LABEL, Accelerator, find_accelerator
from tokenfleet.settings import ControllerSettings

STARTUP_SECONDS = 3600
"""How long an engine may read its model and warm up until the kubelet starts it anew."""
_IMAGE_PULL_SECONDS = 1800
_STARTUP_PERIOD_SECONDS = 2
_MIN_READY_SECONDS = 2
"""A rollout goes on only when the routers have had this long to notice a new replica."""


def build_engine_deployment(
    deployment: Json, spec: LLMDeploymentSpec, settings: ControllerSettings, part: Part = DECODE
) -> Json:
    """Of one part of the engines. Raises InvalidSpec where the accelerator's class is unknown or podTemplate does not fit."""
    name = deployment["metadata"]["name"]
    user = spec.pod_template
    template = merge_pod_template(
        _pod_template(name, spec, settings, part),
        metadata={"labels": user.metadata.labels, "annotations": user.metadata.annotations},
        spec=user.spec,
    )
    rollout = {"maxSurge": spec.rollout.max_surge, "maxUnavailable": spec.rollout.max_unavailable}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(deployment, name=part.child(name), role=part.role),
        "spec": {
            "replicas": part.replicas(spec),
            "minReadySeconds": _MIN_READY_SECONDS,
            "progressDeadlineSeconds": STARTUP_SECONDS + _IMAGE_PULL_SECONDS,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector_labels(name, role=part.role)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rollout},
            "template": template,
        },
    }


def _pod_template(name: str, spec: LLMDeploymentSpec, settings: ControllerSettings, part: Part) -> Json:
    accelerator = find_accelerator(spec.accelerator)
    return {
        "metadata": {"labels": labels(name, role=part.role)},
        "spec": {
            **_placement(accelerator),
            "automountServiceAccountToken": False,
            "containers": [_container(name, spec, settings, accelerator, part)],
            "enableServiceLinks": False,
            "securityContext": security.pod_security(),
            "terminationGracePeriodSeconds": contract.termination_grace_seconds(drain_seconds=spec.drain.timeout_seconds),
            "topologySpreadConstraints": spread.over_nodes(selector_labels(name, role=part.role)),
            "volumes": [
                {"name": "model", "persistentVolumeClaim": {"claimName": model_claim(spec.model.source)}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(spec, accelerator)}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


def _container(name: str, spec: LLMDeploymentSpec, settings: ControllerSettings, accelerator: Accelerator, part: Part) -> Json:
    return {
        "name": contract.CONTAINER_ENGINE,
        "image": settings.engine_image if accelerator.resource else settings.engine_cpu_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tokenfleet-engine"],
        "args": engine_arguments(name, spec, accelerator, part),
        **transfer_environment(spec),
        "ports": [{"name": "http", "containerPort": contract.ENGINE_PORT, "protocol": "TCP"}, *transfer_ports(spec)],
        **_probes(),
        "lifecycle": {
            "preStop": {"exec": {"command": ["tokenfleet-engine", "drain", "--timeout", str(spec.drain.timeout_seconds)]}}
        },
        "resources": _resources(spec, accelerator),
        "securityContext": security.container_security(),
        "terminationMessagePath": contract.TERMINATION_LOG_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "model", "mountPath": contract.MODEL_MOUNT_PATH, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _probes() -> Json:
    """Ready soon after the model is loaded; restarted only when long dead, since a restart costs every stream and the load."""
    return {
        "startupProbe": {
            "httpGet": {"path": contract.PATH_ENGINE_READY, "port": "http"},
            "periodSeconds": _STARTUP_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": STARTUP_SECONDS // _STARTUP_PERIOD_SECONDS,
        },
        "readinessProbe": {
            "httpGet": {"path": contract.PATH_ENGINE_READY, "port": "http"},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": contract.PATH_ENGINE_LIVE, "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }


def _placement(accelerator: Accelerator) -> Json:
    """Where engines of a class may go: what tells its nodes apart, and the taint that GPU nodes carry."""
    placement: Json = {}
    if accelerator.products:
        products = {"key": PRODUCT_LABEL, "operator": "In", "values": list(accelerator.products)}
        term = {"matchExpressions": [products]}
        required = {"nodeSelectorTerms": [term]}
        placement["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    if accelerator.resource:
        placement["tolerations"] = [{"key": accelerator.resource, "operator": "Exists", "effect": "NoSchedule"}]
    return placement


def _resources(spec: LLMDeploymentSpec, accelerator: Accelerator) -> Json:
    """Requests that keep a pod from being the first to be evicted, no limits but the GPUs'; podTemplate sets others."""
    gpus = spec.parallelism.gpus
    if accelerator.resource is None:
        return {"requests": {"cpu": "250m", "memory": "3Gi"}}
    return {
        "requests": {"cpu": canonical_quantity(gpus), "memory": canonical_quantity(f"{4 * gpus}Gi")},
        "limits": {accelerator.resource: canonical_quantity(gpus)},
    }


def _shared_memory(spec: LLMDeploymentSpec, accelerator: Accelerator) -> str:
    """sizeLimit of /dev/shm: vLLM's processes want 160 MiB, and NCCL some for each GPU."""
    return "512Mi" if accelerator.resource is None else canonical_quantity(f"{1 + spec.parallelism.gpus}Gi")
