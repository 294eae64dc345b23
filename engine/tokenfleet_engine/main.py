"""`tokenfleet-engine`: everything that an engine's pod runs, one command each.

Reads the command line, hands it to the command's module, and turns a failure into one line on stderr, a note for the kubelet
and an exit code. Holds no logic of its own. What stands behind `--` belongs to the engine, not to us.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from tokenfleet_engine import failures
from tokenfleet_engine.commands import drain, fetch, inspect, profile, serve, simulate, sleep, wake

COMMANDS: Final = (serve, drain, fetch, inspect, profile, simulate, sleep, wake)
"""In the order of --help."""


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    own, flags = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    arguments = _parser().parse_args(own)
    try:
        return int(arguments.run(arguments, flags))
    except failures.EngineFailure as failure:
        failures.report(failure, note=getattr(arguments, "termination_log", None))
        return failures.EXIT_CODE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tokenfleet-engine", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.register(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
