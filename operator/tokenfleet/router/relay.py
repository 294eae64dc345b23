"""What a client gets of a replica's answer: its head, its body in the framing of our own, and how a cut one ends. No I/O.

A cut answer must not look whole: an event stream ends with an error event, without [DONE] and without the last chunk, and
anything else in a broken connection. A stream with a transcript need not end there: `splice` has another replica go on with it.
"""

from typing import Final

from tokenfleet.router.callers.bounds import unsaid_tokens
from tokenfleet.router.continuing.splice import Splice
from tokenfleet.router.continuing.transcript import Transcript
from tokenfleet.router.events import EventStream
from tokenfleet.router.fields import rewrite
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Pool
from tokenfleet.router.rejections import Rejected, status_line
from tokenfleet.router.usage import Usage, UsageScan, find_usage
from tokenfleet.router.wire.answer import Answer
from tokenfleet.router.wire.framing import LAST_CHUNK, chunk

USAGE: Final = {"include_usage": True}


def asks_for_usage(job: Job) -> bool:
    """Whether the router asks for the usage of a stream whose client did not: it is what limits and metrics go by."""
    if job.fields.stream is not True or not job.request.route.generates:
        return False
    options = job.fields.stream_options
    return options is None or not options.include_usage


def outgoing(job: Job, pool: Pool, params: object = None) -> bytes:
    """The body for a replica of this pool. params: kv_transfer_params of a prefill that was done elsewhere."""
    most = pool.max_tokens
    if most is not None and not (job.request.route.generates and unsaid_tokens(job.fields, most)):
        most = None
    if params is None and most is None and pool.served_name == job.fields.model and not asks_for_usage(job):
        return job.body
    changes: dict[str, object] = {}
    if pool.served_name != job.fields.model:
        changes["model"] = pool.served_name
    if asks_for_usage(job):
        changes["stream_options"] = USAGE
    if most is not None:
        changes["max_tokens"] = most
    if params is not None:
        changes["kv_transfer_params"] = params
    return rewrite(job.body, **changes)


class Relay:
    """Of one answer."""

    __slots__ = (
        *("_chunked", "_counts", "_events", "_found", "_quiet", "_scan", "_settled", "_splice"),
        *("answer", "failed", "stream", "transcript"),
    )

    def __init__(self, answer: Answer, job: Job, transcript: Transcript | None = None) -> None:
        """transcript: of a stream that another replica may go on with."""
        self.answer = answer
        self.failed = False
        """The engine itself has ended the stream with an error."""
        self.transcript = transcript
        self._splice: Splice | None = None
        self._settled: Usage | None = None
        self._chunked = answer.length is None and not job.request.http10
        self.stream = answer.event_stream and answer.length is None
        self._quiet = asks_for_usage(job)
        self._events = EventStream(quiet=self._quiet, withholds=transcript is not None) if self.stream else None
        self._counts = answer.status == 200
        self._scan: UsageScan | None = None
        """Of an answer that comes in parts; most that are no stream do not."""
        self._found: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        """What the answer has said so far."""
        if self._settled is not None:
            return self._settled
        if self._events is not None:
            found = self._events.usage
            return self._splice.usage(found) if self._splice is not None and found is not None else found
        return self._scan.found if self._scan is not None else self._found

    def head(self, request_id: bytes, lines: bytes, *, close: bool) -> bytes:
        answer = self.answer
        if answer.length is not None:
            framing = b"content-length: %d\r\n" % answer.length
        else:
            framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        return b"%b%bx-request-id: %b\r\n%b%b%b\r\n" % (
            status_line(answer.status),
            answer.fields,
            request_id,
            lines,
            framing,
            b"connection: close\r\n" if close else b"",
        )

    def body(self, payload: bytes, *, complete: bool) -> bytes:
        """What to write of a part of the body."""
        events = self._events
        if events is not None:
            payload = events.feed(payload)
            if complete:
                payload += events.end()
                complete = not events.failed
            self.failed = events.failed
            if self._splice is not None:
                payload = self._splice.feed(payload)
            if payload and (transcript := self.transcript) is not None:
                transcript.add(payload)
        elif self._counts:
            if complete and self._scan is None:
                self._found = find_usage(payload)
            else:
                self._count(payload)
        if not self._chunked:
            return payload
        if complete:
            return chunk(payload) + LAST_CHUNK if payload else LAST_CHUNK
        return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""  # as `chunk`, which costs a call for each part

    def _count(self, payload: bytes) -> None:
        """Look for the usage in a part of an answer."""
        if self._scan is None:
            self._scan = UsageScan()
        self._scan.feed(payload)

    @property
    def withheld(self) -> bool:
        """The engine's error has not been passed on: another replica may do better."""
        return self._events is not None and bool(self._events.error)

    def broken(self, rejected: Rejected) -> bytes:
        """An event that says so, behind whatever was written; a part of an event that was held is dropped."""
        withheld = self._events.error if self._events is not None else b""
        event = withheld or b"\n\ndata: " + rejected.body() + b"\n\n"
        return chunk(event) if self._chunked else event

    # --- Another replica's turn

    def splice(self, splice: Splice) -> None:
        """What comes from now on is another replica's, which goes on where the one before was cut."""
        self._events = EventStream(quiet=self._quiet, withholds=True)
        self._splice = splice
        self.failed = False

    def ending(self, events: bytes) -> bytes:
        """The end of the stream, where it is the router that has the last word."""
        if not self._chunked:
            return events
        return chunk(events) + LAST_CHUNK if events else LAST_CHUNK

    def settle(self, usage: Usage) -> None:
        """What all of it has used, where no replica says so."""
        self._settled = usage
