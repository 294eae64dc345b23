"""Both ends of a benchmark of routers, as Python sees them: fake engines, and clients that measure.

The Go program in programs/traffic does the work (its engine.go says what an engine answers, load.go what a client does); here
it is compiled into the cache, started, and what it prints is read. It must not be the bottleneck, hence Go and one bare epoll.
"""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from e2e.bench.machine import Core, pinned
from e2e.cluster import go, paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Child, Command, Leash, last_lines, wait_until
from e2e.cluster.progress import step

ENGINES: Final = 8
MODEL: Final = "llama"
_SOURCE: Final = Path(__file__).parent / "programs" / "traffic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What a measurement came to; the fields of load.go's Count."""

    requests: int
    errors: int
    seconds: float
    cpu_s: float
    """Of the watched processes."""
    first_error: str = ""
    rss_mb: float = 0.0
    events: int = 0
    """Of streams."""
    reads: int = 0
    """How many pieces they came in."""
    open: int = 0
    """Streams, or requests without an answer, at the end."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    aborted: int = 0


class TrafficError(Exception):
    """The clients could not go on, mostly because the watched process has ended."""


def program() -> Path:
    """The compiled program; compiles it first where it is missing."""
    command, version = go.find()
    digest = hashlib.sha256(version.encode())
    sources = sorted(path for path in _SOURCE.iterdir() if path.suffix in (".go", ".mod"))
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    made = paths.bench() / f"traffic-{digest.hexdigest()[:12]}"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        with step("Compiling the fake engines and clients"), tempfile.TemporaryDirectory(dir=made.parent) as scratch:
            target = Path(scratch) / "traffic"
            argv: list[str | Path] = [command, "build", "-trimpath", "-buildvcs=false", "-o", target, "."]
            answer = subprocess.run(argv, cwd=_SOURCE, env=go.environment(), capture_output=True, text=True, check=False)
            if answer.returncode != 0:
                raise ClusterError(f"`go build` in {_SOURCE} failed:\n{answer.stderr}")
            target.rename(made)
    return made


class Engines:
    """Fake engines in one process, each on a port of its own."""

    def __init__(self, leash: Leash, core: Core, ports: Sequence[int], log: Path) -> None:
        self.ports = tuple(ports)
        argv = (str(program()), "engines", "--ports", ",".join(map(str, ports)))
        self.child: Child = leash.start(Command("engines", pinned(core, argv)), log)
        if not wait_until(lambda: '"ready"' in log.read_text() or not self.child.running(), seconds=10):
            raise ClusterError(f"the fake engines do not start:\n{last_lines(log)}")
        if not self.child.running():
            raise ClusterError(f"the fake engines ended:\n{last_lines(log)}")

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"http://{address}" for address in self.addresses)

    def in_flight(self) -> int:
        """Requests that the engines still work on."""
        found: dict[str, int] = httpx.get(f"{self.urls[0]}/stats", trust_env=False).json()
        return found["in_flight"]


@dataclass(frozen=True, slots=True)
class Clients:
    """Runs one kind of load after the other against one address."""

    core: Core
    port: int
    key: str
    pids: tuple[int, ...] = ()

    def closed(self, *, seconds: float, warm: float = 0.5, connections: int = 64) -> Count:
        """The next request as soon as the answer is there."""
        return self._run("closed", seconds=seconds, warm=warm, connections=connections)

    def open(self, *, rate: float, seconds: float, warm: float = 0.5) -> Count:
        """Poisson arrivals; the time of each answer counts from when its request was due."""
        return self._run("open", seconds=seconds, warm=warm, rate=rate)

    def streams(self, *, streams: int, step_ms: int, seconds: float, warm: float = 0.5, patience: float = 30) -> Count:
        """Streams that last for all of it. The processes' memory is read at its end, with all of them open."""
        return self._run("streams", seconds=seconds, warm=warm, streams=streams, step=step_ms, patience=f"{patience:g}s")

    def aborts(self, *, requests: int) -> Count:
        """Half of the requests end as they should; of the others the clients go away."""
        return self._run("aborts", seconds=0, warm=0, requests=requests)

    def _run(self, kind: str, *, seconds: float, warm: float, **options: float | str) -> Count:
        options |= {
            "to": f"127.0.0.1:{self.port}",
            "key": self.key,
            "model": MODEL,
            "seconds": f"{seconds:g}s",
            "warm": f"{warm:g}s",
        }
        options["pids"] = ",".join(map(str, self.pids))
        argv = (str(program()), kind, *(f"--{name}={value}" for name, value in options.items()))
        answer = subprocess.run(pinned(self.core, argv), capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise TrafficError(answer.stderr.strip() or f"`traffic {kind}` ended with {answer.returncode}")
        fields: dict[str, Any] = json.loads(answer.stdout)
        return Count(**fields)
