"""The middleware's own answers: JSON, and errors in the shape that OpenAI's clients read.

A refusal is sent before the request's body is read, so that a large body costs us nothing while there is too much to do. But a
server that closes a connection with bytes unread resets it, and the client that was still sending may lose the answer
it was given. So a refusal gives the whole answer first, then takes what still comes, for a while, and only then ends.
"""

import asyncio
import ipaddress
import json
from typing import Final

from tokenfleet_engine.serving.asgi import Receive, Scope, Send

LINGER_SECONDS: Final = 5.0

Header = tuple[bytes, bytes]
CLOSE: Final = (b"connection", b"close")


async def send_json(send: Send, status: int, content: object, *headers: Header) -> None:
    await _send(send, status, content, headers)


async def send_error(send: Send, status: int, kind: str, message: str, *headers: Header) -> None:
    await _send(send, status, _error(status, kind, message), headers)


async def refuse(scope: Scope, receive: Receive, send: Send, message: str, *headers: Header) -> None:
    """503, for a reason of ours that passes."""
    if any(name == b"expect" for name, _ in scope.get("headers", ())):
        await _send(send, 503, _error(503, "service_unavailable", message), (*headers, CLOSE))
        return  # a client that waits for our 100 has not sent its body, and may never do so
    await _send(send, 503, _error(503, "service_unavailable", message), headers, more=True)
    await _linger(receive)
    await send({"type": "http.response.body", "body": b""})


def from_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _linger(receive: Receive) -> None:
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        pass


def _error(status: int, kind: str, message: str) -> object:
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


async def _send(send: Send, status: int, content: object, headers: tuple[Header, ...], *, more: bool = False) -> None:
    body = json.dumps(content).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body, "more_body": more})
