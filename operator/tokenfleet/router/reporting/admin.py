"""The port of probes, metrics, people and the controller, apart from traffic: /healthz, /readyz, /metrics, /debug/replicas.

GET alone, one request a connection, heads as strict as on the other port, a deadline for all of it, but for the reports that a
controller follows (reports.py). It must never wait for a replica, a client or the Kubernetes API.
"""

import asyncio
import re
from typing import Final

from tokenfleet import contract
from tokenfleet.router.rejections import status_line
from tokenfleet.router.reporting import overview
from tokenfleet.router.reporting.exposition import Exposition, RouterCollector
from tokenfleet.router.reporting.reports import Reports
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire import heads, sockets
from tokenfleet.router.wire.deadlines import NEVER

_SECONDS: Final = 10.0
_HEAD_BYTES: Final = 16 * 1024
_TEXT: Final = b"text/plain; charset=utf-8"
_HTML: Final = b"text/html; charset=utf-8"
_REPORTS: Final = contract.PATH_ROUTER_REPORTS.encode()
_FOLLOWED: Final = status_line(200) + b"content-type: application/x-ndjson\r\nconnection: close\r\n\r\n"
_UNREAD_BYTES: Final = 4 * 1024 * 1024
"""More than this that a follower has not taken is a follower that does not read."""
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"
_NO_KEYS: Final = b"no API keys: the Secret of auth.keysSecret is missing, or none of its entries is valid\n"
_WANTS_HTML: Final = re.compile(rb"(?i:\naccept):[^\r]*text/html")

Page = tuple[int, bytes, bytes]
"""Status, content type, body."""


class Admin:
    """The pages."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.reports = Reports(shared)
        self._exposition = Exposition(RouterCollector(shared))
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; gives back the port."""
        listening = sockets.listen(host, port, untaken_seconds=_SECONDS)
        self._server = await self.shared.loop.create_server(lambda: AdminConnection(self), sock=listening)
        return sockets.port_of(listening)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def page(self, method: bytes, path: bytes, fields: bytes) -> Page:
        """The answer to a request. fields: its header lines."""
        if method != b"GET":
            return 405, _TEXT, b"GET alone.\n"
        match path.partition(b"?")[0]:
            case b"/healthz":
                return 200, _TEXT, b"ok\n"
            case b"/readyz":
                return self._ready()
            case b"/metrics":
                return 200, _METRICS, self._exposition.text()
            case b"/debug/replicas" if _WANTS_HTML.search(fields):
                return 200, _HTML, overview.html(overview.view(self.shared))
            case b"/debug/replicas" | b"/debug/replicas.json":
                return 200, b"application/json", overview.json(overview.view(self.shared))
            case path if path == _REPORTS:
                return 503, _TEXT, b"as many follow the reports as may\n"
        return 404, _TEXT, b"/healthz, /readyz, /metrics, /debug/replicas, /debug/replicas.json, %b\n" % _REPORTS

    def _ready(self) -> Page:
        if self.shared.leaving:
            return 503, _TEXT, b"shutting down\n"
        if not self.shared.catalog.synced:
            return 503, _TEXT, b"the Kubernetes API has not been read yet\n"
        if self.shared.certificates is not None and self.shared.certificates.context is None:
            return 503, _TEXT, f"{self.shared.certificates.trouble}\n".encode()
        if not self.shared.keyring.available:
            return 503, _TEXT, _NO_KEYS
        return 200, _TEXT, b"ok\n"


class AdminConnection(asyncio.Protocol):
    """One request for one page, or for all reports from now on."""

    __slots__ = ("_admin", "_buffer", "_transport", "deadline")

    _transport: asyncio.Transport

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._buffer = b""
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        deadlines = self._admin.shared.deadlines
        self.deadline = deadlines.after(_SECONDS)
        deadlines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._admin.shared.deadlines.discard(self)
        self._admin.reports.leave(self)

    def expire(self) -> None:
        self.deadline = NEVER
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing() or self.deadline == NEVER:
            return
        self._buffer += data
        end = self._buffer.find(heads.END) + 4
        if end >= 4:
            match = heads.REQUEST.fullmatch(self._buffer[:end])
            if match is not None and (match[1], match[2]) == (b"GET", _REPORTS) and not self._admin.reports.full:
                self._follow()
                return
            self._answer((400, _TEXT, b"not HTTP/1.1\n") if match is None else self._admin.page(match[1], match[2], match[4]))
        elif len(self._buffer) > _HEAD_BYTES or heads.hopeless(self._buffer):
            self._answer((400, _TEXT, b"not HTTP/1.1\n"))

    def _follow(self) -> None:
        self.deadline = NEVER
        self._transport.write(_FOLLOWED)
        self._admin.reports.join(self)

    def tell(self, line: bytes) -> None:
        """A line of the reports."""
        if self._transport.get_write_buffer_size() > _UNREAD_BYTES:
            self._transport.abort()
        else:
            self._transport.write(line)

    def _answer(self, page: Page) -> None:
        status, kind, body = page
        fields = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (kind, len(body))
        self._transport.write(status_line(status) + fields + body)
        self._transport.close()
