"""How many bytes does a format take, and when are they fewer than the dense matrix's?

Arithmetic on counts: nothing is stored, so a layer of any size can be asked about, and values
and indices of any width. Where a format can hold the matrix, its ``nbytes`` is this number.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

from refimpl.arrays import check_count
from refimpl.formats.base import checked_shape
from refimpl.formats.bsr import block_grid
from refimpl.formats.codebook import MOST_VALUES
from refimpl.formats.groups import WORD_BITS, check_pattern, count_groups, index_bits

Pair = tuple[int, int]


def dense_bytes(shape: Pair, *, value_bytes: int = 4) -> int:
    """Count the bytes of a matrix that stores every entry: ``m n value_bytes``.

    Parameters
    ----------
    shape : tuple of int
        ``(m, n)``, rows and columns.
    value_bytes : int
        Bytes of one value: 4 for float32, 2 for float16, 1 for int8.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    TypeError, ValueError
        If an argument is no count.

    Examples
    --------
    >>> dense_bytes((300, 784)), dense_bytes((300, 784), value_bytes=2)
    (940800, 470400)
    """
    m, n, _, value = _checked("dense_bytes", shape, 0, value_bytes=value_bytes)
    return m * n * value


def coo_bytes(shape: Pair, nnz: int, *, value_bytes: int = 4, index_bytes: int = 4) -> int:
    """Count the bytes of a COO matrix: a row, a column and a value an entry.

    Parameters
    ----------
    shape : tuple of int
        ``(m, n)``, rows and columns.
    nnz : int
        Stored entries, at most m n.
    value_bytes, index_bytes : int
        Bytes of one value and of one index: 4 for float32 and for int32.

    Returns
    -------
    int
        ``nnz (value_bytes + 2 index_bytes)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is no count, or the matrix has no room for `nnz` entries.

    Examples
    --------
    >>> coo_bytes((300, 784), 23_520)
    282240
    """
    widths = {"value_bytes": value_bytes, "index_bytes": index_bytes}
    _, _, nnz, value, index = _checked("coo_bytes", shape, nnz, **widths)
    return nnz * (value + 2 * index)


def csr_bytes(shape: Pair, nnz: int, *, value_bytes: int = 4, index_bytes: int = 4) -> int:
    """Count the bytes of a CSR matrix: a column and a value an entry, and row pointers.

    ``nnz (value_bytes + index_bytes) + (m + 1) index_bytes``, with the parameters and errors of
    `coo_bytes`. The number of columns plays no part.

    Examples
    --------
    Five of nine weights take more room than all nine do dense:

    >>> csr_bytes((3, 3), 5), dense_bytes((3, 3))
    (56, 36)
    """
    widths = {"value_bytes": value_bytes, "index_bytes": index_bytes}
    m, _, nnz, value, index = _checked("csr_bytes", shape, nnz, **widths)
    return nnz * (value + index) + (m + 1) * index


def csc_bytes(shape: Pair, nnz: int, *, value_bytes: int = 4, index_bytes: int = 4) -> int:
    """Count the bytes of a CSC matrix: a row and a value an entry, and column pointers.

    ``nnz (value_bytes + index_bytes) + (n + 1) index_bytes``, with the parameters and errors of
    `coo_bytes`.

    Examples
    --------
    >>> csc_bytes((1000, 10), 500), csr_bytes((1000, 10), 500)
    (4044, 8004)
    """
    widths = {"value_bytes": value_bytes, "index_bytes": index_bytes}
    _, n, nnz, value, index = _checked("csc_bytes", shape, nnz, **widths)
    return nnz * (value + index) + (n + 1) * index


def bsr_bytes(
    shape: Pair, n_blocks: int, block_shape: Pair, *, value_bytes: int = 4, index_bytes: int = 4
) -> int:
    """Count the bytes of a BSR matrix: a column and r c values a block, and row pointers.

    Parameters
    ----------
    shape : tuple of int
        ``(m, n)``, rows and columns.
    n_blocks : int
        Stored blocks, at most m n / (r c).
    block_shape : tuple of int
        ``(r, c)``, rows and columns of a block; r divides m and c divides n.
    value_bytes, index_bytes : int
        Bytes of one value and of one index.

    Returns
    -------
    int
        ``n_blocks (r c value_bytes + index_bytes) + (m / r + 1) index_bytes``.

    Raises
    ------
    TypeError, ValueError
        If an argument is no count, the blocks do not fill the shape, or are too many for it.

    Examples
    --------
    The same 1600 entries, as single entries and as blocks:

    >>> bsr_bytes((64, 64), 1600, (1, 1)), bsr_bytes((64, 64), 100, (4, 4))
    (13060, 6868)
    """
    where, widths = "bsr_bytes", {"value_bytes": value_bytes, "index_bytes": index_bytes}
    grid = block_grid(where, checked_shape(where, shape), block_shape)
    rows, _, n_blocks, value, index = _checked(where, grid, n_blocks, "n_blocks", **widths)
    r, c = map(int, block_shape)
    return n_blocks * (r * c * value + index) + (rows + 1) * index


def n_of_m_bytes(shape: Pair, pattern: Pair, *, value_bytes: int = 4) -> int:
    """Count the bytes of an N:M matrix: N values and N short indices for M columns.

    Parameters
    ----------
    shape : tuple of int
        ``(m, k)``, rows and columns; k is a multiple of M.
    pattern : tuple of int
        ``(N, M)`` with 1 <= N <= M and 2 <= M <= 256.
    value_bytes : int
        Bytes of one value.

    Returns
    -------
    int
        ``m k N / M value_bytes + 4 m ceil(k N / M b / 32)``: an index takes b bits, 1, 2, 4 or
        8, and each row fills whole words of 4 bytes.

    Raises
    ------
    TypeError, ValueError
        If an argument is no count, or groups of M do not fill the rows.

    Examples
    --------
    >>> n_of_m_bytes((64, 64), (2, 4)), n_of_m_bytes((64, 64), (1, 8))
    (8704, 2304)
    """
    return _group_bytes("n_of_m_bytes", shape, pattern, value_bytes)


def two_four_bytes(shape: Pair, *, value_bytes: int = 4) -> int:
    """Count the bytes of a 2:4 matrix: `n_of_m_bytes` with the pattern (2, 4).

    Examples
    --------
    Nine sixteenths of the dense float16 matrix, not a half:

    >>> two_four_bytes((64, 64), value_bytes=2) / dense_bytes((64, 64), value_bytes=2)
    0.5625
    """
    return _group_bytes("two_four_bytes", shape, (2, 4), value_bytes)


def bitmap_bytes(shape: Pair, nnz: int, *, value_bytes: int = 4) -> int:
    """Count the bytes of a bitmap matrix: one bit a position, and a value an entry.

    ``m ceil(n / 8) + nnz value_bytes``, since each row begins with a new byte; with the
    parameters and errors of `coo_bytes`.

    Examples
    --------
    >>> bitmap_bytes((300, 784), 23_520)
    123480
    """
    m, n, nnz, value = _checked("bitmap_bytes", shape, nnz, value_bytes=value_bytes)
    return m * _ceil(n, 8) + nnz * value


def relative_csc_bytes(
    shape: Pair, n_stored: int, *, value_bytes: int = 4, index_bytes: int = 4
) -> int:
    """Count the bytes of a relative-index CSC matrix: half a byte and a value an entry.

    ``n_stored value_bytes + ceil(n_stored / 2) + (n + 1) index_bytes``, with the parameters and
    errors of `coo_bytes`. Fillers count among the stored entries: `expected_fillers` says how
    many of them a random mask needs on average.

    Examples
    --------
    >>> relative_csc_bytes((300, 784), 23_520)
    108980
    """
    where, widths = "relative_csc_bytes", {"value_bytes": value_bytes, "index_bytes": index_bytes}
    _, n, stored, value, index = _checked(where, shape, n_stored, "n_stored", **widths)
    return stored * value + _ceil(stored, 2) + (n + 1) * index


def codebook_csc_bytes(
    shape: Pair, n_stored: int, n_values: int, *, value_bytes: int = 4, index_bytes: int = 4
) -> int:
    """Count the bytes of a relative-index CSC matrix with a codebook: one byte an entry.

    ``n_stored + n_values value_bytes + (n + 1) index_bytes``, with the parameters and errors of
    `relative_csc_bytes`; `n_values` is the length of the codebook.

    Examples
    --------
    >>> codebook_csc_bytes((300, 784), 23_520, 15)
    26720
    """
    where, widths = "codebook_csc_bytes", {"value_bytes": value_bytes, "index_bytes": index_bytes}
    _, n, stored, value, index = _checked(where, shape, n_stored, "n_stored", **widths)
    check_count(where, "n_values", n_values, 0, MOST_VALUES)
    return stored + int(n_values) * value + (n + 1) * index


def expected_blocks(shape: Pair, nnz: int, block_shape: Pair) -> float:
    r"""Expect this many blocks to hold an entry, if the entries lie at random places.

    Parameters
    ----------
    shape : tuple of int
        ``(m, n)``, rows and columns.
    nnz : int
        Entries, at most m n; every set of nnz positions is equally likely.
    block_shape : tuple of int
        ``(r, c)``, rows and columns of a block; r divides m and c divides n.

    Returns
    -------
    float
        The mean over all masks; the count of a single mask lies above or below it.

    Raises
    ------
    TypeError, ValueError
        As `bsr_bytes`.

    Notes
    -----
    A block of :math:`a = rc` positions is empty if all of them are among the
    :math:`z = mn - \mathrm{nnz}` zeros, which has the probability
    :math:`z (z - 1) \cdots (z - a + 1) \,/\, mn (mn - 1) \cdots (mn - a + 1)`.

    Examples
    --------
    At 90 % sparsity, four of five 4 x 4 blocks hold an entry:

    >>> round(expected_blocks((64, 64), 410, (4, 4)) / 256, 3)
    0.816
    """
    m, n, nnz = _checked("expected_blocks", shape, nnz)
    n_blocks = math.prod(block_grid("expected_blocks", (m, n), block_shape))
    area = m * n // max(n_blocks, 1)
    few, many = sorted((area, nnz))  # exchanging the two changes nothing but the work
    empty = math.perm(m * n - many, few) / math.perm(m * n, few)
    return n_blocks * (1 - empty)


def break_even(bytes_of: Callable[[int], int], most: int, dense: int) -> int:
    """Find the fewest entries with which a format is no smaller than the dense matrix.

    Parameters
    ----------
    bytes_of : callable
        Bytes of the format, given how many entries (or blocks) it stores; never falls.
    most : int
        As many as the matrix has room for.
    dense : int
        Bytes of the dense matrix.

    Returns
    -------
    int
        The least count with ``bytes_of(count) >= dense``: 0 if even the empty matrix takes as
        many bytes as the dense one, ``most + 1`` if the full one takes fewer.

    Raises
    ------
    TypeError, ValueError
        If `most` or `dense` is no count.

    Examples
    --------
    Of nine float32 weights, CSR can store two before it takes as many bytes as all nine:

    >>> break_even(lambda nnz: csr_bytes((3, 3), nnz), 9, dense_bytes((3, 3)))
    3
    >>> csr_bytes((3, 3), 2), csr_bytes((3, 3), 3), dense_bytes((3, 3))
    (32, 40, 36)
    """
    check_count("break_even", "most", most, 0)
    check_count("break_even", "dense", dense, 0)
    return bisect_left(range(most + 1), dense, key=bytes_of)


def _group_bytes(where: str, shape: Pair, pattern: Pair, value_bytes: int) -> int:
    n, m = map(int, check_pattern(where, pattern))
    rows, columns, _, value = _checked(where, shape, 0, value_bytes=value_bytes)
    slots = count_groups(where, columns, m) * n
    words = _ceil(slots * index_bits(m), WORD_BITS)
    return rows * (slots * value + words * WORD_BITS // 8)


def _checked(
    where: str, shape: Pair, stored: int, name: str = "nnz", **widths: int
) -> tuple[int, ...]:
    """Give rows, columns, stored items and widths as Python integers, or refuse them."""
    m, n = checked_shape(where, shape)
    check_count(where, name, stored, 0, m * n)
    for width_name, width in widths.items():
        check_count(where, width_name, width, 1)
    return m, n, int(stored), *(int(width) for width in widths.values())


def _ceil(count: int, size: int) -> int:
    """Groups of `size` that hold `count` items, the last one perhaps in part."""
    return -(-count // size)
