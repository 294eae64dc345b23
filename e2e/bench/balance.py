"""How evenly several routers load the same replicas, with nothing but what engines say of their load to go by.

Real routers with a static list of replicas, fake engines, and requests that come at random times to routers at random: half of
them streamed, a few very long. The figure is max/mean of the replicas' requests in flight at one moment, in the mean over all
moments; 1 is perfect, and out of reach, since requests end when they like. Each replica's mean over time would be an easier
figure (what is uneven now is made good later); its max/mean stands beside it. So does what the same arrivals come to while
engines say nothing of their load, and where routers do not look at load at all.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from e2e.bench.arrivals import HOST, MEAN_SECONDS, MODEL, Engine, Figures, Load, Meter, Target
from e2e.cluster.control_plane import free_ports
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Command, Leash, last_lines, wait_until

RESULT: Final = Path("build/bench/balance.json")
WANTED: Final = 1.15
OURS: Final = "tokenfleet"
SILENT: Final = "tokenfleet, engines say nothing"
ROUND_ROBIN: Final = "round robin in each router"
RANDOM: Final = "random"
WARM_SECONDS: Final = 1.5


@contextmanager
def running_routers(count: int, engines: Sequence[int]) -> Iterator[list[int]]:
    """Their ports."""
    leash = Leash()
    try:
        with tempfile.TemporaryDirectory(prefix="tokenfleet-balance-") as directory:
            ports, admin_ports = free_ports(count), free_ports(count)
            environment = {
                "TOKENFLEET_ROUTER_HOST": HOST,
                "TOKENFLEET_ROUTER_STATIC_REPLICAS": ",".join(f"{HOST}:{port}" for port in engines),
                "TOKENFLEET_ROUTER_STATIC_MODEL": MODEL,
                "TOKENFLEET_LOG_LEVEL": "warning",
            }
            for number, (port, admin) in enumerate(zip(ports, admin_ports, strict=True)):
                own = {"TOKENFLEET_ROUTER_PORT": str(port), "TOKENFLEET_ROUTER_ADMIN_PORT": str(admin)}
                command = Command(f"router {number}", (sys.executable, "-m", "tokenfleet.router.main"), environment | own)
                leash.start(command, Path(directory) / f"{number}.log")
            for number, admin in enumerate(admin_ports):
                if not wait_until(partial(_ready, admin), seconds=20):
                    raise ClusterError(f"router {number} does not start: {last_lines(Path(directory) / f'{number}.log')}")
            yield ports
    finally:
        leash.close()


def _ready(admin_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{admin_port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _round_robin(routers: int, engines: Sequence[int], chance: random.Random) -> Target:
    """As so many routers do it that each begin somewhere and go on in a circle."""
    circles = [itertools.islice(itertools.cycle(engines), chance.randrange(len(engines)), None) for _ in range(routers)]
    return lambda: next(chance.choice(circles))


async def _measure(engines: Sequence[int], target: Target, *, reports: bool, depth: int, crowd: int, seconds: float) -> Figures:
    """One way of choosing, under load that gives each engine `depth` requests in the mean."""
    loop = asyncio.get_running_loop()
    meter = Meter(len(engines), loop.time, crowd=crowd)
    servers = [
        await loop.create_server(partial(Engine, number, meter, reports=reports), HOST, port)
        for number, port in enumerate(engines)
    ]
    loop.call_later(WARM_SECONDS, meter.begin)
    await Load(meter, target, rate=depth * len(engines) / MEAN_SECONDS, seed=1).run(WARM_SECONDS + seconds)
    figures = meter.figures()
    for server in servers:
        server.close()
    return figures


def measure(
    names: Sequence[str] = (OURS, SILENT, ROUND_ROBIN, RANDOM),
    *,
    routers: int = 4,
    replicas: int = 8,
    depth: int = 16,
    crowd: int = 0,
    seconds: float = 4.5,
) -> Mapping[str, Figures]:
    """All of these ways, one after the other, each with engines and routers that know nothing of the last one."""
    found = {}
    for name in names:
        chance = random.Random(2)
        engines = free_ports(replicas)
        with ExitStack() as stack:
            if name == ROUND_ROBIN:
                target = _round_robin(routers, engines, chance)
            else:
                ports = engines if name == RANDOM else stack.enter_context(running_routers(routers, engines))
                target = partial(chance.choice, ports)
            found[name] = uvloop.run(_measure(engines, target, reports=name == OURS, depth=depth, crowd=crowd, seconds=seconds))
    return found


def measure_imbalance(*, seconds: float = 8.0) -> float:
    """Of four of our routers in front of eight engines."""
    return measure((OURS,), seconds=seconds)[OURS].imbalance


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.balance", description=__doc__)
    parser.add_argument("--routers", type=int, default=4)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--depth", type=int, default=16, help="requests in flight on each replica, in the mean")
    parser.add_argument("--crowd", type=int, default=0, help="requests that come past the routers and stay on one replica")
    parser.add_argument("--seconds", type=float, default=4.5, help="of each way")
    arguments = parser.parse_args()
    found = measure(**vars(arguments))
    print(
        "{routers} routers, {replicas} replicas, {depth} requests in flight on each, {crowd} more on one".format(
            **vars(arguments)
        )
    )
    print(f"{'':34}{'max/mean':>10}{'of means':>10}{'requests':>10}{'failed':>8}")
    for name, figures in found.items():
        print(f"{name:34}{figures.imbalance:10.3f}{figures.of_means:10.3f}{figures.requests:10}{figures.failed:8}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({name: asdict(figures) for name, figures in found.items()}, indent=2) + "\n")
    if found[OURS].imbalance > WANTED:
        sys.exit(f"max/mean is above {WANTED}")


if __name__ == "__main__":
    main()
