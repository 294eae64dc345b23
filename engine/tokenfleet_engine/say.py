"""One line of ours in the engine's log, told from vLLM's by its beginning."""

import sys


def say(line: str) -> None:
    sys.stdout.write(f"tokenfleet-engine: {line}\n")  # in one piece: the engine's lines go to the same place
    sys.stdout.flush()
