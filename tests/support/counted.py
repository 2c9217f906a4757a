"""Numbers that count the operations done to them, and the textbook's two loops over a triangle."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np


class Counted:
    """A real number; what is done to any of its kind is counted, but for a change of sign."""

    operations = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def __neg__(self) -> Counted:
        return Counted(-self.value)

    def sqrt(self) -> Counted:
        """One operation, as LAPACK's counts have it."""
        Counted.operations += 1
        return Counted(math.sqrt(self.value))


def _counting(operation: Callable[[float, float], float], *, swapped: bool) -> Callable:
    def method(self: Counted, other: Counted | float) -> Counted:
        Counted.operations += 1
        pair = self.value, getattr(other, "value", other)
        return Counted(operation(*(reversed(pair) if swapped else pair)))

    return method


for _name in ("add", "sub", "mul", "truediv"):
    _operation = getattr(operator, _name)
    setattr(Counted, f"__{_name}__", _counting(_operation, swapped=False))
    setattr(Counted, f"__r{_name}__", _counting(_operation, swapped=True))


def counted(array: np.ndarray) -> np.ndarray:
    """The same numbers, as an array of objects that count."""
    return np.vectorize(Counted, otypes=[object])(array)


def plain(array: np.ndarray) -> np.ndarray:
    """The numbers again, as floats."""
    return np.vectorize(lambda number: getattr(number, "value", number), otypes=[float])(array)


def operations_of(function: Callable[..., object], *arguments: object) -> int:
    """How many operations a call makes."""
    before = Counted.operations
    function(*arguments)
    return Counted.operations - before


def factor_triangle(a: np.ndarray) -> np.ndarray:
    """Cholesky's L with ``a = L @ L.T`` in the lower triangle of `a`, column by column."""
    for j in range(len(a)):
        a[j, j] = a[j, j].sqrt()
        a[j + 1 :, j] = a[j + 1 :, j] / a[j, j]
        for k in range(j + 1, len(a)):
            a[k:, k] = a[k:, k] - a[k:, j] * a[k, j]
    return a


def invert_triangle(lower: np.ndarray) -> np.ndarray:
    """The inverse of a lower triangle in its place, column by column from the last."""
    n = len(lower)
    for j in reversed(range(n)):
        lower[j, j] = 1 / lower[j, j]
        column = lower[j + 1 :, j].copy()
        for i in range(j + 1, n):
            lower[i, j] = -(lower[i, j + 1 : i + 1] @ column[: i - j]) * lower[j, j]
    return lower
