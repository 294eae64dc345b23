"""Runs a long program so that a person sees what it is at, and what went wrong when it fails.

Its lines become the step's note; the last ones become the message of the error. A program that is cut off takes its
children with it, and ends with us, even when we are killed: nothing goes on building behind the back of the next one.
"""

import ctypes
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import Step

SHOWN: Final = 15
_NOISE: Final = re.compile(r"^\s*(━|[\d.]+/[\d.]+ [kMG]B|Downloading |Collecting |Using cached |Requirement already|$)")


_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run(
    command: Sequence[str],
    *,
    what: str,
    current: Step,
    environment: Mapping[str, str] | None = None,
    note: Callable[[str], str | None] = str.strip,
) -> None:
    """Raise ClusterError with the last lines when it fails. `note` picks what to show of a line; None leaves the note."""
    kept: deque[str] = deque(maxlen=SHOWN)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True, preexec_fn=_end_with_parent, env={**os.environ, **(environment or {})},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not _NOISE.match(line):
                    kept.append(line.rstrip())
                if shown := note(line):
                    current.note(shown[:70])
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    current.note("")
    if process.returncode != 0:
        lines = "\n".join(f"    {line}" for line in kept)
        raise ClusterError(f"{what} failed (exit code {process.returncode}). Its last lines:\n{lines}")
