"""Groups of M columns: which N of them are stored, and how their indices share a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count
from refimpl.formats.base import check_dense

WORD_BITS = 32
INDEX_BITS = (1, 2, 4, 8)  # widths of an index that leave no bit of a word over


def pack_groups(where: str, dense: Any, pattern: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give the `values` and the `meta` of a dense matrix.

    Parameters
    ----------
    where : str
        Named in the error.
    dense : ndarray of float16, float32 or float64, shape (m, k)
        The matrix to store.
    pattern : tuple of int
        ``(N, M)``.

    Returns
    -------
    values : ndarray of the dtype of `dense`, shape (m, k / M * N)
        The stored values.
    meta : ndarray of uint32, shape (m, words)
        Their places.

    Raises
    ------
    TypeError, ValueError
        In one sentence, if `dense` is no matrix of floats or does not have the pattern.
    """
    check_dense(where, dense)
    n, m = check_pattern(where, pattern)
    rows, k = dense.shape
    groups = dense.reshape(rows, count_groups(where, k, m), m)
    _check_counts(where, np.count_nonzero(groups, axis=-1), pattern)
    stored = stored_columns(groups != 0, n)
    values = groups[stored].reshape(rows, k // m * n)
    values[values == 0] = 0  # -0.0 becomes +0.0
    indices = np.broadcast_to(np.arange(m), stored.shape)[stored].reshape(values.shape)
    return values, pack_indices(indices, n, index_bits(m))


def stored_columns(nonzero: np.ndarray, n: int) -> np.ndarray:
    """Choose n of the m columns of each group: the nonzeros, filled up from the last n.

    Parameters
    ----------
    nonzero : ndarray of bool, shape (..., m)
        At most `n` of each group are True.
    n : int
        How many to choose.

    Returns
    -------
    ndarray of bool, shape (..., m)
        True n times in each group. If some of the n are missing, the first of the last n columns
        that are free take their places; as many are always free.

    Examples
    --------
    >>> stored_columns(np.array([True, False, False, False]), 2).tolist()
    [True, False, True, False]
    """
    m = nonzero.shape[-1]
    missing = n - np.count_nonzero(nonzero, axis=-1, keepdims=True)
    free = ~nonzero & (np.arange(m) >= m - n)
    return nonzero | free & (np.cumsum(free, axis=-1, dtype=np.int16) <= missing)


def index_bits(m: int) -> int:
    """Say how many bits an index within a group of m columns takes.

    Parameters
    ----------
    m : int
        Columns of a group, 2 to 256.

    Returns
    -------
    int
        The smallest of 1, 2, 4 and 8 that counts to m - 1.

    Examples
    --------
    >>> [index_bits(m) for m in (2, 4, 8, 16, 32)]
    [1, 2, 4, 4, 8]
    """
    return next(bits for bits in INDEX_BITS if m <= 2**bits)


def pack_indices(indices: np.ndarray, n: int, bits: int) -> np.ndarray:
    """Write the indices of each row side by side into words, the first into the lowest bits.

    Parameters
    ----------
    indices : ndarray of int, shape (m, slots)
        Each below ``2**bits``.
    n : int
        How many belong to a group; it says what fills up the last word.
    bits : int
        Of an index: 1, 2, 4 or 8.

    Returns
    -------
    ndarray of uint32, shape (m, words)

    Examples
    --------
    >>> [hex(word) for word in pack_indices(np.array([[1, 3, 2, 3]]), 2, 2)[0]]
    ['0x444444ed']
    """
    rows, slots = indices.shape
    rest = _filling(slots, n, bits)
    whole = np.hstack([indices, np.broadcast_to(rest, (rows, rest.size))]).astype(np.uint32)
    shifts = np.arange(0, WORD_BITS, bits, dtype=np.uint32)
    fields = whole.reshape(rows, whole.shape[1] // shifts.size, shifts.size) << shifts
    return np.bitwise_or.reduce(fields, axis=-1)


def unpack_indices(words: np.ndarray, bits: int) -> np.ndarray:
    """Read the indices back, those that fill up the last word of a row included.

    Parameters
    ----------
    words : ndarray of uint32, shape (m, words)
        From `pack_indices`.
    bits : int
        Of an index: 1, 2, 4 or 8.

    Returns
    -------
    ndarray of uint32, shape (m, words * 32 / bits)

    Examples
    --------
    >>> unpack_indices(np.array([[0x444444ed]], np.uint32), 2)[0, :6].tolist()
    [1, 3, 2, 3, 0, 1]
    """
    shifts = np.arange(0, WORD_BITS, bits, dtype=np.uint32)
    fields = words[..., None] >> shifts & np.uint32(2**bits - 1)
    return fields.reshape(len(words), words.shape[1] * shifts.size)


def check_pattern(where: str, pattern: Any) -> tuple[int, int]:
    """Refuse a pattern that no index of at most 8 bits can store.

    Parameters
    ----------
    where : str
        Named in the error.
    pattern : tuple of int
        ``(N, M)`` with 1 <= N <= M and 2 <= M <= 256.

    Returns
    -------
    tuple of int
        The pattern.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    if not isinstance(pattern, tuple) or len(pattern) != 2:
        advice = "give (n, m), such as (2, 4)"
        raise bad_argument(
            where, "pattern", "be a tuple of two", repr(pattern), advice, kind=TypeError
        )
    check_count(where, "pattern[1]", pattern[1], 2, 2 ** INDEX_BITS[-1])
    check_count(where, "pattern[0]", pattern[0], 1, pattern[1])
    return pattern


def count_groups(where: str, n_columns: int, m: int) -> int:
    """Count the groups that a row is cut into.

    Parameters
    ----------
    where : str
        Named in the error.
    n_columns : int
        Columns of the matrix.
    m : int
        Columns of a group.

    Returns
    -------
    int
        ``n_columns / m``.

    Raises
    ------
    ValueError
        If groups do not fill a row.
    """
    if n_columns % m:
        advice = "pad with zeros or use CSR"
        raise bad_argument(where, "columns", f"be a multiple of {m}", n_columns, advice)
    return n_columns // m


def check_groups(
    where: str, values: np.ndarray, meta: np.ndarray, pattern: Any, shape: tuple[int, int]
) -> None:
    """Refuse values and words that are not those of one matrix.

    Parameters
    ----------
    where : str
        Named in the error.
    values : ndarray of float, shape (m, k / M * N)
        The stored values.
    meta : ndarray of uint32, shape (m, words)
        Their places.
    pattern : tuple of int
        ``(N, M)``.
    shape : tuple of int
        ``(m, k)``.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    n, m = check_pattern(where, pattern)
    rows, groups = shape[0], count_groups(where, shape[1], m)
    slots, bits = groups * n, index_bits(m)
    words = -(-slots * bits // WORD_BITS)
    check_array(where, "values", values, shape=(rows, slots))
    check_array(where, "meta", meta, shape=(rows, words))
    indices = unpack_indices(meta, bits)
    _check_places(where, indices[:, :slots].reshape(rows, groups, n), m)
    _check_filling(where, indices[:, slots:], _filling(slots, n, bits))


def _filling(slots: int, n: int, bits: int) -> np.ndarray:
    """Give the indices that fill up the last word of a row."""
    return np.arange(-slots % (WORD_BITS // bits)) % n


def _check_counts(where: str, counts: np.ndarray, pattern: tuple[int, int]) -> None:
    """Refuse a group with more nonzeros than it has places."""
    n, m = pattern
    if (counts > n).any():
        row, group = np.argwhere(counts > n)[0].tolist()
        requirement = f"have at most {n} nonzeros in each group of {m} columns"
        actual = f"{counts[row, group]} in row {row}, group {group} (columns from {group * m} on)"
        advice = f"prune it to {n}:{m} first or use CSR"
        raise bad_argument(where, "dense", requirement, actual, advice)


def _check_places(where: str, indices: np.ndarray, m: int) -> None:
    """Refuse indices that do not increase within a group, or lead out of it."""
    wrong = (indices[..., 1:] <= indices[..., :-1]).any(axis=-1) | (indices[..., -1] >= m)
    if wrong.any():
        row, group = np.argwhere(wrong)[0].tolist()
        requirement = f"hold strictly increasing indices below {m} for each group"
        actual = f"{indices[row, group].tolist()} in row {row}, group {group}"
        advice = f"pack it with {where}.from_dense"
        raise bad_argument(where, "meta", requirement, actual, advice)


def _check_filling(where: str, indices: np.ndarray, wanted: np.ndarray) -> None:
    """Refuse a last word whose unused bits are not what `pack_indices` leaves there."""
    wrong = (indices != wanted).any(axis=-1)
    if wrong.any():
        row = int(wrong.argmax())
        requirement = f"fill up the last word of each row with the indices {wanted.tolist()}"
        actual = f"{indices[row].tolist()} in row {row}"
        advice = f"pack it with {where}.from_dense"
        raise bad_argument(where, "meta", requirement, actual, advice)
