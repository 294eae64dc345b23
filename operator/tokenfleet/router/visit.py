"""A request's visit to a replica: a connection taken or made, the head before its body, and all of it given back.

What Delivery and Prefill have in common; both are the receivers of their answers themselves. A connection that is there too
late for its request is kept for another one.
"""

import asyncio
from abc import ABC, abstractmethod

from tokenfleet.router.balancing.replicas import Lease, Replica
from tokenfleet.router.jobs import Job
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire.answer import Answer
from tokenfleet.router.wire.upstream import Upstream


def request_head(job: Job, replica: Replica, size: int, *, path: bytes | None = None) -> bytes:
    """Of the request to a replica. size: of the body, which may be another one than the client's. path: likewise."""
    request = job.request
    return b"POST %b HTTP/1.1\r\nhost: %b\r\n%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
        path or request.route.path,
        replica.authority,
        request.fields,
        job.request_id,
        size,
    )


class Visit(ABC):
    """One after the other; never two at a time."""

    __slots__ = ("_connecting", "_ended", "_job", "_lease", "_shared", "_upstream")

    _shared: Shared
    _job: Job
    _lease: Lease | None
    _connecting: asyncio.Task[None]
    _upstream: Upstream | None
    _ended: bool

    def _reach(self, replica: Replica) -> None:
        """On a spare connection, or on a new one."""
        connection = None if replica.paused and replica.in_doubt else self._shared.upstreams.take(replica)
        if connection is None:
            self._connect(replica)
        else:
            self._send(connection)

    def _connect(self, replica: Replica) -> None:
        self._connecting = self._shared.loop.create_task(self._connect_and_send(replica))

    async def _connect_and_send(self, replica: Replica) -> None:
        try:
            connection = await self._shared.upstreams.connect(replica)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the request must go on to its end
            if not self._ended:
                replica.failed("connect")
                replica.pause()
                self._unreachable("cannot be reached: " + (str(error) or "the connection timed out"))
            return
        if replica.paused:
            replica.reached()
        if self._ended:
            self._shared.upstreams.keep(connection)
        else:
            self._send(connection)

    @abstractmethod
    def _send(self, connection: Upstream) -> None:
        """Begin on this connection."""

    @abstractmethod
    def _unreachable(self, why: str) -> None:
        """There is no connection to this replica."""

    @abstractmethod
    def answered(self, answer: Answer) -> None: ...
    @abstractmethod
    def received(self, payload: bytes, *, complete: bool) -> None: ...
    @abstractmethod
    def lost(self, why: str) -> None: ...
    @abstractmethod
    def silent(self) -> None: ...
    @abstractmethod
    def invalid(self, why: str) -> None: ...

    def _let_go(self) -> None:
        """Give back what is held of the replica. A connection that is not detached before is in the middle of an answer."""
        if self._upstream is not None:
            connection, self._upstream = self._upstream, None
            connection.abort()
        if self._lease is not None:
            lease, self._lease = self._lease, None
            lease.release()
