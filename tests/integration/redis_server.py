"""A real redis-server of the tests' own, on a free port of loopback; it ends with the process that started it.

`redis_url` is the address of an empty, running server: whatever a test did to it (stopped, killed, paused, filled), the next
one finds it running and empty. `redis_server` is the same server with its verbs. It writes each command to its log, so that
`kill` and `start` lose nothing that it had answered, as with a Redis whose disk outlives it.
"""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from e2e.cluster import packages
from e2e.cluster.control_plane import free_ports
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Child, Command, Leash, last_lines, wait_until

_START_SECONDS: Final = 20.0


class RedisServer:
    """One redis-server, which may be ended and started again at the same address, with the same data."""

    def __init__(self, directory: Path) -> None:
        packages.ensure("redis-server")
        self._directory = directory
        self._port = free_ports(1)[0]
        self._leash = Leash()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def running(self) -> bool:
        return self._child is not None and self._child.running()

    def start(self) -> None:
        """Return when it answers. Nothing happens where it runs already."""
        if self.running():
            return
        self.kill()
        argv = (packages.program("redis-server"), "--bind", "127.0.0.1", "--port", str(self._port))
        # Without fsync each command is written before its answer; with one a second, writes may wait while it is under way.
        options = ("--dir", str(self._directory), "--save", "", "--appendonly", "yes", "--appendfsync", "no")
        log = self._directory / "redis.log"
        self._child = child = self._leash.start(Command("redis", (*argv, *options)), log)
        wait_until(lambda: self._answers() or not child.running(), seconds=_START_SECONDS)
        if not child.running() or not self._answers():
            raise ClusterError(f"redis-server did not start:\n{last_lines(log)}")

    def stop(self) -> None:
        """SIGTERM: it says goodbye to its clients and ends."""
        if self._child is not None:
            self._child.process.terminate()
            self._child.process.wait(_START_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, where it runs."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def pause(self) -> None:
        """It takes connections and answers nothing, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Send one command, on a connection of its own, and return the answer's first bytes."""
        parts = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)
        with socket.create_connection(("127.0.0.1", self._port), timeout=_START_SECONDS) as connection:
            connection.sendall(b"*%d\r\n%b" % (len(words), parts))
            return connection.recv(65_536)

    def close(self) -> None:
        self.kill()
        self._leash.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.process.send_signal(number)

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def redis_server(_redis: RedisServer) -> RedisServer:
    """Running and empty."""
    _redis.resume()
    _redis.start()
    _redis.command("FLUSHALL")
    return _redis


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url
