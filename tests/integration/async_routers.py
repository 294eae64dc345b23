"""Real routers as processes of their own with a durable queue in a real Redis, and an engine that can be killed."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from e2e.cluster.control_plane import free_ports
from e2e.cluster.processes import Child, Command, Leash
from tests.router.harness import Call, Engine, Script
from tokenfleet import contract

Json = dict[str, Any]
MODEL = "llama"
PATIENCE_SECONDS = 30.0
ENDED = ("succeeded", "failed", "cancelled", "dead")


async def until(what: str, so: Callable[[], object]) -> None:
    """Return once `so()` is true."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not so():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_SECONDS:g} s for {what}") from None


class KillableEngine:
    """A fake engine on a port of its own, which ends and comes back like a process."""

    def __init__(self, script: Script) -> None:
        self.engine = Engine(script)
        self.port = free_ports(1)[0]
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def calls(self) -> list[Call]:
        return self.engine.calls

    async def start(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            await self.engine.serve(reader, writer)

        self._server = await asyncio.start_server(serve, "127.0.0.1", self.port)

    def kill(self) -> None:
        """It listens no more, and all connections break."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@dataclass
class Router:
    """A running router, and a client of it."""

    child: Child
    http: httpx.AsyncClient
    admin: int

    async def metric(self, name: str) -> float:
        """A sample, by its name and labels; 0 where there is none."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://127.0.0.1:{self.admin}/metrics")).text
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    async def shows(self, name: str, value: float) -> None:
        """Return once the metric has this value."""
        seen = 0.0
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (seen := await self.metric(name)) != value:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{name} is {seen:g}, not {value:g}") from None

    async def ready(self) -> bool:
        assert self.child.running(), self.child.log.read_text()
        try:
            return (await self.http.get("/v1/models", headers={"authorization": "Bearer nobody's"})).status_code in (200, 401)
        except httpx.HTTPError:
            return False

    async def post(
        self, body: Json | None = None, *, path: str = "/v1/async/completions", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return await self.http.post(path, json={"model": MODEL, "prompt": "x"} if body is None else body, headers=headers)

    async def accepted(self) -> str:
        """The id of a request that was accepted."""
        answer = await self.post()
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def state(self, id_: str) -> Json:
        answer = await self.http.get(f"/v1/async/requests/{id_}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ended(self, id_: str) -> Json:
        """The request, once it has ended."""
        state: Json = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (state := await self.state(id_))["status"] not in ENDED:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{id_} has not ended: {state}") from None
        return state

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def signal(self, number: signal.Signals) -> None:
        self.child.process.send_signal(number)

    @property
    def log(self) -> str:
        return self.child.log.read_text()


@dataclass
class Routers:
    """Starts routers that share one queue; none outlives it."""

    directory: Path
    redis_url: str
    leash: Leash = field(default_factory=Leash)
    started: list[Router] = field(default_factory=list)

    async def start(self, *engines: KillableEngine, keys: dict[str, Json] | None = None, **terms: object) -> Router:
        """Return once it serves. terms: of spec.router.async; a whole `spec` goes before."""
        url_file = self.directory / "redis-url"
        url_file.write_text(self.redis_url + "\n")
        spec = {"maxInFlight": 4, **_camel(terms)}
        spec["async"] = {"enabled": True, "visibilitySeconds": 1, "maxTries": 3} | dict(spec.get("async", {}))
        port, admin = free_ports(2)
        environment = {
            "TOKENFLEET_ROUTER_HOST": "127.0.0.1",
            "TOKENFLEET_ROUTER_PORT": str(port),
            "TOKENFLEET_ROUTER_ADMIN_PORT": str(admin),
            "TOKENFLEET_ROUTER_LAME_DUCK_SECONDS": "0",
            "TOKENFLEET_DRAIN_SECONDS": "1",
            "TOKENFLEET_ROUTER_STATIC_REPLICAS": ",".join(f"127.0.0.1:{engine.port}" for engine in engines),
            "TOKENFLEET_ROUTER_STATIC_MODEL": MODEL,
            "TOKENFLEET_ROUTER_STATIC_SPEC": json.dumps(spec),
            contract.ENV_ROUTER_REDIS_URL_FILE: str(url_file),
        }
        if keys is not None:
            environment[contract.ENV_ROUTER_KEYS_DIR] = str(self._keys(keys))
        number = len(self.started)
        command = Command(f"router-{number}", (sys.executable, "-m", "tokenfleet.router.main"), environment)
        child = self.leash.start(command, self.directory / f"router-{number}.log")
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)
        self.started.append(router := Router(child, http, admin))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await router.ready():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return router

    def _keys(self, keys: dict[str, Json]) -> Path:
        directory = self.directory / "keys"
        directory.mkdir(exist_ok=True)
        for name, entry in keys.items():
            (directory / name).write_text(json.dumps(entry))
        return directory

    async def close(self) -> None:
        self.leash.close()
        for router in self.started:
            await router.http.aclose()


def _camel(terms: dict[str, object]) -> dict[str, Any]:
    """spec.router of keyword arguments: spec={...} as it is, all others into its `async`."""
    spec: dict[str, Any] = dict(terms.pop("spec", {}))  # type: ignore[call-overload]
    if terms:
        spec["async"] = {_of(name): value for name, value in terms.items()}
    return spec


def _of(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@contextlib.asynccontextmanager
async def engine(script: Script) -> AsyncIterator[KillableEngine]:
    """A running one."""
    made = KillableEngine(script)
    await made.start()
    try:
        yield made
    finally:
        made.kill()
