"""`tokenfleet-engine wake`: let the engine in this pod take its GPUs' memory again."""

import argparse
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.commands import arguments
from tokenfleet_engine.commands.sleep import order

AWAKE: Final = "the engine is awake: it is ready once it has made a token"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "wake", help="take the GPUs' memory again after `sleep`",
        description="Bring the engine's weights back. Nothing happens where it is awake; one that is falling asleep is waited "
        "for. Exits with 1 where it cannot be done.",
    )  # fmt: skip
    arguments.add_port(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace, _: Any) -> int:
    return order(given.port, contract.PATH_ENGINE_WAKE, done=AWAKE)
