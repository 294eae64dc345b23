"""Why an engine could not start or go on: one exception, and the note that it leaves for whoever asks.

The kubelet shows what stands in the termination log as the container's message, and the controller reads the reason from
it. So the note is one JSON object with a reason of `tokenfleet.contract` and a message for a person: what is wrong, where,
and what to change. Whether a failure is worth another try is not decided here.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Final

from tokenfleet import contract

EXIT_CODE: Final = 2
"""Of our own checks: nothing ran, and the same start will fail the same way."""

MESSAGE_LIMIT: Final = 3000
"""The kubelet cuts the termination message at 4096 bytes; a cut JSON object could not be read."""


class EngineFailure(Exception):
    """The engine cannot run, for a reason of the contract."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def report(failure: EngineFailure, *, note: Path | None) -> None:
    """Say it where people look, and leave the note."""
    print(f"tokenfleet-engine: {failure.reason}: {failure.message}", file=sys.stderr, flush=True)
    if note is not None:
        leave_note(failure, path=note)


def leave_note(failure: EngineFailure, *, path: Path = Path(contract.TERMINATION_LOG_PATH)) -> None:
    """Write the note where the kubelet looks. Outside of a pod there is no such file, and nothing is lost without it."""
    message = failure.message.encode()[:MESSAGE_LIMIT].decode(errors="ignore")
    note = json.dumps({"reason": failure.reason, "message": message}, ensure_ascii=False)
    with contextlib.suppress(OSError):
        path.write_text(note, encoding="utf-8")
