"""The Secret that holds API keys, in a cluster: read, and changed by one entry at a time.

Writes carry the version that was read, so that two people at once lose nothing: who comes second looks again.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from tokenfleet.cli.cluster.connection import Cluster, Missing, Thing, connect
from tokenfleet.cli.errors import CliError, Conflict
from tokenfleet.cli.keys.entries import Entry, encoded, read_all
from tokenfleet.cli.options import Place

_TRIES: Final = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a Secret held when it was read."""

    version: str | None
    """None: there is no such Secret."""
    entries: tuple[Entry, ...] = ()


class KeyStore(Protocol):
    """One Secret."""

    @property
    def place(self) -> str:
        """For people."""

    def read(self) -> Snapshot: ...

    def write(self, entry: str, content: bytes | None, seen: Snapshot) -> None:
        """Set one entry, or with None remove it. Conflict where the Secret is not as it was seen any more."""


def change(store: KeyStore, decide: Callable[[Snapshot], tuple[T, str, bytes | None]]) -> T:
    """Decide by what there is, and write that, again and again while others write too."""
    for _ in range(_TRIES):
        seen = store.read()
        decision, entry, content = decide(seen)
        try:
            store.write(entry, content, seen)
        except Conflict:
            continue
        return decision
    raise Conflict(f"Others keep changing the Secret {store.place}: try again.")


class ClusterStore:
    """A Secret by way of the Kubernetes API."""

    def __init__(self, cluster: Cluster, api: Any, *, secret: str) -> None:
        """api: kubernetes.client.CoreV1Api."""
        self._cluster, self._api = cluster, api
        self._namespace = cluster.namespace
        self._secret = secret
        self._thing = Thing(f"the Secret {self.place}", rights="get, create and patch Secrets")

    @property
    def place(self) -> str:
        return f"{self._namespace}/{self._secret}"

    def read(self) -> Snapshot:
        try:
            found = self._call("get", self._api.read_namespaced_secret, self._secret, self._namespace)
        except Missing:
            return Snapshot(None)
        data = {name: base64.b64decode(value) for name, value in (found.data or {}).items()}
        return Snapshot(found.metadata.resource_version, tuple(read_all(data)))

    def write(self, entry: str, content: bytes | None, seen: Snapshot) -> None:
        data = {entry: encoded(content) if content is not None else None}
        try:
            if seen.version is None:
                body = {"metadata": {"name": self._secret}, "type": "Opaque", "data": data}
                self._call("create", self._api.create_namespaced_secret, self._namespace, body)
            else:
                body = {"metadata": {"resourceVersion": seen.version}, "data": data}
                merge = {"_content_type": "application/merge-patch+json"}
                self._call("patch", self._api.patch_namespaced_secret, self._secret, self._namespace, body, **merge)
        except Missing as error:
            if seen.version is not None:
                raise Conflict(f"The Secret {self.place} is gone.") from error
            raise CliError(f"There is no namespace {self._namespace}: create it, or name another with --namespace.") from None

    def _call(self, verb: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self._cluster.call(verb, self._thing, call, *arguments, **options)


def open_store(place: Place, *, secret: str) -> ClusterStore:
    from kubernetes import client

    cluster = connect(place)
    return ClusterStore(cluster, client.CoreV1Api(cluster.api_client), secret=secret)
