"""The Secrets that a router's pods mount, and the variables that tell the router of them.

Read-only, and for the router's group alone. Each is optional: with a missing Secret the pod starts, and says itself what it
waits for, rather than to hang while its container is created. The kubelet brings a changed Secret into running pods.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet.api.router import Router
from tokenfleet.controller.observed import Json

_FOR_THE_GROUP = 0o440


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSecret:
    """One Secret, and its place in the pod."""

    field: str
    """Where the spec names it."""
    name: str
    volume: str
    path: str
    variable: str
    value: str
    entries: tuple[str, ...] = ()
    """The entries that are mounted; none: all of them."""


def secrets_of(router: Router) -> Iterator[RouterSecret]:
    """Those that a spec names."""
    if router.auth is not None:
        yield RouterSecret(
            field="auth.keysSecret",
            name=router.auth.keys_secret,
            volume="keys",
            path=contract.KEYS_MOUNT_PATH,
            variable=contract.ENV_ROUTER_KEYS_DIR,
            value=contract.KEYS_MOUNT_PATH,
        )
    if router.tls is not None:
        yield RouterSecret(
            field="tls.secretName",
            name=router.tls.secret_name,
            volume="tls",
            path=contract.TLS_MOUNT_PATH,
            variable=contract.ENV_ROUTER_TLS_DIR,
            value=contract.TLS_MOUNT_PATH,
            entries=("tls.crt", "tls.key"),
        )
    if router.redis is not None:
        yield RouterSecret(
            field="redis.urlSecret",
            name=router.redis.url_secret,
            volume="redis",
            path=contract.REDIS_MOUNT_PATH,
            variable=contract.ENV_ROUTER_REDIS_URL_FILE,
            value=f"{contract.REDIS_MOUNT_PATH}/url",
            entries=("url",),
        )


def volume(secret: RouterSecret) -> Json:
    """Of the pod."""
    source: Json = {"secretName": secret.name, "defaultMode": _FOR_THE_GROUP, "optional": True}
    if secret.entries:
        source["items"] = [{"key": entry, "path": entry} for entry in secret.entries]
    return {"name": secret.volume, "secret": source}


def mount(secret: RouterSecret) -> Json:
    """Of the container."""
    return {"name": secret.volume, "mountPath": secret.path, "readOnly": True}
