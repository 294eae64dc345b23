"""The exceptions of the operator's side, all in one tree.

TokenfleetError
├── InvalidSettings      the process's own environment is wrong: say which variable, and exit
└── InvalidSpec          an LLMDeployment cannot be run as written: becomes its condition, disturbs no other object

Each carries a message for a person: what is wrong, where, and what to change.
"""


class TokenfleetError(Exception):
    """Base of all errors that Tokenfleet raises on purpose."""


class InvalidSettings(TokenfleetError):
    """An environment variable of this process has a value that cannot be used."""


class InvalidSpec(TokenfleetError):
    """An LLMDeployment's spec cannot be run as written."""

    def __init__(self, message: str, *, reason: str = "InvalidSpec") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
