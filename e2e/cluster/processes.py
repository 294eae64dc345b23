"""Starting programs, knowing them again, and ending them: and never anybody else's.

A `Command` is what to run. `Daemon` runs one that outlives us: its record (pid, start time, boot, command) says whether
the process with that number is still the one that was started, so that a number used again is never killed. `Child` runs
one that must not outlive us, on a `Leash`: a small guard that kills what it holds when this process is gone, even by -9.
"""

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from e2e.cluster.errors import ClusterError

_LOG_LIMIT: Final = 32 * 1024 * 1024
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TZ")
"""What our programs get to see of the user's environment: nothing that would change what they do."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program and all that decides what it does: with another fingerprint, a running one is out of date."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Configuration that it reads when it starts."""

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps([self.argv, sorted(self.environment.items())]).encode())
        for path in self.files:
            digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()[:16]

    def full_environment(self) -> dict[str, str]:
        return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | dict(self.environment)


@dataclass(frozen=True, slots=True)
class Record:
    """A process that we started. It is the same one while number, start time and boot all agree."""

    pid: int
    started: int
    boot: str
    fingerprint: str

    def alive(self) -> bool:
        return self.boot == boot() and start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Daemon:
    """A command that runs on without us, with its record and its log."""

    command: Command
    record_path: Path
    log: Path
    cgroup: Path | None = None
    """A cgroup.procs file: what the program forks is found again through it."""
    enter: tuple[str, ...] = ()
    """A command line that executes the rest of itself elsewhere, as nsenter does."""

    def record(self) -> Record | None:
        try:
            return Record(**json.loads(self.record_path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def running(self) -> bool:
        record = self.record()
        return record is not None and record.alive()

    def current(self) -> bool:
        """Running, and the way it would be started now."""
        record = self.record()
        return record is not None and record.alive() and record.fingerprint == self.command.fingerprint()

    def start(self) -> Record:
        if self.running():
            raise ClusterError(f"{self.command.name} is already running.")
        self.record_path.parent.mkdir(parents=True, exist_ok=True)
        into = self.cgroup if self.cgroup is not None else Path(os.devnull)
        with _open_log(self.log) as log:
            process = subprocess.Popen(
                [*_prelude(into), *self.enter, *self.command.argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env=self.command.full_environment(),
            )  # fmt: skip
        started = start_time(process.pid)
        process.returncode = 0  # nobody waits for it: without this the interpreter warns that it still runs
        if started is None:
            raise ClusterError(f"{self.command.name} ended at once: see {self.log}.")
        record = Record(process.pid, started, boot(), self.command.fingerprint())
        scratch = self.record_path.with_suffix(".new")
        fields = {name: getattr(record, name) for name in ("pid", "started", "boot", "fingerprint")}
        scratch.write_text(json.dumps(fields))
        scratch.rename(self.record_path)
        return record

    def stop(self, *, grace: float = 5.0) -> None:
        record = self.record()
        if record is not None and record.alive():
            end(record.pid, record.started, grace=grace)
        self.record_path.unlink(missing_ok=True)


@dataclass(slots=True)
class Child:
    """A command that ends when we end."""

    command: Command
    process: subprocess.Popen[bytes]
    log: Path
    leash: "Leash"

    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """At once and for good: its data is written so that it stands this."""
        self.process.kill()
        self.process.wait()
        self.leash.release(self.process.pid)


class Leash:
    """Kills what it holds when this process is gone, however that came about.

    A guard process reads a pipe whose other end only we have: at its end there is nobody left who could stop the children.
    """

    _GUARD: Final = """
held=''
while read -r verb pid; do
  case $verb in
    hold) held="$held $pid" ;;
    release) rest=''; for other in $held; do [ "$other" = "$pid" ] || rest="$rest $other"; done; held=$rest ;;
  esac
done
[ -z "$held" ] || kill -KILL $held
"""

    def __init__(self) -> None:
        read, write = os.pipe()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", self._GUARD], stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd="/",
        )  # fmt: skip
        os.close(read)
        self._pipe = write

    def start(self, command: Command, log: Path) -> Child:
        with _open_log(log) as file:
            process = subprocess.Popen(
                command.argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
                env=command.full_environment(),
            )  # fmt: skip
        os.write(self._pipe, f"hold {process.pid}\n".encode())
        return Child(command, process, log, self)

    def release(self, pid: int) -> None:
        os.write(self._pipe, f"release {pid}\n".encode())

    def close(self) -> None:
        """Kills whatever is still held, and the guard is gone when this returns."""
        os.close(self._pipe)
        self._guard.wait()


def boot() -> str:
    """The identity of this boot of the machine: process numbers mean nothing beyond it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since the boot; None when there is none, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return None if state in "ZX" else int(fields[18])


def end(pid: int, started: int, *, grace: float) -> None:
    """SIGTERM, and after the grace SIGKILL, to the process that started then; returns when it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_time(pid) != started:  # checked with the descriptor in hand: from here on it is that process
            return
        for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            if wait > 0 and _signal(descriptor, number) and select.select([descriptor], [], [], wait)[0]:
                return
    finally:
        os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def wait_until(ready: Callable[[], bool], *, seconds: float, pause: float = 0.05) -> bool:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
    return True


def last_lines(log: Path, count: int = 12) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return "(it wrote no log)"


def _signal(descriptor: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    return True


def _prelude(cgroup: Path) -> tuple[str, ...]:
    """Joins the cgroup and takes all the open files it may have before it becomes the program: pods inherit the limit."""
    script = 'ulimit -Hn 1048576 2>/dev/null; ulimit -Sn "$(ulimit -Hn)"; echo $$ >"$0"; exec "$@"'
    return ("/bin/sh", "-c", script, str(cgroup))


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")
