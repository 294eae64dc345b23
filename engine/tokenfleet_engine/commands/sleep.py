"""`tokenfleet-engine sleep`: let the engine in this pod give its GPUs' memory back, and keep its place."""

import argparse
import sys
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.commands import arguments
from tokenfleet_engine.say import say
from tokenfleet_engine.serving.local import NotServing, ask
from tokenfleet_engine.serving.sleep import SECONDS

ORDER_SECONDS: Final = 2 * SECONDS + 10
"""The engine may have to end a step that was asked for before."""
ASLEEP: Final = "the engine sleeps: it takes no requests until it is woken"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "sleep", help="give the GPUs' memory back until `wake`",
        description="Move the engine's weights into the host's memory and drop its KV cache. Refused while requests are in "
        "flight, and where vLLM cannot: without spec.engine.sleep, or on CPUs. Exits with 1 where it is refused.",
    )  # fmt: skip
    arguments.add_port(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace, _: Any) -> int:
    return order(given.port, contract.PATH_ENGINE_SLEEP, done=ASLEEP)


def order(port: int, path: str, *, done: str) -> int:
    """Returns the exit code: 0, and `done` is said; or 1, and why not."""
    try:
        reply = ask(port, "POST", path, seconds=ORDER_SECONDS)
    except NotServing as error:
        return _fail(f"no engine serves on port {port}: {error}")
    except TimeoutError:
        return _fail(f"the engine did not answer within {ORDER_SECONDS:.0f} s")
    if reply.status != 200:
        return _fail(reply.error or f"the engine answered {reply.status}")
    say(done)
    return 0


def _fail(message: str) -> int:
    print(f"tokenfleet-engine: {message}", file=sys.stderr, flush=True)
    return 1
