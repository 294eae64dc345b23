"""What several commands read from the command line in the same way."""

import argparse
import os
from pathlib import Path

from tokenfleet import contract


def add_port(parser: argparse.ArgumentParser, *, help_text: str = "the engine's port") -> None:
    parser.add_argument(
        "--port", type=int, default=contract.ENGINE_PORT, metavar="PORT", help=f"{help_text} (default: %(default)s)"
    )


def add_termination_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--termination-log", type=Path, default=Path(contract.TERMINATION_LOG_PATH), metavar="FILE",
        help="where to leave the reason of a failure (default: %(default)s)",
    )  # fmt: skip


def add_drain_seconds(parser: argparse.ArgumentParser, name: str, help_text: str) -> None:
    default = os.environ.get(contract.ENV_DRAIN_SECONDS, "") or "600"  # a text, so that argparse checks it as it does a flag
    parser.add_argument(
        name, type=whole_seconds, default=default, metavar="SECONDS",
        help=f"{help_text} (default: {contract.ENV_DRAIN_SECONDS}, else 600)",
    )  # fmt: skip


def add_admission(parser: argparse.ArgumentParser) -> None:
    """How much the engine takes on before it says 503; None stands for what its own part of the code holds to be right."""
    parser.add_argument("--max-in-flight", type=at_least_one, metavar="N", help="requests in flight; the next one gets a 503")
    parser.add_argument(
        "--max-waiting", type=at_least_one, metavar="N", help="requests in the engine's own queue; beyond them: 503"
    )
    parser.add_argument(
        "--max-queue-seconds", type=positive_seconds, metavar="SECONDS",
        help="seconds that a new request would wait in that queue at most; beyond it: 503",
    )  # fmt: skip


def at_least_one(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def positive_seconds(text: str) -> float:
    if not (value := float(text)) > 0:
        raise ValueError(text)
    return value


def whole_seconds(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value
