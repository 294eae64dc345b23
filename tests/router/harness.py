"""A real router on a port of its own, in this process, and fake engines that do as a script says.

Engines are plain asyncio servers: what reaches them is what the router wrote, byte by byte. Time is a number that tests
move (`Router.advance`); nothing here sleeps, `until` only yields to the loop until something is so.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from tokenfleet.router.balancing.replicas import Replicas, Sighting, State
from tokenfleet.router.models import Pool
from tokenfleet.router.reporting.admin import Admin
from tokenfleet.router.reporting.reports import Reports
from tokenfleet.router.shared import Shared
from tokenfleet.router.terms import QueueTerms, Terms
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.server import Server
from tokenfleet.router.wire.tls import Certificates

MODEL = "llama"
NO_QUEUE = Terms(queue=QueueTerms(max_depth=0))
"""So that a request with no place is refused at once, and says why."""
EVENT = b'data: {"choices":[{"delta":{"content":"token"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
_PATIENCE_SECONDS = 10.0


async def until(so: Callable[[], object]) -> None:
    """Return once `so()` is true. Only a hang makes it fail."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0)


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


@dataclass
class Call:
    """A request that reached an engine."""

    method: str
    path: str
    headers: dict[str, str]
    names: list[str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def json(self, payload: object, *, status: int = 200, headers: str = "") -> None:
        """A whole answer."""
        body = msgspec.json.encode(payload)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self.write(head.encode() + body)

    def begin_stream(self) -> None:
        self.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n")

    def event(self, data: bytes = EVENT) -> None:
        self.write(chunk(data))

    def end_stream(self) -> None:
        self.write(chunk(DONE) + b"0\r\n\r\n")

    def reset(self) -> None:
        """End the connection the hard way."""
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return once the router has ended this connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass


Script = Callable[[Call], Awaitable[None]]


async def answer(call: Call) -> None:
    """The script of an engine that is well."""
    if b'"stream":true' in call.body:
        call.begin_stream()
        for _ in range(3):
            call.event()
        call.end_stream()
    else:
        call.json({"ok": True, "echo": len(call.body)})


@dataclass
class Engine:
    """A fake engine."""

    script: Script = answer
    name: str = "engine"
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while call := await self._read(reader, writer):
                self.calls.append(call)
                await self.script(call)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        names = [name.lower() for name, _ in pairs]
        return Call(method, path, headers, names, body, reader, writer)

    def sighting(self, state: State = State.ROUTABLE) -> Sighting:
        return Sighting(key=self.name, name=self.name, host="127.0.0.1", port=self.port, state=state)


@contextlib.asynccontextmanager
async def engines(*scripts: Script) -> AsyncIterator[list[Engine]]:
    """One engine a script, named engine-0, engine-1, ..."""
    made, servers = [], []
    for number, script in enumerate(scripts):
        engine = Engine(script, f"engine-{number}")
        server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
        engine.port = server.sockets[0].getsockname()[1]
        made.append(engine)
        servers.append(server)
    try:
        yield made
    finally:
        for server in servers:
            server.close()


class Router:
    """A router under test."""

    def __init__(self, shared: Shared, server: Server, replicas: Replicas, reports: Reports) -> None:
        self.shared = shared
        self.server = server
        self.reports = reports
        self.replicas = replicas
        self.port = 0
        self.admin = 0
        self.now = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass, for deadlines."""
        self.now += seconds
        self.shared.deadlines.sweep()

    @property
    def in_flight(self) -> int:
        return sum(replica.in_flight for replica in self.replicas.all())

    @property
    def followed(self) -> bool:
        """Somebody follows its reports."""
        return self.reports.followed

    def counted(self, code: int, reason: str) -> int:
        return self.shared.metrics.requests[code, reason]

    async def connect(self, *, limit: int = 1 << 16) -> "Client":
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=limit))

    async def ask(self, data: bytes) -> "Reply":
        """One request on a connection of its own."""
        async with await self.connect() as client:
            client.write(data)
            return await client.reply()


@contextlib.asynccontextmanager
async def router(
    *sightings: Sighting, limits: Limits | None = None, terms: Terms = NO_QUEUE, certificates: Certificates | None = None
) -> AsyncIterator[Router]:
    made: list[Router] = []
    shared = Shared.new(limits or Limits(), clock=lambda: made[0].now if made else 0.0)
    replicas = Replicas(clock=lambda: made[0].now if made else 0.0)
    replicas.observe(sightings)
    model = shared.catalog.model(MODEL)
    model.update(terms, [Pool(MODEL, replicas, served_name=MODEL)], created=1_700_000_000)
    shared.catalog.replace([model])
    shared.catalog.synced = True
    server, admin = Server(shared), Admin(shared)
    one = Router(shared, server, replicas, admin.reports)
    made.append(one)
    one.port = await server.start("127.0.0.1", 0, certificates)
    one.admin = await admin.start("127.0.0.1", 0)
    try:
        yield one
    finally:
        server.stop()
        admin.stop()
        await until(lambda: not shared.clients)


@contextlib.asynccontextmanager
async def fleet(
    *scripts: Script, limits: Limits | None = None, terms: Terms = NO_QUEUE, certificates: Certificates | None = None
) -> AsyncIterator[tuple[Router, list[Engine]]]:
    """A router in front of one engine a script."""
    async with engines(*scripts) as made:
        sightings = (one.sighting() for one in made)
        async with router(*sightings, limits=limits, terms=terms, certificates=certificates) as front:
            yield front, made


@dataclass
class Reply:
    """An answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """It ended as its framing says."""

    @property
    def error(self) -> dict[str, object]:
        found: dict[str, object] = msgspec.json.decode(self.body)["error"]
        return found


class Client:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        self.writer.transport.abort()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines)

    async def reply(self) -> Reply:
        """Read an answer, whole or not."""
        status, headers = await self.head()
        return await self.rest(headers, status=status)

    async def rest(self, headers: dict[str, str], *, status: int = 200) -> Reply:
        """Read what comes behind its head."""
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                whole = await self._body(headers, parts)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if isinstance(error, asyncio.IncompleteReadError):
                parts.append(error.partial)
            whole = False
        return Reply(status, headers, b"".join(parts), whole)

    async def _body(self, headers: dict[str, str], parts: list[bytes]) -> bool:
        if "content-length" in headers:
            parts.append(await self.reader.readexactly(int(headers["content-length"])))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                parts.append((await self.reader.readexactly(size + 2))[:-2])
            await self.reader.readexactly(2)
        else:
            parts.append(await self.reader.read())
        return True

    async def closed(self) -> bool:
        """Whether the router ends this connection without another byte."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


def post(
    body: object = None, *, path: str = "/v1/chat/completions", headers: str = "", version: str = "1.1", stream: bool = False
) -> bytes:
    """A request for a completion."""
    if body is None:
        body = {"model": MODEL, "messages": [], "stream": stream}
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return f"POST {path} HTTP/{version}\r\nHost: x\r\n{headers}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def get(path: str, *, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()
