"""Has the small models in a namespace's claim, so that `pvc://models/tokenfleet-demo` can be served.

The same in any cluster: a Job makes them with the torch of the CPU engine's image. On the local cluster the claim stands on a
directory of the cache, so they are made once for a machine, whatever becomes of clusters and checkouts; elsewhere on the
cluster's default StorageClass.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from e2e.cluster import paths
from e2e.cluster.images import Images
from e2e.cluster.progress import Step, step
from e2e.kubectl import Kubectl, KubectlError
from e2e.model import objects
from e2e.model.objects import MODEL, Json, Recipe

SECONDS: Final = 1200
"""Pulling an image of 6 GB comes on top of a minute of training."""
POLL_SECONDS: Final = 1.0
_WAITING_FOR_GOOD: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")


class ModelError(RuntimeError):
    """The model could not be made; the message says why, and what to do."""


def ensure(namespace: str, *, images: Images, claim: str = "models", recipe: Recipe = MODEL) -> str:
    """Make claim and model where they are missing; returns the model's source, for spec.model.source."""
    kubectl = Kubectl(namespace)
    directory = None if paths.user_kubeconfig() else _directory()
    uid = _ensure_claim(kubectl, claim=claim, directory=directory)
    there = _made_here(directory, recipe) if directory is not None else _job_state(kubectl, recipe, uid) == "Complete"
    if not there:
        with step(recipe.what) as current:
            _make(kubectl, recipe, claim=claim, uid=uid, image=images.engine_cpu, current=current)
    return f"pvc://{claim}/{recipe.name}"


def _directory() -> Path:
    """Of the local volume: readable for everybody, written by the Job's user."""
    directory = paths.cache() / "models"
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(directory, objects.USER, objects.USER)
    return directory


def _made_here(directory: Path, recipe: Recipe) -> bool:
    link = directory / recipe.name
    return link.is_symlink() and link.readlink().name == recipe.key() and (link / "config.json").is_file()


def _ensure_claim(kubectl: Kubectl, *, claim: str, directory: Path | None) -> str:
    existing = kubectl.get("pvc", claim)
    if existing is None:
        volume = None
        if directory is not None:
            volume = objects.volume_name(kubectl.namespace, claim=claim)
            kubectl.delete("pv", volume)  # one that is left stays tied to a claim that is gone
            kubectl.apply(objects.build_volume(kubectl.namespace, claim=claim, directory=directory))
        kubectl.apply(objects.build_claim(claim=claim, volume=volume))
        existing = kubectl.get("pvc", claim)
    assert existing is not None
    return str(existing["metadata"]["uid"])


def _job_state(kubectl: Kubectl, recipe: Recipe, uid: str) -> str:
    """Complete, Failed, Running, or Absent: of the Job that makes this in this claim."""
    job = kubectl.get("job", recipe.job)
    if job is None or job["metadata"].get("annotations", {}).get(objects.ANNOTATION_KEY) != recipe.made_key(uid):
        return "Absent"
    conditions = job.get("status", {}).get("conditions") or []
    ended = [entry["type"] for entry in conditions if entry["status"] == "True" and entry["type"] in ("Complete", "Failed")]
    return ended[0] if ended else "Running"


def _make(kubectl: Kubectl, recipe: Recipe, *, claim: str, uid: str, image: str, current: Step) -> None:
    if _job_state(kubectl, recipe, uid) != "Running":
        kubectl.delete("job", recipe.job)
        kubectl.apply(objects.build_sources(recipe))
        kubectl.apply(objects.build_job(recipe, claim=claim, claim_uid=uid, image=image))
    deadline = time.monotonic() + SECONDS
    while (state := _job_state(kubectl, recipe, uid)) == "Running":
        trouble = _trouble(kubectl, recipe, claim=claim)
        if time.monotonic() > deadline:
            raise ModelError(
                f"the Job {recipe.job} did not end within {SECONDS} s. {trouble or _last_lines(kubectl, recipe, 5)}"
            )
        current.note(trouble or _last_lines(kubectl, recipe, 1))
        time.sleep(POLL_SECONDS)
    if state != "Complete":
        raise ModelError(
            f"the Job {recipe.job} in namespace {kubectl.namespace} ended as {state}; its last lines:\n"
            f"{_last_lines(kubectl, recipe, 15)}"
        )


def _trouble(kubectl: Kubectl, recipe: Recipe, *, claim: str) -> str:
    """Why no pod of the Job runs; raises where that will not pass by itself. Empty when one runs."""
    for pod in kubectl.items("pods", f"job-name={recipe.job}"):
        for status in pod["status"].get("containerStatuses") or []:
            waiting = status["state"].get("waiting", {})
            if waiting.get("reason") in _WAITING_FOR_GOOD[1:]:
                raise ModelError(f"the Job cannot start: {waiting['reason']}: {waiting.get('message', '')}")
            if waiting:
                return str(waiting.get("reason", "waiting"))
        for condition in pod["status"].get("conditions") or []:
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"{condition.get('message', 'not scheduled')}{_without_storage(kubectl, claim=claim)}"
    return ""


def _without_storage(kubectl: Kubectl, *, claim: str) -> str:
    found: Json = kubectl.get("pvc", claim) or {}
    if found.get("status", {}).get("phase") == "Bound" or kubectl.items("storageclasses"):
        return ""
    return f" (the claim {claim} is not bound and the cluster has no StorageClass: create the claim yourself)"


def _last_lines(kubectl: Kubectl, recipe: Recipe, count: int) -> str:
    with contextlib.suppress(KubectlError):
        return kubectl("logs", f"job/{recipe.job}", f"--tail={count}").strip()
    return ""
