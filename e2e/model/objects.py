"""The objects that bring the small models into a namespace: a claim, where it is local a volume, a ConfigMap and a Job.

Pure: names and files in, manifests out. A recipe's key is the hash of its sources, so a changed recipe is a new model beside
the old one, and a link decides which of them the manifests mean.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

Json = dict[str, Any]

LABELS: Final = {"app.kubernetes.io/part-of": "tokenfleet-demo"}
ANNOTATION_KEY: Final = "tokenfleet.dev/demo-model"
MADE: Final = ".made"
SIZE: Final = "1Gi"
USER: Final = 65532
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What one Job makes of which files."""

    name: str
    """Of the result within the claim."""
    job: str
    """Name of the Job and its ConfigMap."""
    sources: tuple[str, ...]
    """Files beside this one; the first is the program."""
    what: str
    """For the person who waits."""

    def key(self) -> str:
        digest = hashlib.sha256()
        for name in self.sources:
            digest.update((_HERE / name).read_bytes())
        return digest.hexdigest()[:12]

    def made_key(self, uid: str) -> str:
        """Of this recipe's result in the claim of that uid."""
        return f"{self.key()}/{uid}"


MODEL: Final = Recipe(
    name="tokenfleet-demo",
    job="tokenfleet-demo-model",
    sources=("train.py", "corpus.txt"),
    what="Training the small model in the cluster (about a minute)",
)
"""What demo and stories serve."""
VARIANTS: Final = Recipe(
    name="tokenfleet-demo-variants",
    job="tokenfleet-demo-variants",
    sources=("variants.py", "train.py", "corpus.txt"),
    what="Making its draft, its adapters and its broken copies (about half a minute)",
)
"""What goes with it: a draft model, LoRA adapters, and copies that each lack or break one thing."""

KINDS: Final = Recipe(
    name="tokenfleet-demo-kinds",
    job="tokenfleet-demo-kinds",
    sources=("kinds.py", "train.py", "corpus.txt"),
    what="Making a tiny model of each kind of attention (about half a minute)",
)
"""One for each way in which vLLM keeps what it has read, with random weights: for plans of memory."""


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


def build_sources(recipe: Recipe) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": recipe.job, "labels": LABELS},
        "data": {name: (_HERE / name).read_text(encoding="utf-8") for name in recipe.sources},
    }


def build_job(recipe: Recipe, *, claim: str, claim_uid: str, image: str) -> Json:
    """The Job of job.yaml. Its annotation says what it made, and in which claim."""
    job: Json = yaml.safe_load((_HERE / "job.yaml").read_text(encoding="utf-8"))
    job["metadata"]["name"] = recipe.job
    job["metadata"]["annotations"] = {ANNOTATION_KEY: recipe.made_key(claim_uid)}
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["image"] = image
    container["command"] = ["python3", f"/source/{recipe.sources[0]}"]
    container["args"] = [
        *("--corpus", "/source/corpus.txt"),
        *("--output", f"/models/{MADE}/{recipe.key()}"),
        *("--link", f"/models/{recipe.name}"),
    ]
    pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim
    pod["volumes"][1]["configMap"]["name"] = recipe.job
    return job
