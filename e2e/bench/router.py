"""`make bench-router`: our router beside those that people use instead, measured in one run. See docs/benchmarks.md.

Each router has one core to itself; clients, fake engines and this process share another. All run at once, idle but for the
one whose turn it is, and turns are taken round by round (A B C, A B C, ...), so that the machine's moods meet everybody. CPU
time is that of the router's processes, read by the clients at the very moments at which they begin and end to count; so
neither the cost of the clients nor that of the engines is in it.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from e2e.bench import machine, router_peers, router_software, router_table
from e2e.bench.balance import measure_imbalance
from e2e.bench.machine import Core
from e2e.bench.router_figures import Results, as_json, verdicts
from e2e.bench.router_gauges import scrape
from e2e.bench.router_peers import NAMES, OURS, PeerError
from e2e.bench.router_software import Unavailable
from e2e.bench.router_turns import OPEN_STREAMS, Bench, Plan
from e2e.bench.traffic import ENGINES, Engines, program
from e2e.cluster.control_plane import free_ports
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Leash
from e2e.cluster.progress import say, step

RESULT: Final = Path("build/bench/router.json")
PARTIAL: Final = Path("build/bench/router-partial.json")
OPEN_FILES: Final = 20_000


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does: through all the `finally`
    try:
        ok = _run(arguments)
    except ClusterError as error:
        sys.exit(f"bench-router: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if ok else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.bench.router",
        description="Our router beside others, one core each: CPU, requests a second, latency, memory, balance, aborts.",
        epilog="Examples: --quick while working on the router; --peers tokenfleet,vllm-router --rounds 3 for one question. "
        f"A complete run takes about ten minutes on a quiet machine and writes {RESULT}; any other writes {PARTIAL}.",
    )
    parser.add_argument("--quick", action="store_true", help="less than a minute: short turns, tokenfleet and haproxy alone")
    parser.add_argument("--peers", type=_names, metavar="A,B", help=f"only these of: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each peer (5; quick: 2)")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"there is no peer {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


def _run(arguments: argparse.Namespace) -> bool:
    """Measure and report; whether our router did nothing wrong (how fast it was is for the reader to judge)."""
    began = time.monotonic()
    plan = _plan(arguments)
    left_out = _install(plan.peers)
    program()
    router_core, load_core = machine.cores()
    conditions = _conditions(plan, router_core, load_core)
    with ExitStack() as stack:
        stack.enter_context(machine.staying_on(load_core))
        bench = _prepare(stack, plan, left_out, cores=(router_core, load_core))
        aborts = _measure(bench)
        conditions["foreign_share_of_router_core"] = round(bench.foreign_share, 3)
    with step("Balance of 4 routers over 8 replicas"):
        imbalance = measure_imbalance()
    conditions["seconds"] = round(time.monotonic() - began)
    left = aborts["left"] if aborts else None
    targets = verdicts(bench.results, imbalance=imbalance, leftovers=left)
    result = as_json(bench.results, imbalance=imbalance, aborts=aborts, conditions=conditions, targets=targets)
    target = RESULT if plan.complete else PARTIAL
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        router_table.show(bench.results, targets, conditions=conditions, left_out=left_out)
    say(f"wrote {target}")
    ours = bench.results.get(OURS)
    return ours is None or (not ours.errors and not left)


def _plan(arguments: argparse.Namespace) -> Plan:
    given = {name: value for name in ("peers", "rounds") if (value := getattr(arguments, name))}
    return Plan.quick(**given) if arguments.quick else Plan.whole(**given)


def _conditions(plan: Plan, router_core: Core, load_core: Core) -> dict[str, Any]:
    return {
        **machine.describe(),
        "router_core": router_core,
        "clients_and_engines_core": load_core,
        "own_network": machine.own_network(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "rounds": plan.rounds,
        "engines": ENGINES,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _measure(bench: Bench) -> dict[str, Any] | None:
    """All turns; gives back what is left of our router's aborted requests."""
    ours = bench.peers.get(OURS)
    idle = scrape(ours.admin_port) if ours else {}
    for number in range(bench.plan.rounds):
        with step(f"Round {number + 1} of {bench.plan.rounds}") as current:
            bench.round(current)
    with step(f"Memory with {OPEN_STREAMS[0]} open streams") as current:
        for name in list(bench.peers):
            current.note(name)
            bench.turn(name, bench.memory)
    if ours is None or OURS not in bench.peers:
        return None
    with step(f"{bench.plan.aborts} requests whose clients go away at random"):
        return bench.aborts(ours, idle)


def _install(names: Sequence[str]) -> dict[str, str]:
    """Get the peers' programs; gives back which are left out, and why."""
    left_out = {}
    for name in names:
        try:
            router_software.install(name)
        except Unavailable as error:
            left_out[name] = str(error)
            say(f"  {name} is left out: {error}")
    return left_out


def _prepare(stack: ExitStack, plan: Plan, left_out: dict[str, str], *, cores: tuple[Core, Core]) -> Bench:
    """Start the engines and all peers; whatever was started ends with the stack."""
    router_core, load_core = cores
    open_files = machine.raise_open_files(OPEN_FILES)
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenfleet-bench-")))
    leash = Leash()
    stack.callback(leash.close)
    engines = Engines(leash, load_core, free_ports(ENGINES), directory / "engines.log")
    bench = Bench(plan, engines, router_core, load_core, peers={}, results={})
    for name in plan.peers:
        if name in left_out:
            continue
        try:
            with step(f"Starting {name}"):
                peer = router_peers.start(
                    name, engines, leash=leash, core=router_core, directory=directory, open_files=open_files
                )
        except PeerError as error:
            left_out[name] = str(error).partition("\n")[0]
            say(f"  {name} is left out: {error}")
            continue
        stack.callback(router_peers.stop, peer)
        bench.peers[name] = peer
        bench.results[name] = Results(version=router_software.version(name))
    return bench


if __name__ == "__main__":
    main()
