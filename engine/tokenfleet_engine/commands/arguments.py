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


def whole_seconds(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value
