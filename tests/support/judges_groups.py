"""Independent judges of the formats that store N of every M columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.corruption import FLOATS, is_shape


def is_two_four(values: Any, meta: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix with at most two values in every four columns."""
    return is_n_of_m(values, meta, (2, 4), shape)


def is_n_of_m(values: Any, meta: Any, pattern: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix; each row of words is read as one long number."""
    arrays = all(isinstance(array, np.ndarray) and array.ndim == 2 for array in (values, meta))
    if not (arrays and is_shape(shape) and is_shape(pattern)):
        return False
    (rows, k), (n, m) = shape, pattern
    if not (1 <= n <= m and 2 <= m <= 256 and k % m == 0):
        return False
    bits = 1 if m == 2 else 2 if m <= 4 else 4 if m <= 16 else 8
    n_values = k // m * n
    return (
        values.dtype.type in FLOATS
        and meta.dtype.type is np.uint32
        and values.shape == (rows, n_values)
        and meta.shape == (rows, (n_values * bits + 31) // 32)
        and all(is_row_of_groups(words, n_values, bits, n, m) for words in meta.tolist())
    )


def is_row_of_groups(words: list[int], n_values: int, bits: int, n: int, m: int) -> bool:
    """Whether the groups of a row increase and stay below m, and the rest counts 0 to n - 1."""
    number = sum(word << 32 * place for place, word in enumerate(words))
    fields = [number >> bits * k & 2**bits - 1 for k in range(32 * len(words) // bits)]
    stored, rest = fields[:n_values], fields[n_values:]
    groups = [stored[k : k + n] for k in range(0, n_values, n)]
    return all(group == sorted(set(group)) and group[-1] < m for group in groups) and rest == [
        k % n for k in range(len(rest))
    ]
