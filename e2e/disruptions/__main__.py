"""`make e2e-disruptions`: the whole matrix, as a table and as build/bench/disruptions.json.

Exits 1 where a row is not as it must be.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from rich.console import Console

from e2e import install
from e2e.cluster import cluster, images
from e2e.disruptions import matrix
from e2e.disruptions.disruptions import ALL, Disruption
from e2e.disruptions.matrix import Row
from e2e.kubectl import Kubectl

RESULT = Path("build/bench/disruptions.json")
NAMESPACE = "tokenfleet-disruptions"


def main() -> None:
    arguments = _arguments()
    chosen = [each for each in ALL if all(word in each.name for word in arguments.only)]
    if not chosen:
        sys.exit(f"no disruption is called {' '.join(arguments.only)}; there are: {'; '.join(each.name for each in ALL)}")
    cluster.up()
    install.install(images.ensure())
    kubectl = Kubectl(NAMESPACE)
    kubectl.ensure_namespace()
    console = Console(width=None if sys.stdout.isatty() else 140)
    began = time.monotonic()
    rows = asyncio.run(_run(chosen, kubectl, console, streams_each=arguments.streams))
    kubectl("delete", "namespace", NAMESPACE, timeout=180)
    minutes = (time.monotonic() - began) / 60
    console.print(
        matrix.table(rows, title=f"{len(chosen)} disruptions, {sum(row.streams for row in rows)} requests, {minutes:.0f} min")
    )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")
    print(f"Written to {RESULT}.")
    bad = [row for row in rows if not row.good]
    for row in bad:
        print(f"✗ {row.disruption}, {row.mode}: {'; '.join(row.problems)}")
    sys.exit(1 if bad else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make e2e-disruptions ARGS=…", description=__doc__)
    parser.add_argument("--streams", type=int, default=6, help="clients of each of the five modes (default: 6)")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="disruptions whose name has these words alone")
    return parser.parse_args()


async def _run(chosen: list[Disruption], kubectl: Kubectl, console: Console, *, streams_each: int) -> list[Row]:
    rows: list[Row] = []
    with matrix.deployed(kubectl) as fleet, matrix.reached(fleet) as url:
        loads = await matrix.learn(url, streams_each=streams_each)
        for disruption in chosen:
            began = time.monotonic()
            found = await matrix.under(disruption, fleet, loads)
            mark = "✓" if all(row.good for row in found) else "✗"
            console.print(f"{mark} {disruption.name} {time.monotonic() - began:.0f} s")
            rows += found
    return rows


if __name__ == "__main__":
    main()
