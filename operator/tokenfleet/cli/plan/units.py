"""Spans of time as people write them in a plan: 500ms, 1.5s. Seconds inside."""

import re
from typing import Final

from tokenfleet.cli.errors import Unusable

_FORM: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m)?")
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0}


def seconds(text: str, *, option: str) -> float:
    """Raises Unusable where it is no span, or none that can be kept."""
    match = _FORM.fullmatch(text.strip())
    if match is None or not match[2] or float(match[1]) == 0:
        raise Unusable(f"{option} {text}: write a span above 0 with its unit, such as 500ms or 1.5s.")
    return float(match[1]) * _SECONDS[match[2]]


def span(value: float) -> str:
    """For people: 38 ms, 1.20 s."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.1f} ms"
