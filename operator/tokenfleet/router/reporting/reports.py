"""What this router tells the controller: a line of JSON at once to whoever connects, then one whenever something has changed.

At most one a second, but for what `news` says; an empty line now and then shows that the connection lives. While nobody follows
nothing is done, and while nothing changes next to nothing: a look a second. Who does not read loses the connection, since a
follower that connects anew gets all of it again.
"""

from typing import Final, Protocol

import msgspec

from tokenfleet import contract
from tokenfleet.router.reporting import levels
from tokenfleet.router.reporting.levels import Levels
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire.deadlines import NEVER

MOST: Final = 8
"""Followers at once: a controller, the one that comes after it, and people."""
HEARTBEAT: Final = b"\n"


class Report(msgspec.Struct, frozen=True):
    """One line."""

    leaving: bool
    deployments: dict[str, Levels]


class Follower(Protocol):
    """A connection that gets every line."""

    def tell(self, line: bytes) -> None: ...


class Reports:
    """Of one router. It stands in the wheel of deadlines while somebody follows."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._followers: dict[Follower, None] = {}
        self._told = Report(leaving=False, deployments={})
        """Last, without what changes by time alone."""
        self._busy: dict[str, float] = {}
        """By LLMDeployment: when there was last seen to be a request."""
        self._urgent = False
        self._written = 0.0
        self.deadline = NEVER
        shared.news.listener = self._soon

    @property
    def followed(self) -> bool:
        return bool(self._followers)

    @property
    def full(self) -> bool:
        return len(self._followers) >= MOST

    def join(self, follower: Follower) -> None:
        """It gets a line now."""
        if not self._followers:
            self._shared.deadlines.add(self)
            self.deadline = self._shared.deadlines.after(contract.REPORT_SECONDS)
        self._look()
        self._followers[follower] = None
        follower.tell(self._line())

    def leave(self, follower: Follower) -> None:
        """Harmless for one that does not follow."""
        self._followers.pop(follower, None)
        if not self._followers:
            self._shared.deadlines.discard(self)

    def expire(self) -> None:
        """The wheel's: time for the next line, if there is one."""
        self.deadline = self._shared.deadlines.after(contract.REPORT_SECONDS)
        if not self._look() and self._shared.deadlines.now() - self._written >= contract.REPORT_HEARTBEAT_SECONDS:
            self._tell(HEARTBEAT)

    def _soon(self) -> None:
        """Once whatever happens right now has happened."""
        if self._followers and not self._urgent:
            self._urgent = True
            self._shared.loop.call_soon(self._hurry)

    def _hurry(self) -> None:
        self._urgent = False
        if self._look():
            self.deadline = self._shared.deadlines.after(contract.REPORT_SECONDS)

    def _look(self) -> bool:
        """Tell how things are, where that is not what was told last. Whether it was."""
        now, before = self._shared.deadlines.now(), self._told.deployments
        report = Report(leaving=self._shared.leaving, deployments=levels.read(self._shared))
        for name, one in report.deployments.items():
            if one.busy or one.ended != (before[name].ended if name in before else 0):
                self._busy[name] = now
        if report == self._told:
            return False
        self._told = report
        self._busy = {name: since for name, since in self._busy.items() if name in report.deployments}
        if self._followers:
            self._tell(self._line())
        return True

    def _line(self) -> bytes:
        now = self._shared.deadlines.now()
        deployments = {
            name: msgspec.structs.replace(one, idle_seconds=round(now - self._busy[name], 1)) if name in self._busy else one
            for name, one in self._told.deployments.items()
        }
        return msgspec.json.encode(Report(leaving=self._told.leaving, deployments=deployments)) + b"\n"

    def _tell(self, line: bytes) -> None:
        self._written = self._shared.deadlines.now()
        for follower in list(self._followers):
            follower.tell(line)
