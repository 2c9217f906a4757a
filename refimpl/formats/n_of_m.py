"""N:M, a format with a fixed number of places: N values for every M columns side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np

from refimpl.arrays import FLOAT_DTYPES
from refimpl.formats.base import SparseMatrix, Stored
from refimpl.formats.coo import COO, check_coo
from refimpl.formats.groups import check_groups, index_bits, pack_groups, unpack_indices
from refimpl.formats.indices import index_dtype


class GroupedMatrix(SparseMatrix):
    """A matrix whose rows are cut into groups of M columns, N of which are stored.

    Attributes
    ----------
    values : ndarray of float16, float32 or float64, shape (m, k / M * N)
        The stored values, row by row and group by group.
    meta : ndarray of uint32, shape (m, words)
        The column of each value within its group, low bits first, in as few of 1, 2, 4 or 8
        bits as count to M - 1. Each row begins with a new word; what is left of its last word
        is filled with the indices 0 to N - 1, again and again.
    pattern : tuple of int
        ``(N, M)``.
    """

    arrays: ClassVar = (Stored("values", 2, FLOAT_DTYPES), Stored("meta", 2, (np.uint32,)))
    valued: ClassVar = "values"
    counted: ClassVar = "values"
    pattern: tuple[int, int]

    def columns(self) -> np.ndarray:
        """Work out the column of each stored value.

        Returns
        -------
        ndarray of int32 or int64, of the shape of `values`
            Strictly increasing within a row.
        """
        (n, m), slots = map(int, self.pattern), self.values.shape[1]
        index = index_dtype(self.shape, self.nnz)
        group = np.arange(self.nnz, dtype=index).reshape(self.values.shape) % max(slots, 1) // n
        return group * m + unpack_indices(self.meta, index_bits(m))[:, :slots].astype(index)

    def to_coo(self) -> COO:
        """Write out row and column of each stored entry, zeros included.

        Returns
        -------
        COO
            A copy, row by row.
        """
        columns = self.columns()
        rows = np.arange(columns.size, dtype=columns.dtype) // max(columns.shape[1], 1)
        return COO(rows, columns.ravel(), self.values.ravel(), self.shape)

    # Infinity and NaN as IEEE 754 has them, without a warning, as from a compiled kernel.
    @np.errstate(over="ignore", invalid="ignore")
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: every row sums equally many products.

        Parameters
        ----------
        x : ndarray of float16, float32 or float64, shape (k,) or (k, batch)
            Any memory layout.

        Returns
        -------
        ndarray, shape (m,) or (m, batch)
            New, of dtype ``np.result_type(values, x)``: summed in float32 at
            least, rounded once.

        Raises
        ------
        TypeError, ValueError
            If `x` is no array of floats or its first axis is not k long.

        Notes
        -----
        ``y_i = sum of values[i, s] x[columns[i, s]]`` over s, in 2 nnz flops
        for each column of x. An explicit zero is multiplied like any value, so
        with an infinity of x it gives NaN.
        """
        values, x, y, dtype = self._operands(self.values, x)
        columns = self.columns()
        for row in range(self.shape[0]):
            for value, column in zip(values[row], columns[row], strict=True):
                y[row] += value * x[column]
        return y.astype(dtype, copy=False)

    def _check_structure(self, where: str) -> None:
        check_groups(where, self.values, self.meta, self.pattern, self.shape)


@final
@dataclass(frozen=True, eq=False, repr=False)
class NOfM(GroupedMatrix):
    """A matrix that stores N values for every M columns of a row.

    Parameters
    ----------
    values : ndarray of float16, float32 or float64, shape (m, k / M * N)
        The stored values, row by row and group by group; zeros are allowed.
    meta : ndarray of uint32, shape (m, words)
        The column of each value within its group, strictly increasing: 1 bit for M = 2, 2 bits
        for M up to 4, 4 bits for M up to 16, 8 bits for M up to 256. Low bits come first, each
        row begins with a new word, and what is left of its last word is filled with the indices
        0 to N - 1, again and again.
    pattern : tuple of int
        ``(N, M)`` with 1 <= N <= M and 2 <= M <= 256.
    shape : tuple of int
        ``(m, k)``, rows and columns; k is a multiple of M.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    A group with fewer than N nonzeros stores explicit zeros too, at the first free columns of
    its last N. With b bits an index, a row takes ``k N / M`` values and ``ceil(k N b / 32 M)``
    words of 4 bytes. With the pattern (2, 4), `values` and `meta` are those of `TwoFour`.

    References
    ----------
    Zhou et al. (2021), "Learning N:M fine-grained structured sparse neural networks from
    scratch", defines the pattern; this way of storing it is ours.

    Examples
    --------
    >>> import numpy as np
    >>> dense = np.array([[0.0, 0, 0, 5, 0, 0, 0, 0], [0, 0, 6, 0, 0, 0, 0, 7]], np.float32)
    >>> two_of_eight = NOfM.from_dense(dense, pattern=(2, 8))
    >>> two_of_eight.values.tolist(), two_of_eight.columns().tolist()
    ([[5.0, 0.0], [6.0, 7.0]], [[3, 6], [2, 7]])
    >>> [hex(word) for word in two_of_eight.meta[:, 0]]  # 6 and 3, 7 and 2, and 1 0 to fill up
    ['0x10101063', '0x10101072']
    """

    values: np.ndarray
    meta: np.ndarray
    pattern: tuple[int, int]
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, dense: np.ndarray, *, pattern: tuple[int, int]) -> Self:
        """Store N entries of every M side by side, those that are not zero among them.

        Parameters
        ----------
        dense : ndarray of float16, float32 or float64, shape (m, k)
            Any memory layout; k is a multiple of M, and no group has more than N nonzeros. NaN
            counts as one.
        pattern : tuple of int
            ``(N, M)``.

        Returns
        -------
        NOfM
            A copy. Exact, except that -0.0 comes back as +0.0.

        Raises
        ------
        TypeError, ValueError
            If `dense` is no matrix of floats, or does not have the pattern.
        """
        return cls(*pack_groups("NOfM.from_dense", dense, pattern), pattern, dense.shape)

    @classmethod
    def from_coo(cls, coo: COO, *, pattern: tuple[int, int]) -> Self:
        """Store the entries of a COO matrix that are not zero, by way of the dense matrix.

        Parameters
        ----------
        coo : COO
            In any order.
        pattern : tuple of int
            ``(N, M)``.

        Returns
        -------
        NOfM
            A copy.

        Raises
        ------
        TypeError, ValueError
            If the matrix does not have the pattern.
        """
        where = "NOfM.from_coo"
        check_coo(where, coo)
        return cls(*pack_groups(where, coo.to_dense(), pattern), pattern, coo.shape)
