"""Has an image with a Redis ready for the stories that need one: Debian's, made like the base of our own images.

A user's cluster pulls the public one, or what TOKENFLEET_REDIS_IMAGE says. In each, `redis-server` is on the PATH.
"""

import os
from typing import Final

from e2e.cluster import images_base, images_registry, locks, packages, paths, registry
from e2e.cluster.images_build import Builder
from e2e.cluster.progress import step

ENV_REDIS: Final = "TOKENFLEET_REDIS_IMAGE"
_PUBLIC: Final = "redis:7.4-bookworm"
_NAME: Final = "redis"
_PACKAGES: Final = ("redis-server",)


def ensure() -> str:
    """Build and push it, if it is missing; returns a reference for a pod's spec."""
    if given := os.environ.get(ENV_REDIS):
        return given
    if paths.user_kubeconfig():
        return _PUBLIC
    registry.start()
    tag = images_base.key(_PACKAGES)
    reference = f"{images_registry.prefix()}/{_NAME}:{tag}"
    if images_registry.has(_NAME, tag):
        return reference
    packages.ensure("buildah", "mmdebstrap")
    builder = Builder(paths.cache() / "images", packages.program("buildah"))
    with step("Building an image with Redis") as current, locks.held(paths.cache() / "images.lock"):
        builder.check()
        mmdebstrap = packages.program("mmdebstrap")
        built = builder.ensure_base(mmdebstrap=mmdebstrap, current=current, name=_NAME, packages=_PACKAGES)
        builder.push(built, reference, nearby=True, current=current)
    return reference
