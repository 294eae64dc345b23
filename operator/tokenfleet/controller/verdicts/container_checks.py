"""What the kubelet says of pods that are not ready: an image, a container, an end, a probe, or only time that it takes.

Each is a check as checks.py orders them. The newest pod comes first, since it tells of the newest spec.
"""

import re
from collections.abc import Iterator

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.controller import pods
from tokenfleet.controller.observed import Json
from tokenfleet.controller.verdicts import failures, spec_names
from tokenfleet.controller.verdicts.scene import ROUTER, Scene, Trouble
from tokenfleet.controller.wording import sentence

IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ImageInspectError",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
CONFIG_REASONS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "InvalidEnvironmentVariableNames",
        "PostStartHookError",
        "PreCreateHookError",
        "PreStartHookError",
        "RunContainerError",
    }
)
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?')
_PULL_ERROR = re.compile(r"^ErrImagePull: ")


def image_not_pulled(scene: Scene) -> Trouble | None:
    for pod, status, waiting in _waiting_containers(scene):
        if waiting.get("reason") in IMAGE_REASONS:
            words = _PULL_ERROR.sub("", _BACK_OFF.sub("", waiting.get("message") or "")) or waiting["reason"]
            step = (
                "Correct its name, make it reachable from the nodes, or name a pull secret "
                f"(spec.podTemplate.spec.imagePullSecrets); {_describe(scene, pod)} shows each try."
            )
            return (
                conditions.IMAGE_PULL_FAILED,
                f"The node cannot pull {status.get('image') or 'the image'}: {sentence(words)} {step}",
            )
    return None


def container_not_made(scene: Scene) -> Trouble | None:
    for pod, status, waiting in _waiting_containers(scene):
        if waiting.get("reason") in CONFIG_REASONS:
            words = waiting.get("message") or waiting["reason"]
            step = _missing_credentials(scene, words) or "Mostly a Secret or ConfigMap that spec.podTemplate names is missing;"
            return conditions.CONTAINER_CONFIG_INVALID, (
                f"Container {status['name']} cannot be made: {sentence(words)} {step} {_describe(scene, pod)} shows more."
            )
    return None


def _missing_credentials(scene: Scene, words: str) -> str | None:
    """What to do where the Secret that is missing is the one that the model is fetched with."""
    secret = spec_names.credentials(scene.observed.owner)
    if secret is None or f'secret "{secret}" not found' not in words.lower():
        return None
    return (
        f"{spec_names.CREDENTIALS} names it: create that Secret in this namespace, with the store's variables (such as "
        "HF_TOKEN) as its keys, or correct the name; the pod then goes on by itself."
    )


def ended(scene: Scene) -> Trouble | None:
    """A container ended, and nothing since has shown that it will not do so again."""
    for pod in scene.waiting:
        for status in pods.containers(pod):
            end = failures.end_of(status)
            recovered = status.get("ready") or pods.was_ready_since_start(pod, status) or _goes_on(scene, pod, status)
            if end is None or recovered or failures.is_done(pod, status, end):
                continue
            failure = failures.explain(pod, status, end)
            reason = failure.reason
            if reason == conditions.ENGINE_CRASHED:
                again = (status.get("restartCount") or 0) > 1
                reason = scene.role.crash_looping if again else scene.role.crashed
            log = scene.kubectl(f"logs {pod['metadata']['name']} -c {status['name']} --previous")
            return reason, f"{sentence(failure.message)} {log} shows its log."
    return None


def _goes_on(scene: Scene, pod: Json, status: Json) -> bool:
    """Whether it is a download that broke off, runs again, and tells how far it is."""
    download = scene.observed.download
    told = download is not None and download.pod == pod["metadata"]["name"]
    return told and status["name"] == contract.CONTAINER_FETCH and pods.is_running(status)


def unhealthy(scene: Scene) -> Trouble | None:
    """It was ready since its container last started, and is not any more."""
    for pod in scene.waiting:
        status = pods.container(pod, scene.role.container) or {}
        ready = pods.condition(pod, "Ready") or {}
        if status.get("ready"):
            words = ready.get("message") or "its node may be away"
            return scene.role.unhealthy, (
                f"Pod {pod['metadata']['name']} is not ready although its {scene.role.noun} is: {sentence(words)} "
                f"{_describe(scene, pod)} shows more."
            )
        if pods.was_ready_since_start(pod, status):
            return scene.role.unhealthy, (
                f"The {scene.role.noun} of pod {pod['metadata']['name']} served before and now fails its probe. "
                f"{_secrets(scene)}"
                f"{scene.kubectl('logs ' + pod['metadata']['name'])} shows what it does; it is restarted where it stays so."
            )
    return None


def starting(scene: Scene) -> Trouble | None:
    for pod in scene.waiting:
        status = pods.container(pod, scene.role.container) or {}
        if pods.is_running(status):
            verb = "reads the model and warms up" if scene.role is not ROUTER else "runs and reads the Kubernetes API"
            log = scene.kubectl(f"logs -f {pod['metadata']['name']}")
            return scene.role.starting, f"The {scene.role.noun} {verb}. {_secrets(scene)}{log} shows how far it is."
    return None


def fetching(scene: Scene) -> Trouble | None:
    """The numbers, which change all the time, stand in status.download."""
    names = [pod["metadata"]["name"] for pod in scene.waiting if pods.is_fetching(pod)]
    if not names:
        return None
    download = scene.observed.download
    told = next((name for name in names if download is not None and name == download.pod), None)
    name = told or names[0]
    log = scene.kubectl(f"logs -f {name} -c {contract.CONTAINER_FETCH}")
    where = f"status.download says how far it is, and {log} tells more." if told else f"{log} shows how far it is."
    return conditions.FETCHING_MODEL, f"Pod {name} fetches the model. {where}"


def _secrets(scene: Scene) -> str:
    """We may not read Secrets, so which of them is missing is the router's to say."""
    return f"It needs the Secrets {scene.secrets}: its log says which of them is missing. " if scene.secrets else ""


def creating(scene: Scene) -> Trouble | None:
    if scene.waiting:
        pod = scene.waiting[0]
        return conditions.CREATING, (
            f"Pod {pod['metadata']['name']} waits for its node to prepare volumes and images. "
            f"{_describe(scene, pod)} shows its events."
        )
    if len(scene.routable) < scene.wanted:
        return conditions.CREATING, (
            f"Pods are about to be made. Where this lasts, {scene.kubectl('describe deployment ' + scene.child_name)} says why."
        )
    return None


def awaiting_use(scene: Scene) -> Trouble | None:
    """It is up, and a rollout goes on only when the routers use it."""
    names = [pod["metadata"]["name"] for pod in scene.routable if pods.awaits_use(pod)]
    if not names:
        return None
    logs = scene.kubectl("logs -l tokenfleet.dev/role=router")
    return scene.role.starting, (
        f"Pod {names[0]} is ready, and is about to be used by the routers. Where this lasts, the controller does not hear that "
        f"they use it: {logs} shows what they do."
    )


def _waiting_containers(scene: Scene) -> Iterator[tuple[Json, Json, Json]]:
    """(pod, container's status, its `waiting`) of all containers that wait for something."""
    for pod in scene.waiting:
        for status in pods.containers(pod):
            if waiting := (status.get("state") or {}).get("waiting"):
                yield pod, status, waiting


def _describe(scene: Scene, pod: Json) -> str:
    return scene.kubectl(f"describe pod {pod['metadata']['name']}")
