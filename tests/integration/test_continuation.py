"""A router and simulated engines as processes: an engine is killed in the middle of all its streams, and no client notices."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

import tokenfleet
import tokenfleet_engine
from e2e.cluster.control_plane import free_ports
from e2e.cluster.processes import Child, Command, Leash
from tests.router.harness import Reply
from tests.router.simulated import Told, told

MODEL = "demo"
SITE = os.pathsep.join(str(Path(module.__file__ or "").parents[1]) for module in (tokenfleet, tokenfleet_engine))
FLAGS = ("--ttft-ms", "20", "--itl-ms", "10", "--answer-tokens", "0", "--max-model-len", "1024")
STREAMS = 24
_PATIENCE_SECONDS = 30.0


@dataclass
class Site:
    """One router in front of engines."""

    directory: Path
    leash: Leash
    ports: list[int]
    engines: list[Child] = field(default_factory=list)
    url: str = ""
    admin: str = ""

    def start_engine(self, number: int) -> Child:
        port = self.ports[number]
        served = ("--served-name", MODEL, "--host", "127.0.0.1", "--port", str(port))
        log = ("--termination-log", str(self.directory / "termination"))
        argv = (sys.executable, "-m", "tokenfleet_engine.main", "simulate", *served, *log, "--", *FLAGS)
        command = Command(f"engine-{number}", argv, {"PYTHONPATH": SITE})
        return self.leash.start(command, self.directory / f"engine-{number}.log")

    def start_router(self) -> None:
        port, admin = free_ports(2)
        environment = {
            "PYTHONPATH": SITE,
            "TOKENFLEET_ROUTER_HOST": "127.0.0.1",
            "TOKENFLEET_ROUTER_PORT": str(port),
            "TOKENFLEET_ROUTER_ADMIN_PORT": str(admin),
            "TOKENFLEET_ROUTER_STATIC_REPLICAS": ",".join(f"127.0.0.1:{each}" for each in self.ports),
            "TOKENFLEET_ROUTER_STATIC_MODEL": MODEL,
        }
        self.leash.start(
            Command("router", (sys.executable, "-m", "tokenfleet.router.main"), environment), self.directory / "router.log"
        )
        self.url, self.admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"

    async def continuations(self) -> dict[str, int]:
        name = "llm_router_continuations_total"
        async with httpx.AsyncClient(trust_env=False) as client:
            lines = (await client.get(f"{self.admin}/metrics")).text.splitlines()
        found = [line.removeprefix(name + '{result="').split('"} ') for line in lines if line.startswith(name + "{")]
        return {result: int(float(count)) for result, count in found}


@contextlib.asynccontextmanager
async def site(directory: Path, *, engines: int) -> AsyncIterator[Site]:
    leash = Leash()
    made = Site(directory, leash, list(free_ports(engines)))
    try:
        made.engines = [made.start_engine(number) for number in range(engines)]
        made.start_router()
        for url in (made.url + "/v1/models", *(f"http://127.0.0.1:{port}/ready" for port in made.ports)):
            await answers(url)
        yield made
    finally:
        leash.close()


async def answers(url: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def stream(client: httpx.AsyncClient, number: int) -> tuple[Told, float]:
    """What one client understands, and the longest time in which it heard nothing."""
    body: dict[str, object] = {
        "model": MODEL,
        "stream": True,
        "max_tokens": 200,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    }
    path = "/v1/chat/completions" if number % 2 else "/v1/completions"
    if number % 2:
        body["messages"] = [{"role": "user", "content": f"Story {number}"}]
    else:
        body["prompt"] = f"Story {number}"
    parts, pause, last = [], 0.0, 0.0
    async with client.stream("POST", path, json=body) as answer:
        async for part in answer.aiter_raw():
            now = time.monotonic()
            pause = max(pause, now - last) if last else 0.0
            last = now
            parts.append(part)
    found = told(Reply(answer.status_code, dict(answer.headers), b"".join(parts), True))
    assert len(found.headings) == 1
    found.headings = set()
    return found, pause


async def test_streams_of_a_killed_engine_go_on_with_the_others(tmp_path: Path) -> None:
    async with site(tmp_path, engines=3) as fleet, httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=60) as client:
        wanted = await asyncio.gather(*(stream(client, number) for number in range(STREAMS)))
        running = [asyncio.create_task(stream(client, number)) for number in range(STREAMS)]
        await asyncio.sleep(0.8)
        fleet.engines[0].kill()
        began = time.monotonic()
        late = await asyncio.gather(*(stream(client, number) for number in range(STREAMS, STREAMS + 6)))
        got = await asyncio.gather(*running)
        assert [told for told, _ in got] == [told for told, _ in wanted]
        assert all(told.done for told, _ in late)
        assert max(pause for _, pause in got) < 5, json.dumps([pause for _, pause in got])
        assert time.monotonic() - began < 30
        results = await fleet.continuations()
        assert results.keys() == {"continued"}
        assert results["continued"] >= STREAMS // 6


async def test_streams_of_the_only_engine_wait_until_it_is_back(tmp_path: Path) -> None:
    async with site(tmp_path, engines=1) as fleet, httpx.AsyncClient(base_url=fleet.url, trust_env=False, timeout=60) as client:
        wanted = await asyncio.gather(*(stream(client, number) for number in range(8)))
        running = [asyncio.create_task(stream(client, number)) for number in range(8)]
        await asyncio.sleep(0.8)
        fleet.engines[0].kill()
        late = asyncio.create_task(stream(client, 8))
        await asyncio.sleep(0.5)
        fleet.start_engine(0)
        got = await asyncio.gather(*running)
        assert [told for told, _ in got] == [told for told, _ in wanted]
        assert (await late)[0].done
        assert await fleet.continuations() == {"continued": 8}
