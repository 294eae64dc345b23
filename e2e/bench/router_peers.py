"""The routers that are compared, each as its makers would have it run on one core: command, configuration, port.

Whatever would slow a peer down and is not its work is off: logs of single requests, databases, authentication. The one that
has everything on is ours: API keys, limits in requests and in tokens, metrics, bodies read, least connections. Where a peer can
look at loads it does (leastconn, power of two); both Rust routers decode the body and write it anew by themselves.
"""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx

from e2e.bench import router_software as software
from e2e.bench.machine import Core, pinned, tree
from e2e.bench.traffic import MODEL, Engines
from e2e.cluster import packages
from e2e.cluster.control_plane import free_ports
from e2e.cluster.processes import Child, Command, Leash, last_lines, wait_until

OURS: Final = software.OURS
NAMES: Final = (OURS, "haproxy", "vllm-router", "sglang-router", "fastapi-httpx", "litellm")
RUST: Final = ("vllm-router", "sglang-router")
KEY: Final = "sk-benchmark-Zp4mXo9sQ1vK7rTe2uYw8aLc6nHd3bJf"
"""What every client sends. Ours looks at it, and LiteLLM, which does not start without a key."""
START_SECONDS: Final = 120.0
_LOTS: Final = 1_000_000_000_000


class PeerError(Exception):
    """This peer does not start, or does not answer as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a peer runs, and what it is in front of."""

    directory: Path
    port: int
    admin_port: int
    engines: Engines
    open_files: int


@dataclass(slots=True)
class Peer:
    """One router, running."""

    name: str
    child: Child
    port: int
    admin_port: int

    @property
    def pids(self) -> tuple[int, ...]:
        return tree(self.child.process.pid)


def start(name: str, engines: Engines, *, leash: Leash, core: Core, directory: Path, open_files: int) -> Peer:
    """Start it, and see it answer a request and a stream rightly."""
    own = directory / name
    own.mkdir(parents=True)
    port, admin_port = free_ports(2)
    place = Place(directory=own, port=port, admin_port=admin_port, engines=engines, open_files=open_files)
    command = _COMMANDS[name](place)
    command = Command(command.name, pinned(core, command.argv), command.environment)
    peer = Peer(name, leash.start(command, own / "log"), port, admin_port)
    problems: list[str] = []

    def answers() -> bool:
        if not peer.child.running():
            return True
        problems[:] = [_problem(peer)]
        return not problems[0]

    if not wait_until(answers, seconds=START_SECONDS, pause=0.25) or not peer.child.running():
        what = problems[0] if peer.child.running() and problems else "it has ended"
        stop(peer)
        raise PeerError(f"{name} does not start: {what}\n{last_lines(own / 'log')}")
    return peer


def stop(peer: Peer) -> None:
    """At once, and what it has started too."""
    for pid in reversed(peer.pids[1:]):
        _kill(pid)
    peer.child.kill()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _problem(peer: Peer) -> str:
    """What is wrong with this peer's answers; empty where nothing is."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "ask-00000000000000ab"}], "max_tokens": 3, "seed": 1}
    url, headers = f"http://127.0.0.1:{peer.port}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}
    with httpx.Client(trust_env=False, timeout=20, headers=headers) as client:
        try:
            whole = client.post(url, json={**body, "stream": False})
            if whole.status_code != 200 or whole.json()["id"] != "chatcmpl-00000000000000ab":
                return f"{whole.status_code} {whole.text[:300]}"
            stream = client.post(url, json={**body, "stream": True}).text
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return str(error) or type(error).__name__
    tokens = [f"tkn{number:07d}" in stream for number in range(3)]
    return "" if all(tokens) and "data: [DONE]" in stream else f"a stream is not whole: {stream[:300]}"


# --- How each is run -------------------------------------------------------------------------------------------------------


def _tokenfleet(place: Place) -> Command:
    keys = place.directory / "keys"
    keys.mkdir()
    key = {
        "sha256": sha256(KEY.encode()).hexdigest(),
        "lastFour": KEY[-4:],
        "name": "benchmark",
        "requestsPerMinute": _LOTS,
        "tokensPerMinute": _LOTS,
    }
    (keys / "benchmark").write_text(json.dumps(key))
    spec = {"policy": "LeastConnections", "maxInFlight": 1024, "maxConnectionsPerPeer": 10_000}
    environment = {
        "TOKENFLEET_ROUTER_HOST": "127.0.0.1",
        "TOKENFLEET_ROUTER_PORT": str(place.port),
        "TOKENFLEET_ROUTER_ADMIN_PORT": str(place.admin_port),
        "TOKENFLEET_ROUTER_STATIC_REPLICAS": ",".join(place.engines.addresses),
        "TOKENFLEET_ROUTER_STATIC_MODEL": MODEL,
        "TOKENFLEET_ROUTER_STATIC_SPEC": json.dumps(spec),
        "TOKENFLEET_ROUTER_KEYS_DIR": str(keys),
        "PYTHONPATH": str(software.ROOT / "operator"),
    }
    return Command(OURS, (software.binary(OURS, "python"), "-m", "tokenfleet.router.main"), environment)


def _haproxy(place: Place) -> Command:
    servers = (f"    server engine-{number} {address}" for number, address in enumerate(place.engines.addresses))
    lines = (
        "global",
        "    nbthread 1",
        f"    maxconn {min(20_000, (place.open_files - 200) // 2)}",
        "defaults",
        "    mode http",
        "    timeout connect 5s",
        "    timeout client 600s",
        "    timeout server 600s",
        "    option http-no-delay",
        "    http-reuse always",
        "frontend clients",
        f"    bind 127.0.0.1:{place.port}",
        "    default_backend engines",
        "backend engines",
        "    balance leastconn",
        *servers,
    )
    configuration = place.directory / "haproxy.cfg"
    configuration.write_text("\n".join(lines) + "\n")
    return Command("haproxy", (packages.program("haproxy"), "-db", "-f", str(configuration)))


def _rust(name: str, *subcommand: str, quiet: str) -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        ports = ("--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.admin_port))
        how = ("--policy", "power_of_two", "--log-level", quiet)
        return Command(name, (software.binary(name, name), *subcommand, *ports, *how, "--worker-urls", *place.engines.urls))

    return command


def _fastapi(place: Place) -> Command:
    where = ("--app-dir", str(Path(__file__).parent / "programs"), "--host", "127.0.0.1", "--port", str(place.port))
    how = ("--workers", "1", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
    argv = (software.binary("fastapi-httpx", "uvicorn"), *where, *how, "fastapi_httpx:app")
    return Command("fastapi-httpx", argv, {"ENGINES": ",".join(place.engines.urls), "PYTHONDONTWRITEBYTECODE": "1"})


def _litellm(place: Place) -> Command:
    def engine(url: str) -> dict[str, object]:
        return {"model_name": MODEL, "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}}

    configuration = place.directory / "litellm.json"  # JSON is YAML
    configuration.write_text(json.dumps({"model_list": [engine(url) for url in place.engines.urls]}))
    argv = (
        software.binary("litellm", "litellm"),
        "--config",
        str(configuration),
        "--host",
        "127.0.0.1",
        "--port",
        str(place.port),
    )
    quiet = {
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    return Command("litellm", (*argv, "--num_workers", "1", "--telemetry", "False"), quiet)


_COMMANDS: Final[Mapping[str, Callable[[Place], Command]]] = {
    OURS: _tokenfleet,
    "haproxy": _haproxy,
    "vllm-router": _rust("vllm-router", quiet="warning"),
    "sglang-router": _rust("sglang-router", "launch", quiet="warn"),
    "fastapi-httpx": _fastapi,
    "litellm": _litellm,
}
