"""The inspection's Job: a small pod that reads a model's config.json and the headers of its weights, and says what they are.

It runs in the operator's image, with what the download of the model gets: the credentials, the claims (read-only), and of
podTemplate what lets a pod reach them. A Job's pods cannot change, so all that they depend on is in the Job's name: where it
changes, another Job takes this one's place.
"""

from typing import Final

from tokenfleet import contract
from tokenfleet.api.model import is_fetched
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.drift import digest
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import model_store, security
from tokenfleet.controller.resources.metadata import child_metadata, inspection_name, labels
from tokenfleet.controller.resources.template import merge_pod_template
from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.settings import ControllerSettings

JOB: Final = "Job"
DEADLINE_SECONDS: Final = 600
"""Of all tries together, the wait for a node included."""
_TRIES_AGAIN: Final = 2
_TERMINATION_SECONDS: Final = 5
_REACH: Final = frozenset(
    {"dnsConfig", "dnsPolicy", "hostAliases", "imagePullSecrets", "securityContext", "serviceAccountName", "tolerations"}
)
"""Of podTemplate.spec: what a pod needs to run, and to reach the files, whatever it does with them."""
_TMP: Final = {"name": "tmp", "mountPath": "/tmp"}


def build_inspection(
    deployment: Json, spec: LLMDeploymentSpec, settings: ControllerSettings, accelerator: Accelerator, *, of: str
) -> Json:
    """of: what of the spec is inspected, as status.model.of. Raises InvalidSpec where podTemplate does not fit."""
    name = deployment["metadata"]["name"]
    user = {key: value for key, value in spec.pod_template.spec.items() if key in _REACH}
    template = merge_pod_template(_template(name, spec, settings, accelerator, of=of), metadata={}, spec=user)
    child = inspection_name(name, digest(template)[:8])
    return {
        "apiVersion": "batch/v1",
        "kind": JOB,
        "metadata": child_metadata(deployment, name=child, role=contract.ROLE_INSPECTION),
        "spec": {"activeDeadlineSeconds": DEADLINE_SECONDS, "backoffLimit": _TRIES_AGAIN, "template": template},
    }


def _template(name: str, spec: LLMDeploymentSpec, settings: ControllerSettings, accelerator: Accelerator, *, of: str) -> Json:
    mounts = _mounts(spec)
    names = {mount["name"] for mount in mounts}
    tolerations = [{"key": accelerator.resource, "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "metadata": {
            "labels": labels(name, role=contract.ROLE_INSPECTION),
            "annotations": {contract.ANNOTATION_INSPECTS: of},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [_container(spec, settings, mounts)],
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "securityContext": security.pod_security(),
            "terminationGracePeriodSeconds": _TERMINATION_SECONDS,
            **({"tolerations": tolerations} if accelerator.resource is not None else {}),
            "volumes": [
                *(volume for volume in model_store.volumes(spec) if volume["name"] in names),
                {"name": _TMP["name"], "emptyDir": {}},
            ],
        },
    }


def _container(spec: LLMDeploymentSpec, settings: ControllerSettings, mounts: list[Json]) -> Json:
    credentials = spec.model.credentials
    environment = [{"secretRef": {"name": credentials.secret_name}}] if credentials is not None else []
    return {
        "name": contract.CONTAINER_INSPECTION,
        "image": settings.operator_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tokenfleet-engine"],
        "args": ["inspect", *_words(spec)],
        **({"envFrom": environment} if environment else {}),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": security.container_security(),
        "terminationMessagePath": contract.TERMINATION_LOG_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*mounts, _TMP],
    }


def _words(spec: LLMDeploymentSpec) -> list[str]:
    """What is inspected, and the draft's: where it stands, or where it is fetched from."""
    model = _word(spec.model.source, spec.model.revision, model_store.model_path(spec))
    speculative, path = spec.engine.speculative, model_store.draft_path(spec)
    if speculative is None or speculative.draft_model is None or path is None:
        return [model]
    return [model, "--draft", _word(speculative.draft_model, speculative.draft_revision, path)]


def _word(source: str, revision: str | None, path: str) -> str:
    if not is_fetched(source):
        return path
    return source if revision is None else f"{source}@{revision}"


def _mounts(spec: LLMDeploymentSpec) -> list[Json]:
    """Of the claims that hold these files: no cache is there yet, and no adapter is looked at."""
    words = [f"{word}/" for word in _words(spec)]
    return [mount for mount in model_store.mounts(spec) if any(word.startswith(f"{mount['mountPath']}/") for word in words)]
