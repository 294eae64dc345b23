"""Asks a replica how many tokens a prompt has, and how many with the text so far: two short requests, one after the other.

The place on the replica is the Delivery's; nothing is held here but a connection. What it finds, or why not, it says once.
"""

from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from tokenfleet.router.balancing.replicas import Replica
from tokenfleet.router.continuing.sequel import Counts
from tokenfleet.router.jobs import Job
from tokenfleet.router.shared import Shared
from tokenfleet.router.visit import Visit, request_head
from tokenfleet.router.wire.answer import Answer
from tokenfleet.router.wire.upstream import Upstream

_TOKENIZE: Final = b"/tokenize"
_SECONDS: Final = 10.0
"""For each answer."""
_LARGEST_BYTES: Final = 64 * 1024 * 1024
"""Of an answer, which lists the tokens too."""


class _Counted(msgspec.Struct):
    count: int
    max_model_len: int | None = None


class Owner(Protocol):
    """Who is to go on."""

    def counted(self, counts: Counts) -> None: ...

    def uncounted(self, why: str, *, elsewhere: bool) -> None:
        """elsewhere: another replica may be able to say."""


class Count(Visit):
    """One of them. `cancel` ends it without a word."""

    __slots__ = ("_found", "_owner", "_parts", "_questions", "_replica", "_size", "_stale")

    def __init__(self, owner: Owner, shared: Shared, job: Job, replica: Replica, questions: Iterable[bytes]) -> None:
        """questions: bodies for /tokenize, of the prompt and of the whole."""
        self._owner = owner
        self._shared = shared
        self._job = job
        self._replica = replica
        self._questions = tuple(questions)
        self._found: list[_Counted] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._stale = False
        self._lease = None
        self._upstream = None
        self._ended = False

    def start(self) -> None:
        self._parts, self._size = [], 0
        self._reach(self._replica)

    def cancel(self) -> None:
        """Nobody needs it any more. Harmless after the end."""
        self._ended = True
        self._let_go()

    def _send(self, connection: Upstream) -> None:
        self._upstream = connection
        body = self._questions[len(self._found)]
        connection.send(self, request_head(self._job, connection.replica, len(body), path=_TOKENIZE), body)
        connection.deadline = self._shared.deadlines.after(_SECONDS)

    def _unreachable(self, why: str) -> None:
        self._fail(why, elsewhere=True)

    # --- Receiver of an answer

    def answered(self, answer: Answer) -> None:
        if answer.status != 200:
            elsewhere = answer.draining or answer.status >= 500
            self._fail(f"answered {answer.status} when it was asked to count tokens", elsewhere=elsewhere)

    def received(self, payload: bytes, *, complete: bool) -> None:
        self._parts.append(payload)
        self._size += len(payload)
        if complete:
            self._upstream = None
            self._understand(b"".join(self._parts))
        elif self._size > _LARGEST_BYTES:
            self._fail("counted more tokens than can be read", elsewhere=False)

    def lost(self, why: str) -> None:
        connection, self._upstream = self._upstream, None
        assert connection is not None
        if connection.reused and not self._stale:
            self._stale = True
            self._parts, self._size = [], 0
            self._connect(self._replica)
        else:
            self._fail(why, elsewhere=True)

    def silent(self) -> None:
        self._fail("did not count tokens in time", elsewhere=True)

    def invalid(self, why: str) -> None:
        self._fail(f"gave an invalid answer: {why}", elsewhere=True)

    # --- Ends

    def _understand(self, body: bytes) -> None:
        try:
            self._found.append(msgspec.json.decode(body, type=_Counted))
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._fail("did not say how many tokens there are", elsewhere=False)
            return
        if len(self._found) < len(self._questions):
            self.start()
            return
        self._ended = True
        prompt, whole = self._found
        self._owner.counted(Counts(prompt.count, whole.count, whole.max_model_len))

    def _fail(self, why: str, *, elsewhere: bool) -> None:
        self.cancel()
        self._owner.uncounted(why, elsewhere=elsewhere)
