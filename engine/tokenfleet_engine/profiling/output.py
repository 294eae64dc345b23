"""Where a profile's files go, and what is said while it is made: progress on stderr, with the time since the command began."""

import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure


def make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise EngineFailure(
            contract.REASON_ENGINE_CONFIG_INVALID, f"--out {path} cannot be written: {error.strerror}. In a pod: below /tmp."
        ) from error


def progress(began: float) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(f"tokenfleet-engine: {time.monotonic() - began:6.1f} s  {line}", file=sys.stderr, flush=True)

    return say
