"""The paths that pass, in one table. Whatever is not here is answered 404 and reaches no engine.

vLLM guards few of its own paths (/invocations, /pause, /update_weights, ... stay open), so what may pass is listed here,
and compared byte by byte: no decoding, no normalising, no trailing slash.
"""

from typing import Final

import msgspec

from tokenfleet.router.rejections import METHOD_NOT_ALLOWED, UNKNOWN_PATH, Rejected


class Route(msgspec.Struct, frozen=True):
    """One listed path."""

    path: bytes
    method: bytes
    relayed: bool
    """Goes to a replica; else the router answers it."""


MODELS: Final = b"/v1/models"
_RELAYED: Final = (b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/tokenize", b"/detokenize")
_ROUTES: Final = {path: Route(path, b"POST", True) for path in _RELAYED} | {MODELS: Route(MODELS, b"GET", False)}
LISTED: Final = ", ".join(f"{route.method.decode()} {path.decode()}" for path, route in _ROUTES.items())


def find(method: bytes, target: bytes) -> Route:
    """The route of a request's target, the query aside. A single model's route has its own, longer path."""
    path = target.partition(b"?")[0]
    route = _ROUTES.get(path)
    if route is None and path.startswith(MODELS + b"/"):
        route = Route(path, b"GET", False)
    if route is None:
        raise Rejected(UNKNOWN_PATH, f"{path[:100].decode()} is not served here. Served: {LISTED}.")
    if route.method != method:
        allow = route.method.decode()
        raise Rejected(METHOD_NOT_ALLOWED, f"{path.decode()} takes {allow} alone.", allow=allow)
    return route
