"""The paths that pass, in one table. Whatever is not here is answered 404 and reaches no engine.

vLLM guards few of its own paths (/invocations, /pause, /update_weights, ... stay open), so what may pass is listed here,
and compared byte by byte: no decoding, no normalising, no trailing slash. Some pass only where the spec names them.
"""

from enum import Enum, auto
from typing import Final

import msgspec

from tokenfleet.router.rejections import METHOD_NOT_ALLOWED, UNKNOWN_PATH, Rejected


class Service(Enum):
    """Who answers."""

    ENGINE = auto()
    MODELS = auto()
    """The router, from its catalog."""
    ASYNC = auto()
    """The durable queue."""
    ASYNC_RESULT = auto()
    ASYNC_CANCEL = auto()


class Route(msgspec.Struct, frozen=True):
    """One listed path."""

    path: bytes
    methods: tuple[bytes, ...]
    service: Service
    generates: bool = False
    """Text, which may come as events, and whose length max_tokens bounds."""
    extra: bool = False
    """Passes only where spec.router.extraPaths names it."""

    @property
    def takes_body(self) -> bool:
        return b"POST" in self.methods


MODELS: Final = b"/v1/models"
CHAT: Final = b"/v1/chat/completions"
COMPLETIONS: Final = b"/v1/completions"
ASYNC: Final = b"/v1/async/"
ASYNC_REQUESTS: Final = b"/v1/async/requests/"
_GENERATING: Final = (CHAT, COMPLETIONS)
_ENGINE: Final = (b"/v1/embeddings", b"/tokenize", b"/detokenize")
EXTRA: Final = (b"/rerank", b"/v1/rerank", b"/v2/rerank", b"/score", b"/v1/score")
_ASYNC: Final = (b"/v1/async/chat/completions", b"/v1/async/completions")

_POST: Final = (b"POST",)
_ROUTES: Final = {
    **{path: Route(path, _POST, Service.ENGINE, generates=True) for path in _GENERATING},
    **{path: Route(path, _POST, Service.ENGINE) for path in _ENGINE},
    **{path: Route(path, _POST, Service.ENGINE, extra=True) for path in EXTRA},
    **{path: Route(path, _POST, Service.ASYNC, generates=True) for path in _ASYNC},
    MODELS: Route(MODELS, (b"GET",), Service.MODELS),
}
LISTED: Final = ", ".join(f"{route.methods[0].decode()} {path.decode()}" for path, route in _ROUTES.items() if not route.extra)


def find(method: bytes, target: bytes) -> Route:
    """The route of a request's target, the query aside. A single model's route, or a stored request's, has its own path."""
    route = _ROUTES.get(target)
    if route is not None and method in route.methods:
        return route
    path = target.partition(b"?")[0]
    route = _ROUTES.get(path)
    if route is None and path.startswith(MODELS + b"/"):
        route = Route(path, (b"GET",), Service.MODELS)
    if route is None and path.startswith(ASYNC_REQUESTS):
        service = Service.ASYNC_CANCEL if method == b"DELETE" else Service.ASYNC_RESULT
        route = Route(path, (b"GET", b"DELETE"), service)
    if route is None:
        raise unknown(path)
    if method not in route.methods:
        allow = ", ".join(allowed.decode() for allowed in route.methods)
        raise Rejected(METHOD_NOT_ALLOWED, f"{path.decode()} takes {allow} alone.", allow=allow)
    return route


def unknown(path: bytes) -> Rejected:
    """The refusal of a path that is not served."""
    return Rejected(UNKNOWN_PATH, f"{path[:100].decode()} is not served here. Served: {LISTED}.")
