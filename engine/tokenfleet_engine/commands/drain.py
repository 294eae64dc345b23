"""`tokenfleet-engine drain`: take the engine in this pod out of service. For preStop."""

import argparse
import contextlib
from pathlib import Path
from typing import Any, Final

from tokenfleet_engine.commands import arguments
from tokenfleet_engine.say import say
from tokenfleet_engine.serving.drain import Drain, LocalEngine

POD_LOG: Final = Path("/proc/1/fd/1")
"""What a preStop hook prints is shown to nobody; what it writes here stands in the pod's log."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "drain", help="refuse new requests and wait for the running ones (for preStop)",
        description="Tell the engine in this pod to refuse new requests, and wait until nothing is in flight or the time is "
        "over. Returns at once where no engine serves. Always exits with 0: a hook that fails would only end the pod sooner.",
    )  # fmt: skip
    arguments.add_port(parser)
    arguments.add_drain_seconds(parser, "--timeout", "how long to wait at most; counted from when the drain began")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace, _: Any) -> int:
    Drain(engine=LocalEngine(port=given.port), timeout=given.timeout, say=_say_in_pod_log).run()
    return 0


def _say_in_pod_log(line: str) -> None:
    say(line)
    with contextlib.suppress(OSError), POD_LOG.open("a") as log:
        log.write(f"tokenfleet-engine: {line}\n")
