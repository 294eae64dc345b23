"""What ends a command: one sentence that says what is wrong and what to do, and the exit code.

CliError          1: the cluster, or what stands there, does not allow it
├── Unusable      2: an option or argument cannot be meant
├── Unreachable   the cluster does not answer: who watches goes on for a while
└── Conflict      somebody else changed the object meanwhile: look again; reaches a person only after several tries
"""

from tokenfleet.errors import TokenfleetError


class CliError(TokenfleetError):
    """The command cannot be done."""

    code = 1


class Unusable(CliError):
    code = 2


class Unreachable(CliError):
    pass


class Conflict(CliError):
    pass
