"""What following the routers costs the controller: 1,000 LLMDeployments with two routers each, idle, and a part of them busy.

The routers are a process of their own that speaks as they do: a line at first, an empty one each ten seconds, and a whole one
each second for those that are busy. Beside it runs what the controller has for them: followers, board and autoscaler, on a
store that is filled by hand; there is no API server. Memory and CPU are this process's. At the end a request wakes a model that
sleeps, again and again: the time from the order to its router until the decision.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from e2e.cluster.control_plane import free_ports
from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Key, Store
from tokenfleet.controller.surroundings import Surroundings
from tokenfleet.controller.work_queue import WorkQueue

RESULT: Final = Path("build/bench/signals.json")
NAMESPACE: Final = "bench"
ROUTERS: Final = 2
"""Of each LLMDeployment."""
WAKES: Final = 50
_SCALING: Final = {"minReplicas": 0, "maxReplicas": 4, "scaleToZeroAfterSeconds": 86_400}
_PAGE_KILOBYTES: Final = os.sysconf("SC_PAGE_SIZE") / 1024


def main() -> None:
    arguments = _arguments()
    if arguments.serve:
        asyncio.run(serve(arguments.serve))
    else:
        asyncio.run(measure(arguments.deployments, idle=arguments.idle, busy=arguments.busy))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--deployments", type=int, default=1000, help="LLMDeployments (1000)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds for which the idle ones are watched (20)")
    parser.add_argument("--busy", type=int, default=100, help="LLMDeployments that have traffic afterwards (100)")
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- The routers ----------------------------------------------------------------------------------------------------------


def _line(name: str, *, waiting: int = 0, in_flight: int = 0, requests: int = 0) -> bytes:
    ttft, itl = [0] * (len(contract.REPORT_TTFT_BOUNDS) + 1), [0] * (len(contract.REPORT_ITL_BOUNDS) + 1)
    ttft[8], itl[9] = requests, 40 * requests
    track = {"requests": requests, "failed": 0, "ttft": {"sum": 1.5, "counts": ttft}, "itl": {"sum": 1.5, "counts": itl}}
    levels = {
        "waiting": waiting,
        "pending": 0,
        "running": 0,
        "ended": requests,
        "replicas": {f"{name}-engine-0": {"inFlight": in_flight, "state": "routable"}},
        "tracks": {"stable": track} if requests else {},
        "idleSeconds": 0.0 if requests or waiting else None,
    }
    return json.dumps({"leaving": False, "deployments": {name: levels}}).encode() + b"\n"


class Routers:
    """All of them, on one port; whose a connection is, its path says."""

    def __init__(self) -> None:
        self.writers: dict[str, list[asyncio.StreamWriter]] = {}
        self.busy = 0
        self.beats = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # Somebody looked whether we listen.
            writer.close()
            return
        name = head.split(b" ", 2)[1].rsplit(b"/", 1)[1].decode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n" + _line(name))
        self.writers.setdefault(name, []).append(writer)

    async def beat(self) -> None:
        """A tenth of the connections each second, as if they had begun at different times; and the busy ones."""
        while True:
            self.beats += 1
            for number, (name, writers) in enumerate(list(self.writers.items())):
                if number < self.busy:
                    for writer in writers:
                        writer.write(_line(name, in_flight=self.beats % 7, requests=10 * self.beats))
                elif number % 10 == self.beats % 10:
                    for writer in writers:
                        writer.write(b"\n")
            await asyncio.sleep(1)

    async def obey(self) -> None:
        """Orders come line by line on standard input: `busy N`, `wait NAME`, `rest NAME`."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while order := (await reader.readline()).decode().split():
            if order[0] == "busy":
                self.busy = int(order[1])
            else:
                self.writers[order[1]][0].write(_line(order[1], waiting=int(order[0] == "wait")))


async def serve(port: int) -> None:
    routers = Routers()
    server = await asyncio.start_server(routers.accept, "127.0.0.1", port, backlog=4096)
    async with server:
        beating = asyncio.create_task(routers.beat())
        await routers.obey()
        beating.cancel()


# --- The controller's side -------------------------------------------------------------------------------------------------


class NoApi:
    """Nobody asks the API for anything here."""

    async def call(self, method: str, path: str) -> Json:
        raise AssertionError(f"{method} {path}")

    async def post_event(self, event: Json) -> None:
        pass


def fill(store: Store, count: int) -> None:
    """The LLMDeployments, asleep or with an engine, and their routers."""
    version = 0
    for number in range(count):
        name, uid = f"model-{number}", f"uid-{number}"
        asleep = number >= count - WAKES
        spec = {"model": {"source": "pvc://models/llama"}, "accelerator": "simulated", "autoscaling": _SCALING}
        status = {"scaling": {"desired": int(not asleep), "actuator": "Builtin", "specReplicas": 1}}
        objects = [
            {
                "apiVersion": contract.API_VERSION,
                "kind": contract.KIND,
                "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "generation": 1},
                "spec": spec,
                "status": status,
            },
            *(_pod(name, contract.ROLE_ROUTER, replica) for replica in range(ROUTERS)),
            *([] if asleep else [_pod(name, contract.ROLE_ENGINE, 0)]),
        ]
        for body in objects:
            version += 1
            body["metadata"]["resourceVersion"] = str(version)
            store.put(body)


def _pod(owner: str, role: str, number: int) -> Json:
    name = f"{owner}-{role}-{number}"
    labels = {contract.LABEL_DEPLOYMENT: owner, contract.LABEL_ROLE: role}
    ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "labels": labels},
        "spec": {"nodeName": "node-0"},
        "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": ready},
    }


@contextmanager
def routers(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """All routers' process, once it listens."""
    process = subprocess.Popen([sys.executable, "-m", "e2e.bench.signals", "--serve", str(port)], stdin=subprocess.PIPE)
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


async def measure(count: int, *, idle: float, busy: int) -> None:
    _allow_files(ROUTERS * count + 200)
    (port,), store, queue = free_ports(1), Store(), WorkQueue()
    fill(store, count)

    def address(pod: Json) -> str:
        return f"http://127.0.0.1:{port}/{pod['metadata']['labels'][contract.LABEL_DEPLOYMENT]}"

    around = Surroundings(store, queue, NoApi(), CollectorRegistry(), identity="bench", doomed_nodes=frozenset, address=address)
    with routers(port) as process:
        before, began = _resident_kilobytes(), time.monotonic()
        tasks = around.start()
        async with asyncio.timeout(120):
            while around.board.counts()[0] < ROUTERS * count:
                await asyncio.sleep(0.05)
        connected = time.monotonic() - began
        await asyncio.sleep(3)
        kilobytes = (_resident_kilobytes() - before) / (ROUTERS * count)
        idle_share = await _cpu_share(idle)
        _order(process, f"busy {busy}")
        await asyncio.sleep(3)
        busy_share = await _cpu_share(min(idle, 10))
        _order(process, "busy 0")
        await asyncio.sleep(2)
        wakes = [await _wake(process, around, f"model-{number}") for number in range(count - WAKES, count)]
        await around.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    result = {
        "deployments": count,
        "routers": ROUTERS * count,
        "connect_s": round(connected, 2),
        "kilobytes_per_router": round(kilobytes, 1),
        "idle_cpu_percent": round(100 * idle_share, 2),
        "busy_deployments": busy,
        "busy_cpu_percent": round(100 * busy_share, 2),
        "wake_decision_ms": {"median": round(1000 * statistics.median(wakes), 1), "worst": round(1000 * max(wakes), 1)},
    }
    _print(result)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {RESULT}")


async def _wake(process: "subprocess.Popen[bytes]", around: Surroundings, name: str) -> float:
    """Seconds from the order to its router until the decision."""
    key: Key = (contract.KIND, NAMESPACE, name)
    assert around.wanted(key) == 0, name
    began = time.monotonic()
    _order(process, f"wait {name}")
    async with asyncio.timeout(10):
        while not around.wanted(key):
            await asyncio.sleep(0.0005)
    return time.monotonic() - began


def _order(process: "subprocess.Popen[bytes]", order: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{order}\n".encode())
    process.stdin.flush()


async def _cpu_share(seconds: float) -> float:
    """The part of a core that this process takes."""
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - began)


def _resident_kilobytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KILOBYTES


def _allow_files(count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(count, 8192)), hard))


def _print(result: dict[str, Any]) -> None:
    for name, value in result.items():
        print(f"{name:24}{value}")


if __name__ == "__main__":
    main()
