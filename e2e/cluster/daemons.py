"""The cluster's daemons: where each keeps its record and log, and having one run as it should."""

from collections.abc import Callable

from e2e.cluster import cgroups, paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Command, Daemon, last_lines, wait_until

HUNG_SECONDS = 5.0
"""How long a running daemon may leave a question unanswered before it is started anew."""


def own(command: Command, *, enter: tuple[str, ...] = ()) -> Daemon:
    return Daemon(
        command,
        record_path=paths.state() / f"{command.name}.json",
        log=paths.logs() / f"{command.name}.log",
        cgroup=cgroups.procs(),
        enter=enter,
    )


def recorded() -> list[Daemon]:
    """Every daemon that has a record, running or not."""
    files = sorted(paths.state().glob("*.json"))
    found = [own(Command(file.stem, ())) for file in files]
    return [daemon for daemon in found if daemon.record() is not None]


def ensure(daemon: Daemon, ready: Callable[[], bool]) -> bool:
    """Have it running with today's configuration; True when it had to be started. It may not be ready yet then."""
    if daemon.current() and wait_until(ready, seconds=HUNG_SECONDS):
        return False
    daemon.stop()
    daemon.start()
    return True


def await_ready(daemon: Daemon, ready: Callable[[], bool], *, seconds: float) -> None:
    """Wait for a daemon that was just started; its end, or its silence, is told with its last lines."""
    if wait_until(lambda: ready() or not daemon.running(), seconds=seconds) and daemon.running():
        return
    what = f"did not answer within {seconds:.0f} s" if daemon.running() else "ended"
    raise ClusterError(f"{daemon.command.name} {what}; its last lines ({daemon.log}):\n{last_lines(daemon.log)}")
