"""Points in time, between the API server's RFC 3339 in UTC and the seconds since 1970 that one can reckon with."""

from datetime import UTC, datetime


def seconds(moment: str) -> float:
    """Since 1970; ValueError where that is no moment."""
    at = datetime.fromisoformat(moment)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def rfc3339(seconds: float) -> str:
    """In whole seconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
