"""Numbers that count give the right count and the right number."""

from __future__ import annotations

import numpy as np
import pytest

from support.counted import (
    Counted,
    counted,
    factor_triangle,
    invert_triangle,
    operations_of,
    plain,
)

MATRIX = np.array([[4.0, 2.0, 0.0], [2.0, 5.0, 1.0], [0.0, 1.0, 3.0]])


@pytest.mark.parametrize(
    ("function", "expected", "operations"),
    [
        (lambda a: a + 1, 9.0, 1),
        (lambda a: 1 - a / 2, -3.0, 2),
        (lambda a: 2 / a, 0.25, 1),
        (lambda a: a.sqrt() * a, 8 * 8**0.5, 2),
        (lambda a: -a, -8.0, 0),
    ],
)
def test_operations_are_counted_one_by_one(function, expected, operations):
    found = []
    assert operations_of(lambda: found.append(function(Counted(8.0)))) == operations
    assert found[0].value == expected


@pytest.mark.parametrize("n", [1, 2, 5])
def test_products_of_vectors_count_multiplications_and_additions(n):
    x = counted(np.ones(n))
    assert operations_of(np.matmul, x, x) == 2 * n - 1


def test_triangles_are_factored_and_inverted():
    lower = np.tril(plain(factor_triangle(counted(MATRIX))))
    np.testing.assert_allclose(lower @ lower.T, MATRIX)
    inverse = np.tril(plain(invert_triangle(counted(lower))))
    np.testing.assert_allclose(inverse @ lower, np.eye(3), atol=1e-15)
