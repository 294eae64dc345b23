"""A kubelet as far as logs go: the API server asks it, over TLS, for what a container wrote.

Its Node has an address on the loopback, so a controller's read of a log goes the whole way that it goes in a cluster.
"""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from e2e.cluster.control_plane import ControlPlane

NODE = "of-logs"


class Kubelet:
    """Serves `logs` of pods on NODE; one that it does not have is a 404."""

    def __init__(self, plane: ControlPlane, api: httpx.Client) -> None:
        self.logs: dict[str, str] = {}
        """By pod."""
        self.reads: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        pair = plane.layout.authority.pair("kubelet-server")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._api = api

    def __enter__(self) -> Self:
        self._thread.start()
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        self._api.post("/api/v1/nodes", json=node).raise_for_status()
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_port}},
        }
        headers = {"Content-Type": "application/merge-patch+json"}
        self._api.patch(f"/api/v1/nodes/{NODE}/status", json={"status": status}, headers=headers).raise_for_status()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._api.delete(f"/api/v1/nodes/{NODE}")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, kind, _, pod, _ = urlsplit(self.path).path.split("/")
                text = kubelet.logs.get(pod)
                kubelet.reads.append(pod)
                body = (text or f"no log of {pod}").encode()
                self.send_response(200 if kind == "containerLogs" and text is not None else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_: object) -> None:
                """To nobody."""

        return Handler
