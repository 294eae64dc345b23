"""Where requests that have ended are told of: each reader (metrics, the access log, traces) gets every Record, in order.

Readers run on the event loop, between the chunks of other people's streams: they must not wait, and must not raise.
"""

from collections.abc import Callable

from tokenfleet.router.reporting.record import Record

Reader = Callable[[Record], None]


class Journal:
    """Of one router."""

    __slots__ = ("_readers",)

    def __init__(self, *readers: Reader) -> None:
        self._readers = readers

    def add(self, reader: Reader) -> None:
        self._readers += (reader,)

    def ended(self, record: Record) -> None:
        for reader in self._readers:
            reader(record)

    def answered(self, code: int, reason: str, *, request_id: bytes, path: bytes = b"", key: str = "") -> None:
        """The router itself has answered, before the request had a model; empty: it is not known either."""
        self.ended(
            Record(
                request_id=request_id,
                path=path,
                model="",
                key=key,
                code=code,
                reason=reason,
                stream=False,
                replica="",
                deployment="",
                track="",
                tries=0,
                queued=0.0,
                prefilled=0.0,
                first_byte=None,
                seconds=0.0,
                prompt_tokens=None,
                completion_tokens=None,
                traceparent=None,
            )
        )
