"""The engines' Deployment, or two of them where prompts have pods of their own: vLLM pods that say goodbye properly.

The pod template depends on the LLMDeployment and the engine's image, and on nothing else of the operator, so that an upgrade
of the operator alone rolls no engine but simulated ones, which run in its image. Environment and caches are the image's own
affair; the pod gives it /tmp and /dev/shm to write to.
"""

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import model_store, security, spread
from tokenfleet.controller.resources.disaggregation import DECODE, Part, transfer_environment, transfer_ports
from tokenfleet.controller.resources.engine_command import engine_arguments
from tokenfleet.controller.resources.engine_resources import engine_resources, shared_memory
from tokenfleet.controller.resources.metadata import child_metadata, labels, selector_labels
from tokenfleet.controller.resources.template import merge_pod_template
from tokenfleet.planning.accelerators import PRODUCT_LABEL, Accelerator, find_accelerator
from tokenfleet.planning.engine_flags import check_extra_args
from tokenfleet.settings import ControllerSettings

STARTUP_SECONDS = 3600
"""How long an engine may read its model and warm up until the kubelet starts it anew."""
_IMAGE_PULL_SECONDS = 1800
_FETCH_SECONDS = 7200
"""What the largest models may take to arrive."""
_STARTUP_PERIOD_SECONDS = 2


def build_engine_deployment(
    deployment: Json, spec: LLMDeploymentSpec, settings: ControllerSettings, part: Part = DECODE, *, replicas: int
) -> Json:
    """Of one part of the engines; `replicas` as its course has it.

    Raises InvalidSpec where the accelerator's class is unknown, podTemplate does not fit, or vLLM does not know a flag.
    """
    name = deployment["metadata"]["name"]
    user = spec.pod_template
    accelerator = find_accelerator(spec.accelerator)
    ours = _pod_template(deployment, spec, settings, accelerator, part)
    template = merge_pod_template(
        ours,
        metadata={"labels": user.metadata.labels, "annotations": user.metadata.annotations},
        spec=user.spec,
    )
    if not accelerator.simulated and _engine_image(template) == _engine_image(ours):
        transfers = spec.disaggregation is not None or spec.engine.kv_cache.cpu_offload is not None
        check_extra_args(spec.engine.extra_args, transfers=transfers)
    rollout = {"maxSurge": spec.rollout.max_surge, "maxUnavailable": spec.rollout.max_unavailable}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(deployment, name=part.child(name), role=part.role),
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": _deadline_seconds(fetches="initContainers" in ours["spec"]),
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector_labels(name, role=part.role)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rollout},
            "template": template,
        },
    }


def _deadline_seconds(*, fetches: bool) -> int:
    """How long a rollout may go without a new replica until Kubernetes calls it stuck."""
    return STARTUP_SECONDS + _IMAGE_PULL_SECONDS + (_FETCH_SECONDS if fetches else 0)


def _pod_template(
    deployment: Json, spec: LLMDeploymentSpec, settings: ControllerSettings, accelerator: Accelerator, part: Part
) -> Json:
    name = deployment["metadata"]["name"]
    fetches = _fetch_containers(spec, settings, accelerator)
    return {
        "metadata": {"labels": labels(name, role=part.role), **_annotations(deployment, spec)},
        "spec": {
            **_placement(accelerator),
            "automountServiceAccountToken": False,
            **({"initContainers": fetches} if fetches else {}),
            "containers": [_container(name, spec, settings, accelerator, part)],
            "enableServiceLinks": False,
            "readinessGates": [{"conditionType": contract.CONDITION_IN_USE}],
            "securityContext": {**security.pod_security(), **(_ownership(spec) if fetches else {})},
            "terminationGracePeriodSeconds": contract.termination_grace_seconds(drain_seconds=spec.drain.timeout_seconds),
            "topologySpreadConstraints": spread.over_nodes(selector_labels(name, role=part.role)),
            "volumes": _volumes(spec, accelerator),
        },
    }


def _annotations(deployment: Json, spec: LLMDeploymentSpec) -> Json:
    """What routers read there, and the restart that was asked for last: another one makes the pods others."""
    adapters = ",".join(adapter.name for adapter in spec.model.adapters)
    restarted = (deployment["metadata"].get("annotations") or {}).get(contract.ANNOTATION_RESTARTED)
    said = {contract.ANNOTATION_ADAPTERS: adapters, contract.ANNOTATION_RESTARTED: restarted}
    annotations = {key: value for key, value in said.items() if value}
    return {"annotations": annotations} if annotations else {}


def _fetch_containers(spec: LLMDeploymentSpec, settings: ControllerSettings, accelerator: Accelerator) -> list[Json]:
    if accelerator.simulated:
        return []
    return model_store.fetch_containers(spec, image=_image(settings, accelerator), pull_policy=settings.image_pull_policy)


def _ownership(spec: LLMDeploymentSpec) -> Json:
    """Only of a claim that is ours to fill. Its root tells the kubelet whether it has done so before."""
    if not model_store.owns_all_claims(spec):
        return {}
    return {"fsGroup": security.USER, "fsGroupChangePolicy": "OnRootMismatch"}


def _volumes(spec: LLMDeploymentSpec, accelerator: Accelerator) -> list[Json]:
    tmp: Json = {"name": "tmp", "emptyDir": {}}
    if accelerator.simulated:
        return [tmp]
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory(spec, accelerator)}}
    return [*model_store.volumes(spec), shm, tmp]


def _container(name: str, spec: LLMDeploymentSpec, settings: ControllerSettings, accelerator: Accelerator, part: Part) -> Json:
    environment = [
        *({"name": key, "value": value} for key, value in sorted(spec.engine.env.items())),
        *transfer_environment(spec),
    ]
    return {
        "name": contract.CONTAINER_ENGINE,
        "image": _image(settings, accelerator),
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tokenfleet-engine"],
        "args": engine_arguments(name, spec, accelerator, part),
        **({"env": environment} if environment else {}),
        "ports": [{"name": "http", "containerPort": contract.ENGINE_PORT, "protocol": "TCP"}, *transfer_ports(spec)],
        **_probes(),
        "lifecycle": {
            "preStop": {"exec": {"command": ["tokenfleet-engine", "drain", "--timeout", str(spec.drain.timeout_seconds)]}}
        },
        "resources": engine_resources(spec, accelerator),
        "securityContext": security.container_security(),
        "terminationMessagePath": contract.TERMINATION_LOG_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(spec, accelerator),
    }


def _mounts(spec: LLMDeploymentSpec, accelerator: Accelerator) -> list[Json]:
    tmp = {"name": "tmp", "mountPath": "/tmp"}
    return [tmp] if accelerator.simulated else [*model_store.mounts(spec), {"name": "shm", "mountPath": "/dev/shm"}, tmp]


def _image(settings: ControllerSettings, accelerator: Accelerator) -> str:
    if accelerator.simulated:
        return settings.engine_simulated_image
    return settings.engine_image if accelerator.resource else settings.engine_cpu_image


def _engine_image(template: Json) -> str | None:
    """The image that podTemplate left in place, or put there; None: it took that away."""
    containers = template["spec"]["containers"]
    found = next(container for container in containers if container["name"] == contract.CONTAINER_ENGINE)
    image: str | None = found.get("image")
    return image


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
    wanted = {PRODUCT_LABEL: list(accelerator.products)} if accelerator.products else {}
    wanted |= {label: [value] for label, value in sorted(accelerator.node_labels.items())}
    if wanted:
        expressions = [{"key": label, "operator": "In", "values": values} for label, values in wanted.items()]
        required = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
        placement["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    if accelerator.resource:
        placement["tolerations"] = [{"key": accelerator.resource, "operator": "Exists", "effect": "NoSchedule"}]
    return placement
