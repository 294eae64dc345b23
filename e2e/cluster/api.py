"""The API server of our own cluster, as its administrator sees it: the few requests that bringing a cluster up needs."""

import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from e2e.cluster.certificates import Authority
from e2e.cluster.errors import ClusterError

Manifest = Mapping[str, Any]
FIELD_MANAGER = "tokenfleet-cluster"


class Api:
    """One connection pool; `get` of what is not there is None, every other refusal is an error."""

    def __init__(self, server: str, authority: Authority, *, identity: str = "admin", health: str = "/readyz") -> None:
        context = ssl.create_default_context(cafile=authority.certificate)
        pair = authority.pair(identity)
        context.load_cert_chain(pair.certificate, pair.key)
        self._client = httpx.Client(base_url=server, verify=context, trust_env=False, timeout=5.0)
        self._health = health

    def ready(self) -> bool:
        try:
            return self._client.get(self._health, timeout=2.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> dict[str, Any] | None:
        answer = self._request("GET", path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._body(answer)

    def apply(self, path: str, manifest: Manifest) -> None:
        """Server-side apply; JSON is YAML."""
        parameters = f"?fieldManager={FIELD_MANAGER}&force=true"
        self._body(self._request("PATCH", path + parameters, "application/apply-patch+yaml", manifest))

    def merge(self, path: str, patch: Manifest) -> None:
        self._body(self._request("PATCH", path, "application/merge-patch+json", patch))

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _request(self, method: str, path: str, kind: str = "", body: Manifest | None = None) -> httpx.Response:
        content = None if body is None else json.dumps(body)
        try:
            return self._client.request(method, path, content=content, headers={"Content-Type": kind} if kind else {})
        except httpx.HTTPError as error:
            raise ClusterError(f"the API server at {self._client.base_url} does not answer: {error}.") from error

    def _body(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise ClusterError(f"the API server refused {answer.request.method} {answer.request.url}: {answer.text}")
        body: dict[str, Any] = answer.json()
        return body
