"""The objects that bring the small model into a namespace: a claim, where it is local a volume, a ConfigMap and a Job.

Pure: names and files in, manifests out. The key is the hash of train.py and corpus.txt, so a changed recipe is a new model
beside the old one, and a link decides which of them the manifests mean.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import yaml

Json = dict[str, Any]

NAME: Final = "tokenfleet-demo"
"""Of the model within the claim."""
OBJECTS: Final = "tokenfleet-demo-model"
"""Name of the Job and its ConfigMap."""
LABELS: Final = {"app.kubernetes.io/part-of": "tokenfleet-demo"}
ANNOTATION_KEY: Final = "tokenfleet.dev/demo-model"
MADE: Final = ".made"
SIZE: Final = "1Gi"
USER: Final = 65532
_HERE: Final = Path(__file__).parent
SOURCES: Final = (_HERE / "train.py", _HERE / "corpus.txt")


def key() -> str:
    digest = hashlib.sha256()
    for path in SOURCES:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def build_volume(namespace: str, *, claim: str, directory: Path) -> Json:
    """A directory of this machine, reserved for that claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(namespace, claim=claim), "labels": LABELS},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": SIZE},
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": str(directory), "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
        },
    }


def volume_name(namespace: str, *, claim: str) -> str:
    return f"{namespace}-{claim}"


def build_claim(*, claim: str, volume: str | None) -> Json:
    """Bound to the volume, or left to the cluster's default StorageClass."""
    spec: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}}
    if volume is not None:
        spec |= {"volumeName": volume, "storageClassName": ""}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "labels": LABELS},
        "spec": spec,
    }


def build_sources() -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": OBJECTS, "labels": LABELS},
        "data": {path.name: path.read_text(encoding="utf-8") for path in SOURCES},
    }


def build_job(*, claim: str, claim_uid: str, image: str) -> Json:
    """The Job of job.yaml. Its annotation says which model it made, and in which claim."""
    job: Json = yaml.safe_load((_HERE / "job.yaml").read_text(encoding="utf-8"))
    job["metadata"]["annotations"] = {ANNOTATION_KEY: made_key(claim_uid)}
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["image"] = image
    container["args"] = [argument.replace(f"{MADE}/key", f"{MADE}/{key()}") for argument in container["args"]]
    pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim
    return job


def made_key(claim_uid: str) -> str:
    return f"{key()}/{claim_uid}"
