"""The smallest sum of squares of a few functions of a few unknowns, without their derivatives. Pure Python.

Levenberg 1944 and Marquardt 1963: a step of Gauss and Newton, shortened until it is one downhill.
"""

from collections.abc import Callable, Sequence
from typing import Final

Vector = list[float]
Residuals = Callable[[Sequence[float]], Vector]

_STEPS: Final = 25
_NUDGE: Final = 1e-4
"""By which an unknown is changed to see what it does."""
_ENOUGH: Final = 1e-7
"""Relative: a step that gains less is the last."""
_SHORTEST: Final = 1e7
"""Damping beyond which no step is downhill any more."""
_LONGEST: Final = 2.0
"""Of a step in any unknown, so that no far guess leaves what can be computed."""


def minimise(residuals: Residuals, start: Sequence[float]) -> Vector:
    """A local minimum near the start."""
    here, damping = list(start), 1e-2
    found = residuals(here)
    for _ in range(_STEPS):
        jacobian = [_slope(residuals, here, found, unknown) for unknown in range(len(here))]
        before = _squares(found)
        while damping < _SHORTEST:
            step = _step(jacobian, found, damping)
            there = [value + max(-_LONGEST, min(change, _LONGEST)) for value, change in zip(here, step, strict=True)]
            tried = residuals(there)
            if _squares(tried) < before:
                break
            damping *= 4
        else:
            return here
        here, found, damping = there, tried, damping / 4
        if before - _squares(found) < _ENOUGH * before:
            return here
    return here


def _squares(values: Sequence[float]) -> float:
    return sum(value * value for value in values)


def _slope(residuals: Residuals, here: Vector, found: Vector, unknown: int) -> Vector:
    nudged = list(here)
    nudged[unknown] += _NUDGE
    return [(after - before) / _NUDGE for after, before in zip(residuals(nudged), found, strict=True)]


def _step(jacobian: Sequence[Vector], found: Vector, damping: float) -> Vector:
    """Of the normal equations, their diagonal made larger by the damping."""
    unknowns = range(len(jacobian))
    normal = [[sum(a * b for a, b in zip(jacobian[i], jacobian[j], strict=True)) for j in unknowns] for i in unknowns]
    for i in unknowns:
        normal[i][i] = normal[i][i] * (1 + damping) + 1e-12
    return _solved(normal, [-sum(a * b for a, b in zip(column, found, strict=True)) for column in jacobian])


def _solved(matrix: list[Vector], right: Vector) -> Vector:
    """By elimination with the largest pivot; both are used up."""
    size = len(right)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        right[column], right[pivot] = right[pivot], right[column]
        for row in range(column + 1, size):
            factor = matrix[row][column] / matrix[column][column]
            for other in range(column, size):
                matrix[row][other] -= factor * matrix[column][other]
            right[row] -= factor * right[column]
    for row in reversed(range(size)):
        right[row] -= sum(matrix[row][column] * right[column] for column in range(row + 1, size))
        right[row] /= matrix[row][row]
    return right
