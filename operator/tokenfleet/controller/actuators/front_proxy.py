"""Who calls an aggregated API: the API server vouches for the caller by a client certificate of the front-proxy CA.

Kubernetes keeps what is needed to check that in a ConfigMap. Only a connection whose certificate that CA signed, with one of
the allowed names, may say in its headers who the caller is; anyone else's headers mean nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

from tokenfleet.controller.observed import Json
from tokenfleet.errors import TokenfleetError

NAMESPACE: Final = "kube-system"
CONFIG_MAP: Final = "extension-apiserver-authentication"
PATH: Final = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG_MAP}"


class Unusable(TokenfleetError):
    """The ConfigMap does not say whom to trust."""


class Headers(Protocol):
    """Of a request, by any case."""

    def getall(self, key: str, default: list[str]) -> list[str]: ...
    def items(self) -> Iterable[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf the API server asks."""

    user: str
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProxy:
    """Whom to believe, and in which headers."""

    authority: str
    """PEM certificates."""
    allowed_names: frozenset[str]
    """Common names; empty: any that the authority signed."""
    user_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]

    @classmethod
    def of(cls, config_map: Json) -> "FrontProxy":
        """Raises Unusable where it has no CA, or lists that cannot be read: the cluster has its aggregation layer off."""
        data = config_map.get("data") or {}
        if not (authority := data.get("requestheader-client-ca-file")):
            raise Unusable(
                f"ConfigMap {NAMESPACE}/{CONFIG_MAP} has no requestheader-client-ca-file: the API server runs without its "
                "aggregation layer, so nobody could ask for external metrics. Set its --requestheader-client-ca-file."
            )
        return cls(
            authority=authority,
            allowed_names=frozenset(_words(data, "requestheader-allowed-names")),
            user_headers=_words(data, "requestheader-username-headers"),
            group_headers=_words(data, "requestheader-group-headers"),
            extra_prefixes=_words(data, "requestheader-extra-headers-prefix"),
        )

    def caller(self, certificate: Mapping[str, Any] | None, headers: Headers) -> Caller | None:
        """Who calls; None: nobody whom to believe. certificate: the peer's, verified, as ssl's getpeercert has it."""
        if not certificate or (self.allowed_names and not _common_names(certificate) & self.allowed_names):
            return None
        user = next((value for name in self.user_headers for value in headers.getall(name, []) if value), None)
        if user is None:
            return None
        groups = next((values for name in self.group_headers if (values := headers.getall(name, []))), [])
        return Caller(user, tuple(groups), tuple(self._extra(headers)))

    def _extra(self, headers: Headers) -> list[tuple[str, tuple[str, ...]]]:
        found: dict[str, list[str]] = {}
        for name, value in headers.items():
            for prefix in self.extra_prefixes:
                if name.lower().startswith(prefix.lower()):
                    found.setdefault(unquote(name[len(prefix) :]).lower(), []).append(value)
        return [(name, tuple(values)) for name, values in sorted(found.items())]


def _words(data: Json, name: str) -> tuple[str, ...]:
    try:
        words = json.loads(data.get(name) or "[]")
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Unusable(f"ConfigMap {NAMESPACE}/{CONFIG_MAP} has {name}={data.get(name)!r}: not a list of words in JSON.")
    return tuple(words)


def _common_names(certificate: Mapping[str, Any]) -> set[str]:
    return {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
