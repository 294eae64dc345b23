"""A server of the OpenAI API for the tests of commands: what it answers is said, and what it was asked is kept."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass
class OpenAI:
    words: Sequence[str] = ("A fleet ", "is many ", "ships.")
    models: Sequence[str] = ("demo",)
    refusals: dict[str, tuple[int, Json, str]] = field(default_factory=dict)
    """By path: status, headers and body of what is answered instead."""
    broken: bool = False
    """The stream ends with an error event after its first word."""
    asked: list[tuple[str, Json, str | None]] = field(default_factory=list)
    """Path, body and Authorization of each request."""
    url: str = ""

    @contextlib.contextmanager
    def running(self, context: ssl.SSLContext | None = None) -> Iterator["OpenAI"]:
        """context: it speaks TLS."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._take(self, {})

            def do_POST(self) -> None:
                outer._take(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            if context is not None:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            try:
                yield self
            finally:
                server.shutdown()

    def _take(self, request: BaseHTTPRequestHandler, body: Json) -> None:
        self.asked.append((request.path, body, request.headers.get("Authorization")))
        status, headers, text = self.refusals.get(request.path, (200, {}, ""))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, str(value))
        request.end_headers()
        if status == 200:
            text = text or (self._models() if request.path == "/v1/models" else self._stream(plain="prompt" in body))
        request.wfile.write(text.encode())

    def _models(self) -> str:
        return json.dumps({"data": [{"id": model} for model in self.models]})

    def _stream(self, *, plain: bool) -> str:
        said = self.words[:1] if self.broken else self.words
        events: list[Json] = [{"choices": [{"text": word} if plain else {"delta": {"content": word}}]} for word in said]
        if self.broken:
            events.append({"error": {"message": "the replica was lost", "code": 500}})
        else:
            events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            events.append({"choices": [], "usage": {"completion_tokens": len(self.words)}})
        return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


def refusal(message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "x", "code": "x"}})
