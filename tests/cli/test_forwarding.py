"""A pod's port on this machine, by an API server that speaks the protocol of port-forwards."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.cli.forward_server import ForwardServer
from tokenfleet.cli.cluster.forwarding import Choose, Gone, forwarded
from tokenfleet.cli.errors import CliError, Unreachable

_SECONDS = 10.0
_PORT = 8080


@contextmanager
def pod(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The local port of a pod that does this with each connection."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            serve(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, request_queue_size = True, 512

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def says(text: bytes) -> Callable[[socket.socket], None]:
    """A pod that echoes, with a word of its own before it."""

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(65_536):
            connection.sendall(text + data)

    return serve


@contextmanager
def local(serve: Callable[[socket.socket], None], *, choose: Choose | None = None) -> Iterator[tuple[str, ForwardServer]]:
    """The URL of a forward to one pod, and the API server that it goes by."""
    with (
        pod(serve) as port,
        ForwardServer({"a": port}).running() as api,
        forwarded(api.cluster(), pod="a", port=_PORT, choose=choose) as url,
    ):
        yield url, api


def forward(api: ForwardServer) -> None:
    with forwarded(api.cluster(), pod="a", port=_PORT):
        pass


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=_SECONDS)


def echoed(url: str, text: bytes = b"x") -> bytes:
    with connected(url) as connection:
        connection.sendall(text)
        return connection.recv(100)


def test_what_is_sent_comes_back_at_once_and_not_only_at_the_end() -> None:
    with (
        pod(says(b"a:")) as port,
        ForwardServer({"a": port}).running() as api,
        forwarded(api.cluster(), pod="a", port=_PORT) as url,
    ):
        with connected(url) as connection:
            for text in (b"one", b"two", b"three"):
                connection.sendall(text)
                assert connection.recv(100) == b"a:" + text
        assert set(api.tokens) == {"Bearer secret"}


def test_much_comes_whole_and_in_order() -> None:
    body = bytes(range(256)) * 20_000

    def pours(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(body)

    with local(pours) as (url, _), connected(url) as connection:
        connection.sendall(b"x")
        assert b"".join(iter(lambda: connection.recv(65_536), b"")) == body


def test_hundreds_of_connections_at_once() -> None:
    with (
        pod(says(b"")) as port,
        ForwardServer({"a": port}).running() as api,
        forwarded(api.cluster(), pod="a", port=_PORT) as url,
    ):
        connections = [connected(url) for _ in range(200)]
        for number, connection in enumerate(connections):
            connection.sendall(b"%d" % number)
        assert [connection.recv(10) for connection in connections] == [b"%d" % number for number in range(200)]
        for connection in connections:
            connection.close()


def test_a_client_that_leaves_leaves_the_pod_too() -> None:
    left = threading.Event()

    def waits(connection: socket.socket) -> None:
        while connection.recv(100):
            connection.sendall(b"go on")
        left.set()

    with local(waits) as (url, _):
        assert echoed(url) == b"go on"
        assert left.wait(_SECONDS)


def test_new_connections_go_to_another_pod_once_one_is_gone() -> None:
    lost: list[frozenset[str]] = []

    def choose(gone: frozenset[str]) -> str | None:
        lost.append(gone)
        return "b"

    with pod(says(b"a:")) as first, pod(says(b"b:")) as second, ForwardServer({"a": first, "b": second}).running() as api:
        with forwarded(api.cluster(), pod="a", port=_PORT, choose=choose) as url:
            assert echoed(url) == b"a:x"
            del api.pods["a"]
            assert echoed(url) == b"b:x"
            assert echoed(url) == b"b:x"
        assert lost == [frozenset({"a"})]


def test_without_another_pod_a_connection_ends() -> None:
    with local(says(b"a:"), choose=lambda _: None) as (url, api):
        del api.pods["a"]
        assert echoed(url) == b""


def test_a_port_that_nobody_listens_on_ends_the_connection() -> None:
    with ForwardServer({"a": 1}).running() as api, forwarded(api.cluster(), pod="a", port=_PORT) as url:
        assert echoed(url) == b""


@pytest.mark.parametrize(
    ("refused", "kind", "words"),
    [
        pytest.param(401, CliError, "The cluster does not know you", id="a stranger"),
        pytest.param(
            403,
            CliError,
            "You may not forward to the pod default/a: ask for a role that lets you get and create pods/portforward.",
            id="a right is missing",
        ),
        pytest.param(404, Gone, "There is no way to the pod default/a: the API server answered 404.", id="no such pod"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(refused: int, kind: type[CliError], words: str) -> None:
    with ForwardServer(refused=refused).running() as api, pytest.raises(kind) as error:
        forward(api)
    assert words in str(error.value)


def test_a_cluster_that_is_away_is_said() -> None:
    api = ForwardServer(url="http://127.0.0.1:1")
    with pytest.raises(Unreachable, match=r"The cluster at http://127.0.0.1:1 does not answer"):
        forward(api)
