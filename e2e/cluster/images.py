"""Has the images of the operator and of the CPU engine ready for the cluster, built from the Dockerfiles that users build.

`ensure()` answers with names that a pod can use. For the local cluster they are built here and pushed to its registry; a
tag is the hash of all that goes in, so what is there is never built again, by any checkout. For a cluster that the user
brought, the user says where they are, or where they may be pushed.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import images_base, images_registry, locks, packages, paths, registry
from e2e.cluster.errors import ClusterError
from e2e.cluster.images_build import Builder
from e2e.cluster.images_inputs import ENGINE_CPU, OPERATOR, Recipe
from e2e.cluster.progress import Step, step

ENV_OPERATOR: Final = "TOKENFLEET_OPERATOR_IMAGE"
ENV_ENGINE_CPU: Final = "TOKENFLEET_ENGINE_CPU_IMAGE"
ENV_REGISTRY: Final = "TOKENFLEET_REGISTRY"


@dataclass(frozen=True, slots=True)
class Images:
    """Full references, usable in a pod's spec."""

    operator: str
    engine_cpu: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Where images are pushed to, and the cluster pulls them from."""

    prefix: str
    local: bool

    def reference(self, recipe: Recipe, tag: str) -> str:
        return f"{self.prefix}/{recipe.name}:{tag}"

    def has(self, recipe: Recipe, tag: str) -> bool:
        """Only asked of our own registry: another's may want credentials, and a push of what is there is quick."""
        return self.local and images_registry.has(recipe.name, tag)


def ensure() -> Images:
    """Build and push what is missing."""
    given = {name: os.environ.get(name, "") for name in (ENV_OPERATOR, ENV_ENGINE_CPU)}
    if all(given.values()):
        return Images(operator=given[ENV_OPERATOR], engine_cpu=given[ENV_ENGINE_CPU])
    destination = _destination()
    operator = given[ENV_OPERATOR] or _ensure(OPERATOR, destination)
    return Images(operator=operator, engine_cpu=given[ENV_ENGINE_CPU] or _ensure(ENGINE_CPU, destination))


def _destination() -> Destination:
    if prefix := os.environ.get(ENV_REGISTRY, "").rstrip("/"):
        return Destination(prefix, local=False)
    if kubeconfig := paths.user_kubeconfig():
        raise ClusterError(
            f"the cluster of {kubeconfig} cannot pull from this machine. Say where its images are ({ENV_OPERATOR} and "
            f"{ENV_ENGINE_CPU}), or where they may be pushed to ({ENV_REGISTRY}=registry.example.com/team)."
        )
    registry.start()
    return Destination(images_registry.prefix(), local=True)


def _ensure(recipe: Recipe, destination: Destination) -> str:
    tag = recipe.tag(base=images_base.key())
    reference = destination.reference(recipe, tag)
    if destination.has(recipe, tag):
        return reference
    packages.ensure("buildah", "mmdebstrap")
    builder = Builder(paths.cache() / "images", packages.program("buildah"))
    with step(f"Building the {recipe.name} image") as current, locks.held(paths.cache() / "images.lock"):
        return _build(recipe, destination, builder, current)


def _build(recipe: Recipe, destination: Destination, builder: Builder, current: Step) -> str:
    with tempfile.TemporaryDirectory() as context:
        recipe.snapshot(Path(context))
        tag = recipe.tag(base=images_base.key(), root=Path(context))
        reference = destination.reference(recipe, tag)
        if destination.has(recipe, tag):  # somebody else was faster
            return reference
        builder.check()
        _check_disk(recipe, builder)
        current.note(f"the first time it takes {recipe.takes}")
        base = builder.ensure_base(mmdebstrap=packages.program("mmdebstrap"), current=current)
        built = builder.build(recipe, Path(context), tag=tag, base=base, current=current)
        builder.push(built, reference, nearby=destination.local or _is_loopback(reference), current=current)
        if destination.local:
            images_registry.forget_old(recipe.name)
    return reference


def _check_disk(recipe: Recipe, builder: Builder) -> None:
    """Before minutes of building, not after. Later builds share the heavy layers and need next to nothing."""
    free = shutil.disk_usage(paths.cache()).free // 2**30
    needed = 2 if builder.builds(recipe.name) else recipe.gigabytes
    if free < needed:
        raise ClusterError(
            f"building the {recipe.name} image needs {needed} GiB of disk below {paths.cache()} and {free} GiB are free. Free "
            "some, or set TOKENFLEET_CACHE to a directory on a larger disk."
        )


def _is_loopback(reference: str) -> bool:
    return reference.startswith(("127.", "localhost:", "localhost/"))
