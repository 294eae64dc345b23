"""Least squares of the relative error, with no coefficient below zero; for a handful of unknowns, so in plain Python.

Rows are divided by what was measured, so that a millisecond counts for more in a short time than in a long one. Where the best
solution has a coefficient below zero, the lowest is set to zero and the rest is solved again.
"""

from collections.abc import Sequence
from typing import Final

RIDGE: Final = 1e-12
"""Keeps unknowns that the rows cannot tell apart from blowing up."""


def fit(rows: Sequence[Sequence[float]], measured: Sequence[float]) -> list[float]:
    """For each column its factor. Every measured value must be above zero."""
    scaled = [[value / seconds for value in row] for row, seconds in zip(rows, measured, strict=True)]
    size = [max((abs(row[column]) for row in scaled), default=0.0) for column in range(len(rows[0]))]
    free = [column for column in range(len(rows[0])) if size[column] > 0]
    while free:
        normed = [[row[column] / size[column] for column in free] for row in scaled]
        solution = _solve(normed)
        lowest = min(range(len(free)), key=lambda place: solution[place])
        if solution[lowest] >= 0:
            found = dict(zip(free, solution, strict=True))
            return [found[column] / size[column] if column in found else 0.0 for column in range(len(rows[0]))]
        del free[lowest]
    return [0.0] * len(rows[0])


def _solve(rows: Sequence[Sequence[float]]) -> list[float]:
    """The x for which rows · x is nearest to 1 everywhere: the normal equations, by Gauss's elimination."""
    count = len(rows[0])
    matrix = [
        [
            *(sum(row[i] * row[j] for row in rows) + (RIDGE if i == j else 0.0) for j in range(count)),
            sum(row[i] for row in rows),
        ]
        for i in range(count)
    ]
    for pivot in range(count):
        best = max(range(pivot, count), key=lambda i: abs(matrix[i][pivot]))
        matrix[pivot], matrix[best] = matrix[best], matrix[pivot]
        for i in range(count):
            if i != pivot:
                factor = matrix[i][pivot] / matrix[pivot][pivot]
                matrix[i] = [value - factor * other for value, other in zip(matrix[i], matrix[pivot], strict=True)]
    return [matrix[i][count] / matrix[i][i] for i in range(count)]
