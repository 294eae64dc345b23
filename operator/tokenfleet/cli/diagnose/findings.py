"""What the links of the chain came to, and the first cause among them. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

_COMMAND: Final = re.compile(r"(kubectl -n \S+ .+?)(?: (?:shows|says|starts|follows)\b|\))")


class State(StrEnum):
    OK = "ok"
    PROBLEM = "problem"
    WAITING = "waiting"
    """It takes time, and nobody needs to do anything."""
    UNKNOWN = "unknown"
    """It could not be looked at."""
    NOTE = "note"
    """Worth a look, and no verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Of one link."""

    link: str
    state: State
    message: str
    looked_at: tuple[str, ...] = ()
    fix: str | None = None
    """A command, or what to do."""
    details: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        body = {"link": self.link, "state": str(self.state), "message": self.message, "lookedAt": list(self.looked_at)}
        return {**body, "fix": self.fix, "details": list(self.details)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    namespace: str
    name: str
    findings: tuple[Finding, ...]

    @property
    def cause(self) -> Finding | None:
        """The first problem; where there is none, the first that is waited for."""
        for state in (State.PROBLEM, State.WAITING):
            if (found := next((one for one in self.findings if one.state is state), None)) is not None:
                return found
        return None

    @property
    def healthy(self) -> bool:
        return all(one.state is not State.PROBLEM for one in self.findings)

    @property
    def summary(self) -> str:
        """One line: the first cause and the fix."""
        if self.cause is None:
            blind = [one.link for one in self.findings if one.state is State.UNKNOWN]
            return f"Nothing is wrong{'; not looked at: ' + ', '.join(blind) if blind else ''}."
        if self.cause.state is State.WAITING:
            return f"No fault was found. {self.cause.message}"
        fix = f" Fix: {self.cause.fix}" if self.cause.fix and self.cause.fix not in self.cause.message else ""
        return f"{self.cause.link}: {self.cause.message}{fix}"

    def as_json(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "name": self.name,
            "healthy": self.healthy,
            "summary": self.summary,
            "cause": self.cause.as_json() if self.cause is not None else None,
            "findings": [one.as_json() for one in self.findings],
        }


def command_in(message: str) -> str | None:
    """The command that a message of the controller names."""
    found = _COMMAND.search(message)
    return found[1] if found is not None else None


def ok(link: str, message: str, looked_at: Iterable[str] = (), details: Iterable[str] = ()) -> Finding:
    return Finding(link=link, state=State.OK, message=message, looked_at=tuple(looked_at), details=tuple(details))


def unseen(link: str, why: str, looked_at: Iterable[str] = ()) -> Finding:
    return Finding(link=link, state=State.UNKNOWN, message=why, looked_at=tuple(looked_at))
