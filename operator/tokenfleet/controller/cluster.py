"""The one module that writes to the Kubernetes API, and the reads that a reconcile needs: server-side apply, delete, list.

It sends plain JSON through kubernetes.aio's connection rather than its models, which would take several times as long.
Every call has a deadline, and every answer that is not a success is one of four decisions for the caller:

ClusterError
├── Unavailable   no answer, or "not now" (5xx, 429, 401): the same call may succeed later
├── Stale         the world has moved on (404, 409, 410, another uid): look again, then decide anew
├── Refused       not like this (400, 403, 413, 422, a webhook that cannot be called): carries the API server's words, for
│                 the user; trying again soon will not help
└── NotLeading    we may not write: another replica may be leading by now

A child that should not exist yet is applied with a resourceVersion that no object has, so that the API server itself refuses
to touch one that appeared meanwhile; one that exists, with its uid.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

from tokenfleet import contract
from tokenfleet.controller import kinds
from tokenfleet.controller.kinds import EVENT, LEASE, POD, Kind
from tokenfleet.controller.observed import Json
from tokenfleet.controller.reachability import Reachability
from tokenfleet.errors import TokenfleetError

CALL_SECONDS: Final = 15.0
LIST_SECONDS: Final = 60.0
PAGE: Final = 500
_ABSENT: Final = "1"
"""A resourceVersion that no object ever has: the first write to a cluster's etcd is not an object."""
_AWAY: Final = frozenset({429, 502, 503, 504})
"""Answers that concern all calls."""
_APPLY: Final = urlencode({"fieldManager": contract.FIELD_MANAGER, "force": "true"})
_APPLY_TYPE: Final = "application/apply-patch+yaml"
_MERGE_TYPE: Final = "application/merge-patch+json"
_STRATEGIC_TYPE: Final = "application/strategic-merge-patch+json"


class ClusterError(TokenfleetError):
    """A call to the Kubernetes API did not do what it should."""


class Unavailable(ClusterError):
    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Stale(ClusterError):
    pass


class Refused(ClusterError):
    pass


class NotLeading(ClusterError):
    pass


class Cluster:
    """Calls to one API server. `may_write` is asked before every write."""

    def __init__(self, client: ApiClient, reachability: Reachability, *, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._reachability = reachability
        self._may_write = may_write

    async def get(self, kind: Kind, namespace: str, name: str, *, seconds: float = CALL_SECONDS) -> Json | None:
        """The object, or None where there is none."""
        with suppress(Stale):
            return await self.call("GET", kind.path(namespace, name), seconds=seconds)
        return None

    async def log_tail(self, namespace: str, pod: str, container: str, *, lines: int, limit: int, seconds: float) -> str:
        """The last lines of a container's log, and at most `limit` bytes of them.

        A kubelet answers here, so a failure tells nothing about the API server, and makes nobody else wait.
        """
        query = urlencode({"container": container, "tailLines": lines, "limitBytes": limit})
        path = POD.path(namespace, pod, subresource="log")
        try:
            async with asyncio.timeout(seconds):
                status, _, data = await self._exchange("GET", f"{path}?{query}", None, seconds)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"GET {path}: {type(error).__name__} {error}".rstrip()) from error
        if status >= 300:
            raise decide(f"GET {path}", status, data)
        return data.decode(errors="replace")

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server knows a kind: for one of ours, whether its CRD is there."""
        try:
            found = await self.call("GET", kind.path(None).removesuffix(f"/{kind.plural}"))
        except Stale:
            return False
        return any(resource.get("name") == kind.plural for resource in found.get("resources") or ())

    async def may_list(self, kind: Kind) -> bool:
        """Whether we have the right to, in the whole cluster; told by a try, and taken for granted where nobody answers."""
        try:
            await self.call("GET", f"{kind.path(None)}?limit=1")
        except Refused:
            return False
        except ClusterError:
            return True
        return True

    async def pages(self, kind: Kind, namespace: str | None, *, selector: str = "") -> AsyncIterator[tuple[list[Json], int]]:
        """All objects of a kind, page by page, each with the listing's resource version."""
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            page = await self.call("GET", f"{kind.path(namespace)}?{urlencode(query)}", seconds=LIST_SECONDS)
            items = page.get("items") or []
            for item in items:  # items of a list leave out what the list says once
                item["apiVersion"], item["kind"] = kind.api_version, kind.name
            yield items, int(page["metadata"]["resourceVersion"])
            if not (token := page["metadata"].get("continue")):
                return
            query["continue"] = token

    async def apply(self, kind: Kind, body: Json, *, uid: str | None) -> Json:
        """Make the fields of `body` so, and unset those that an earlier apply of ours had set. Returns the whole object.

        Stale if the object is not the one with `uid`, or, with None, if there is one.
        """
        metadata = body["metadata"]
        condition = {"resourceVersion": _ABSENT} if uid is None else {"uid": uid}
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._write("PATCH", f"{path}?{_APPLY}", {**body, "metadata": {**metadata, **condition}})

    async def apply_status(self, owner: Json, status: Json) -> Json:
        """Make the status of this very LLMDeployment or LLMRouter so."""
        kind = kinds.of(owner["kind"])
        metadata = {name: owner["metadata"][name] for name in ("name", "namespace", "uid")}
        body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "status": status}
        path = kind.path(metadata["namespace"], metadata["name"], subresource="status")
        return await self._write("PATCH", f"{path}?{_APPLY}", body)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str) -> None:
        """Delete the object with this uid and, in the background, what it owns. None of that name is fine."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "preconditions": {"uid": uid}}
        with suppress(Stale):
            await self._write("DELETE", kind.path(namespace, name), body)

    async def annotate_pod(self, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str) -> Json:
        """Set these annotations of the pod with this uid, and take away those that are None. Returns the pod."""
        body = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
        return await self._write("PATCH", POD.path(namespace, name), body, kind=_MERGE_TYPE)

    async def set_pod_condition(self, namespace: str, name: str, condition: Json, *, uid: str) -> Json:
        """Set this condition, of a type of ours, in the status of the pod with this uid. Returns the pod."""
        body = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
        return await self._write("PATCH", POD.path(namespace, name, subresource="status"), body, kind=_STRATEGIC_TYPE)

    async def label_pod(self, namespace: str, name: str, labels: Mapping[str, str | None]) -> Json:
        """Set these labels of the controller's own pod, which needs no lead, and take away those that are None."""
        return await self.call("PATCH", POD.path(namespace, name), {"metadata": {"labels": dict(labels)}}, kind=_MERGE_TYPE)

    async def post_event(self, event: Json) -> None:
        await self._write("POST", EVENT.path(event["metadata"]["namespace"]), event)

    async def write_lease(self, lease: Json, *, create: bool, seconds: float) -> Json:
        """Create or replace a Lease. Not asked of `may_write`: this is how one comes to know."""
        namespace, name = lease["metadata"]["namespace"], lease["metadata"]["name"]
        if create:
            return await self.call("POST", LEASE.path(namespace), lease, seconds=seconds)
        return await self.call("PUT", LEASE.path(namespace, name), lease, seconds=seconds)

    async def _write(self, method: str, path: str, body: Json, *, kind: str = "") -> Json:
        if not self._may_write():
            raise NotLeading(f"{method} {path} was not sent: this process is not sure to be the leader")
        return await self.call(method, path, body, kind=kind)

    async def call(
        self, method: str, path: str, body: Json | None = None, *, seconds: float = CALL_SECONDS, kind: str = ""
    ) -> Json:
        """One request; the answer's JSON. kind: the body's content type, where it is not the usual one."""
        try:
            async with asyncio.timeout(seconds):
                status, headers, data = await self._exchange(method, path, body, seconds, kind=kind)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._reachability.failed(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
            raise Unavailable(f"{method} {path}: {type(error).__name__} {error}") from error
        if status < 300:
            self._reachability.succeeded()
            answer: Json = json.loads(data)
            return answer
        decision = decide(f"{method} {path.partition('?')[0]}", status, data, retry_after=headers.get("Retry-After"))
        if status in _AWAY:
            self._reachability.failed(str(decision), retry_after=_seconds(headers.get("Retry-After")))
        else:
            self._reachability.succeeded()
        raise decision

    async def _exchange(
        self, method: str, path: str, body: Json | None, seconds: float, *, kind: str = ""
    ) -> tuple[int, Any, bytes]:
        configuration = self._client.configuration
        headers = {
            "Accept": "application/json, */*",
            "Content-Type": kind or (_APPLY_TYPE if method == "PATCH" else "application/json"),
            "User-Agent": contract.FIELD_MANAGER,
        }
        if token := await configuration.get_api_key_with_prefix("BearerToken", alias="authorization"):
            headers["Authorization"] = token
        timeout = aiohttp.ClientTimeout(total=seconds)
        answer = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
            method, f"{configuration.host}{path}", headers=headers, body=body, _request_timeout=timeout
        )
        return answer.status, answer.headers, await answer.read()


def decide(what: str, status: int, data: bytes, *, retry_after: str | None = None) -> ClusterError:
    """What an answer that is not a success means for the caller."""
    message, reason, causes = _explanation(data)
    text = f"{what}: {status} {message}".rstrip()
    if status == 500 and reason == "InternalError":  # of this object: its webhook, its service IP; not the server's own state
        return Refused(message)
    if status in (401, 408, 429) or status >= 500:
        return Unavailable(text, retry_after=_seconds(retry_after))
    if status in (404, 409, 410) or (status == 422 and "metadata.uid" in causes):
        return Stale(text)
    if status == 403 and "is being terminated" in message:
        return Stale(text)
    return Refused(message or text)


def _explanation(data: bytes) -> tuple[str, str, tuple[str, ...]]:
    """The message of a Kubernetes Status, its reason, and the fields that it names."""
    try:
        answer = json.loads(data)
        causes = (answer.get("details") or {}).get("causes") or ()
        return str(answer.get("message", "")), str(answer.get("reason", "")), tuple(cause.get("field", "") for cause in causes)
    except (ValueError, AttributeError):
        return data[:300].decode(errors="replace").strip(), "", ()


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After header; the date form is not used by Kubernetes."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
