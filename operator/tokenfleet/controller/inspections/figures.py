"""Numbers of a model and of memory, as the status and its messages write them."""

from typing import Final

_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti")
_COUNTS: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def quantity(count: float) -> str:
    """Bytes, in three digits or so: 14.9Gi."""
    number, unit = _scaled(count)
    return f"{number}{unit}"


def size(count: float) -> str:
    """Likewise, in a sentence: 14.9 GiB."""
    number, unit = _scaled(count)
    return f"{number} {unit}B" if unit else f"{number} bytes"


def number(count: int) -> str:
    """Of parameters, in three digits: 8.03B."""
    for unit, letter in _COUNTS:
        if count >= unit:
            return f"{_three(count / unit)}{letter}"
    return str(count)


def _scaled(count: float) -> tuple[str, str]:
    power = 0
    while count >= 1024 and power < len(_BINARY) - 1:
        count, power = count / 1024, power + 1
    return _three(count) if power else f"{count:.0f}", _BINARY[power]


def _three(count: float) -> str:
    digits = 0 if count >= 100 else 1 if count >= 10 else 2
    text = f"{count:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text
