"""Runs vLLM as a child and stands between it and the pod: signals go down, its exit and its last words come up.

A child, not an exec, for three reasons. A process that became vLLM cannot say why vLLM died; the supervisor has its last
lines and finds a reason in them. Number 1 of a container gets orphans to reap, which vLLM does not do. And a SIGTERM
without a preStop hook before it (a node that shuts down, `docker stop`) must drain first, not cut streams. It costs one
small Python process and a pipe for the log. If it dies itself, so does the child: as number 1 it takes the container with
it, elsewhere the kernel sees to it (PR_SET_PDEATHSIG).

Signals stay blocked and are waited for (sigtimedwait), so none can interrupt anything else; that works for number 1 too,
which the kernel spares those that it neither handles nor blocks. One thread copies the child's output.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.cgroup import oom_kills
from tokenfleet_engine.launch.command import ServeCommand
from tokenfleet_engine.launch.hang import Hang
from tokenfleet_engine.launch.symptoms import explain

KEPT_LINES: Final = 400
SERVING: Final = b"Application startup complete"
"""uvicorn's words. They decide only how a later end is called."""
STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
WAITED: Final = STOPPING | {signal.SIGCHLD}
STOP_SECONDS: Final = contract.ENGINE_SHUTDOWN_SECONDS + contract.ENGINE_TEARDOWN_SECONDS
CLEAR_SECONDS: Final = 5.0
"""For what was killed to be gone; what left vLLM's session is nothing that we could wait for."""
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit code to pass on, and why, unless the engine was asked to go."""

    code: int
    failure: EngineFailure | None = None


def supervise(command: ServeCommand, *, goodbye: Callable[[Callable[[], bool]], object]) -> Ending:
    """Run the command and return when it, and all that it started, is gone. Only for the main thread.

    On SIGTERM or SIGINT `goodbye(hurry)` is called; when it returns, the child gets its SIGTERM. `hurry()` is True once the
    child is gone or a second signal came: nothing is left to wait for.
    """
    kills = oom_kills()
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    try:
        child = _Child.start(command)
        stopped = _wait(child, goodbye)
        child.clear()
        if stopped:
            return Ending(code=0 if child.status != -signal.SIGKILL else 137)
        status = 1 if child.hung or child.status is None else child.status
        failure = explain(child.output.lines(), status=status, served=child.output.served, oom_kills=oom_kills() - kills)
        return Ending(code=128 - status if status < 0 else status or 1, failure=failure)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _wait(child: "_Child", goodbye: Callable[[Callable[[], bool]], object]) -> bool:
    """True when the child ended because somebody asked us to stop."""
    hang = Hang(child.pid)
    while not _stop_asked(1.0):
        if child.reap():
            return False
        if not child.hung and hang.lasts(time.monotonic()):
            print("tokenfleet-engine: vLLM hangs: one of its processes is dead. Killed.", file=sys.stderr, flush=True)
            child.hung = True
            child.kill()
    goodbye(lambda: child.reap() or _stop_asked(0))
    child.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while not child.reap():
        if time.monotonic() > deadline:
            print(f"tokenfleet-engine: vLLM still runs {STOP_SECONDS} s after SIGTERM: killed", file=sys.stderr, flush=True)
            child.kill()
        signal.sigtimedwait({signal.SIGCHLD}, 0.5)
    return True


def _stop_asked(seconds: float) -> bool:
    received = signal.sigtimedwait(WAITED, seconds)
    return received is not None and received.si_signo in STOPPING


@dataclass(slots=True)
class _Child:
    """vLLM in a session of its own, so that all of its processes can be ended together."""

    pid: int
    output: "_Output"
    status: int | None = None
    hung: bool = False
    """We ended it, since it would not have ended by itself."""

    @classmethod
    def start(cls, command: ServeCommand) -> "_Child":
        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        process = subprocess.Popen(
            command.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=prepare, env={**os.environ, **command.environment},
        )  # fmt: skip
        process.returncode = 0  # `reap` waits for all children at once: subprocess shall not
        assert process.stdout is not None
        return cls(process.pid, _Output(process.stdout))

    def reap(self) -> bool:
        """Collect every process that has ended. True once vLLM's own has."""
        self._collect()
        return self.status is not None

    def _collect(self) -> bool:
        """True while there are processes that have not ended."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.pid:
                    self.status = os.waitstatus_to_exitcode(ended[1])
        except ChildProcessError:
            return False
        return True

    def signal(self, number: int) -> None:
        if not self.reap():
            os.kill(self.pid, number)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def clear(self) -> None:
        """End what vLLM left behind, and wait until all that it wrote is copied."""
        self.kill()
        self.output.finish()
        deadline = time.monotonic() + CLEAR_SECONDS
        while self._collect() and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)


@dataclass(slots=True)
class _Output:
    """Copies the child's output to ours and keeps the last lines."""

    stream: IO[bytes]
    served: bool = False
    _kept: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._copy, name="output", daemon=True)
        self._thread.start()

    def lines(self) -> list[str]:
        return [line.decode(errors="replace") for line in self._kept]

    def finish(self) -> None:
        self._thread.join(timeout=5)

    def _copy(self) -> None:
        for line in self.stream:
            self._kept.append(line)
            self.served = self.served or SERVING in line
            with contextlib.suppress(OSError):
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
