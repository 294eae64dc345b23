"""The Secret that holds API keys, in a cluster: read, and changed by one entry at a time.

Writes carry the version that was read, so that two people at once lose nothing: who comes second looks again. The kubernetes
client is imported when a command needs it, since that takes longer than anything else here.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from tokenfleet.cli.errors import CliError, Conflict, Unusable
from tokenfleet.cli.key_entries import Entry, encoded, read_all

_SECONDS: Final = 15
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

    def __init__(self, api: Any, *, namespace: str, secret: str) -> None:
        """api: kubernetes.client.CoreV1Api."""
        self._api = api
        self._namespace = namespace
        self._secret = secret

    @property
    def place(self) -> str:
        return f"{self._namespace}/{self._secret}"

    def read(self) -> Snapshot:
        try:
            found = self._call("get", self._api.read_namespaced_secret, self._secret, self._namespace)
        except _Missing:
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
        except _Missing as error:
            if seen.version is not None:
                raise Conflict(f"The Secret {self.place} is gone.") from error
            raise CliError(f"There is no namespace {self._namespace}: create it, or name another with --namespace.") from None

    def _call(self, verb: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(*arguments, _request_timeout=_SECONDS, **options)
        except ApiException as error:
            raise self._refusal(verb, error) from error
        except (HTTPError, OSError) as error:
            host = self._api.api_client.configuration.host
            why = getattr(error, "reason", None) or error
            raise CliError(
                f"The cluster at {host} does not answer ({why}): is it up, and is the context the right one?"
            ) from error

    def _refusal(self, verb: str, error: Any) -> CliError:
        if error.status == 404:
            return _Missing()
        if error.status == 409:
            return Conflict(f"The Secret {self.place} has changed meanwhile.")
        if error.status == 401:
            return CliError("The cluster does not know you: log in again, or choose another context with --context.")
        if error.status == 403:
            return CliError(
                f"You may not {verb} the Secret {self.place}: ask for a role that lets you get, create and patch Secrets."
            )
        return CliError(f"The cluster refused to {verb} the Secret {self.place}: {_message(error)}")


class _Missing(CliError):
    """404."""


def open_store(*, kubeconfig: Path | None, context: str | None, namespace: str | None, secret: str) -> ClusterStore:
    """By KUBECONFIG or ~/.kube/config. namespace: the context's where it is None."""
    from kubernetes import client, config

    file = str(kubeconfig) if kubeconfig is not None else None
    try:
        if namespace is None:
            contexts, active = config.list_kube_config_contexts(config_file=file)  # type: ignore[no-untyped-call]
            chosen = active if context is None else next((one for one in contexts if one["name"] == context), None)
            namespace = (chosen or {}).get("context", {}).get("namespace") or "default"
        api_client = config.new_client_from_config(config_file=file, context=context)  # type: ignore[no-untyped-call]
    except Exception as error:  # of many libraries: there are many ways to write a bad kubeconfig
        why = " ".join(str(error).split()) or type(error).__name__
        raise Unusable(f"No way to reach a cluster ({why}): set KUBECONFIG or --kubeconfig, and see --context.") from error
    api_client.configuration.retries = False
    return ClusterStore(client.CoreV1Api(api_client), namespace=namespace, secret=secret)


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
