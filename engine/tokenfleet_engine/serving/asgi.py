"""The words of ASGI, and asking the server behind us as a client would, without a socket.

`ask` makes a request of our own to the application that we stand around: its health, a first token. It passes no admission,
counts nowhere in our metrics and stands in no access log. Its body is given once; after that nothing more ever comes from such
a client, which is what "has not left" looks like.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an application that was asked by `ask`."""

    status: int
    body: bytes = b""

    def json(self) -> Any:
        """None where it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


async def ask(app: App, scope: Scope, method: str, path: str, content: object = None) -> Answer:
    """`scope` is that of any HTTP request: this one comes to the same server from the same peer, with other words."""
    body = b"" if content is None else json.dumps(content).encode()
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    inner = {**scope, "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    inner["state"] = dict(scope.get("state", {}))
    unread = [body]
    status, parts = 500, list[bytes]()

    async def receive() -> Message:
        if not unread:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": unread.pop(), "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(inner, receive, send)
    return Answer(status, b"".join(parts))
