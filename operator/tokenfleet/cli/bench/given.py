"""Reads what is written behind the options of a load test: durations, lengths, ramps, promises. Raises Unusable."""

import re
from math import inf, isfinite
from typing import Final

from tokenfleet.bench.arrivals import Process, Ramp
from tokenfleet.bench.figures import Slo, Trim
from tokenfleet.bench.prompts import Lengths
from tokenfleet.cli.errors import Unusable

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|min|m|h)")
_NORMAL: Final = re.compile(r"([^±+]+)(?:±|\+-|\+/-)(.+)")


def seconds(text: str, option: str, *, least: float = 0.0) -> float:
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise Unusable(f"{option} {text}: write a time with its unit, such as 500ms, 60s or 5m.")
    value = float(found[1]) * _UNITS[found[2]]
    if value < least or value == 0:
        raise Unusable(f"{option} {text}: it must be more than 0.")
    return value


def number(text: str, option: str, *, least: float = 0.0, most: float = inf) -> float:
    try:
        value = float(text)
    except ValueError:
        raise Unusable(f"{option} {text}: this is no number.") from None
    if not isfinite(value) or not least <= value <= most:
        raise Unusable(f"{option} {text}: it must be {least:g} or more" + (f", and {most:g} at most." if most < inf else "."))
    return value


def positive(value: float, option: str) -> float:
    if not isfinite(value) or value <= 0:
        raise Unusable(f"{option} {value:g}: it must be more than 0.")
    return value


def lengths(text: str, option: str) -> Lengths:
    """512, 512±128 (or 512+-128), uniform:64:900, lognormal:512:0.8."""
    if normal := _NORMAL.fullmatch(text):
        return Lengths("normal", number(normal[1], option, least=1), number(normal[2], option))
    kind, *parts = text.split(":")
    if kind in ("uniform", "lognormal") and len(parts) == 2:
        first = number(parts[0], option, least=1)
        second = number(parts[1], option, least=first if kind == "uniform" else 0.0)
        return Lengths(kind, first, second)
    if parts or not kind.strip().isdigit():
        raise Unusable(f"{option} {text}: write tokens as 512, 512±128, uniform:64:900 or lognormal:512:0.8 (median, sigma).")
    return Lengths("fixed", number(kind, option, least=1))


def ramp(text: str, process: Process) -> Ramp:
    """1:50:60s."""
    parts = text.split(":")
    if len(parts) != 3:
        raise Unusable(f"--ramp {text}: write FIRST:LAST:TIME, such as 1:50:60s for 1 to 50 requests/s within a minute.")
    first, last = (number(part, "--ramp") for part in parts[:2])
    if last <= 0:
        raise Unusable(f"--ramp {text}: the last rate must be more than 0.")
    return Ramp(first, last, seconds(parts[2], "--ramp"), process)


def slo(text: str | None) -> Slo | None:
    """ttft=500ms,itl=50ms."""
    if text is None:
        return None
    bounds: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in ("ttft", "itl", "tpot", "e2e"):
            raise Unusable(f"--slo {text}: write it as ttft=500ms,itl=50ms; there are ttft, itl, tpot and e2e.")
        bounds[name] = seconds(value, f"--slo {name}")
    return Slo(**bounds)


def trim(text: str, option: str) -> Trim:
    """20 (requests) or 10s."""
    if text.strip().isdigit():
        return Trim(requests=int(text))
    return Trim(seconds=seconds(text, option))


def share(text: float, option: str) -> float:
    return number(str(text), option, most=1.0)
