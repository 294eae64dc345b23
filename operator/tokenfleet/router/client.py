"""Who an answer is for, as whoever answers sees it: a connection, or a run of the durable queue."""

from typing import Protocol

from tokenfleet.router.rejections import Rejected


class Client(Protocol):
    """Who the answer is for."""

    @property
    def write_paused(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def release_body(self) -> None:
        """The request's body is not needed any more."""

    def finish(self, *, keep_alive: bool) -> None:
        """The answer is written whole."""

    def refuse(self, rejected: Rejected, *, request_id: bytes) -> None:
        """Nothing was written: answer with this error."""

    def close(self) -> None:
        """Send what is written, then close."""

    def abort(self) -> None: ...
