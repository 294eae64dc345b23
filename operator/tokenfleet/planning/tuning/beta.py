"""The beta function, whole and incomplete, as logarithms and shares. Arithmetic alone: scipy is not among the libraries."""

from math import exp, lgamma, log, log1p
from typing import Final

_STEPS: Final = 500
_SMALL: Final = 1e-300
_PRECISION: Final = 1e-14


def log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def share_below(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b): how much of a Beta(a, b) lies below x.

    By its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), evaluated by Lentz's method, on the
    side of the mean where it converges fast."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - share_below(1 - x, b, a)
    front = exp(a * log(x) + b * log1p(-x) - log_beta(a, b)) / a
    return front * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    above, below = 1.0, _inverse(1 - (a + b) * x / (a + 1))
    whole = below
    for step in range(1, _STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            below = _inverse(1 + term * below)
            above = 1 + term / above or _SMALL
            whole *= above * below
        if abs(above * below - 1) < _PRECISION:
            break
    return whole


def _inverse(number: float) -> float:
    return 1 / (number or _SMALL)
