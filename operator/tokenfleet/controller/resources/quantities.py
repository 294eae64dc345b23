"""Kubernetes quantities in the form in which the API server gives them back.

"1024Mi" comes back as "1Gi", "0.5" as "500m", the number 2 as "2". What the controller wants is compared with what the API
server has, so what the user writes into podTemplate is brought into this form first, which the API server then leaves as it is.
The rules are those of k8s.io/apimachinery/pkg/api/resource: the suffix keeps its family (binary, decimal, exponent), and is
the largest without a fraction.
"""

import re
from decimal import ROUND_UP, Decimal

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d+)?", re.ASCII)
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_EXPONENTS = {suffix: exponent for exponent, suffix in _DECIMAL.items()}
_LARGEST = 2**63 - 1

NANO = Decimal("1e-9")
MILLI = Decimal("1e-3")


def canonical_quantity(value: object, *, finest: Decimal = NANO) -> str:
    """`value` as the API server writes it; raises ValueError where it is no quantity.

    What is finer than `finest` is rounded away from zero: requests and limits are kept to the thousandth.
    """
    number, suffix = _parts(value)
    bounded = _bounded(_scaled(number, suffix), finest)
    if suffix in _BINARY and suffix:
        return _binary(bounded)
    return _decimal(bounded, exponential=suffix not in _EXPONENTS)


def amount(value: object) -> Decimal:
    """What `value` comes to, in units; raises ValueError where it is no quantity."""
    return _scaled(*_parts(value))


def _parts(value: object) -> tuple[Decimal, str]:
    """Number and suffix."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{value!r} is no quantity; write one such as 500m, 2 or 16Gi")
    return Decimal(match[1]), match[2] or ""


def _scaled(number: Decimal, suffix: str) -> Decimal:
    if suffix in _BINARY:
        return number * Decimal(1024 ** _BINARY.index(suffix))
    return number.scaleb(_EXPONENTS[suffix] if suffix in _EXPONENTS else int(suffix[1:]))


def _bounded(amount: Decimal, finest: Decimal) -> Decimal:
    """Rounded, and no larger than the API server keeps."""
    rounded = amount.quantize(finest, rounding=ROUND_UP) if abs(amount) < _LARGEST else amount
    return max(Decimal(-_LARGEST), min(Decimal(_LARGEST), rounded))


def _binary(amount: Decimal) -> str:
    if amount != amount.to_integral_value() or abs(amount) < 1024:
        return _decimal(amount, exponential=False)
    whole, power = int(amount), 0
    while whole % 1024 == 0 and power < len(_BINARY) - 1:
        whole, power = whole // 1024, power + 1
    return f"{whole}{_BINARY[power]}"


def _decimal(amount: Decimal, *, exponential: bool) -> str:
    if amount == 0:
        return "0"
    nanos, exponent = int(amount.scaleb(9)), -9
    while nanos % 1000 == 0 and exponent < max(_DECIMAL):
        nanos, exponent = nanos // 1000, exponent + 3
    if exponential:
        return f"{nanos}e{exponent}" if exponent else str(nanos)
    return f"{nanos}{_DECIMAL[exponent]}"
