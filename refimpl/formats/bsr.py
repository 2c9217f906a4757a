"""BSR, the block sparse row format: small dense blocks, row of blocks by row of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import scipy.sparse

from refimpl.arrays import FLOAT_DTYPES, INDEX_DTYPES, bad_argument, check_count
from refimpl.formats.base import SparseMatrix, Stored, check_dense
from refimpl.formats.coo import COO, check_coo, check_scipy_dtype
from refimpl.formats.indices import (
    check_compressed,
    differs_from_previous,
    index_dtype,
    pointers,
)

MOST_IN_A_BLOCK = 2**31 - 1  # so that positions in a block fit any index


@final
@dataclass(frozen=True, eq=False, repr=False)
class BSR(SparseMatrix):
    """A sparse matrix cut into blocks of r rows and c columns, of which some are stored.

    A block is stored whole or not at all. Row i of blocks, which is rows ``i r`` to
    ``i r + r - 1`` of the matrix, owns the blocks ``indptr[i]`` to ``indptr[i + 1] - 1``.

    Parameters
    ----------
    data : ndarray of float16, float32 or float64, shape (n_blocks, r, c)
        The blocks, row of blocks by row of blocks; zeros are allowed.
    indices : ndarray of int32 or int64, shape (n_blocks,)
        The column of blocks of each block, strictly increasing within a row of blocks.
    indptr : ndarray of the dtype of `indices`, shape (m / r + 1,)
        Where each row of blocks begins in `data`; starts at 0, never decreases, ends at
        n_blocks.
    shape : tuple of int
        ``(m, n)``, rows and columns: multiples of r and of c.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    `nnz` counts every entry of the stored blocks, ``n_blocks r c``. They take
    ``nnz * (bytes of a value + bytes of an index / (r c)) + (m / r + 1) * bytes of an index``:
    ``nnz (4 + 4 / (r c)) + 4 (m / r + 1)`` for float32 and int32.

    References
    ----------
    Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., 2003, section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> dense = np.array([[1.0, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 0], [0, 0, 0, 6]], np.float32)
    >>> bsr = BSR.from_dense(dense, block_shape=(2, 2))
    >>> bsr.data.tolist()
    [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 0.0], [0.0, 6.0]]]
    >>> bsr.indices.tolist(), bsr.indptr.tolist()
    ([0, 1], [0, 1, 2])
    >>> bsr @ np.ones(4, np.float32)
    array([3., 7., 5., 6.], dtype=float32)
    """

    arrays: ClassVar = (
        Stored("data", 3, FLOAT_DTYPES),
        Stored("indices", 1, INDEX_DTYPES),
        Stored("indptr", 1, INDEX_DTYPES),
    )

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, dense: np.ndarray, *, block_shape: tuple[int, int]) -> Self:
        """Store the blocks of a dense matrix that hold an entry other than zero.

        Parameters
        ----------
        dense : ndarray of float16, float32 or float64, shape (m, n)
            Any memory layout.
        block_shape : tuple of int
            ``(r, c)``, rows and columns of a block; r divides m and c divides n.

        Returns
        -------
        BSR
            A copy. Exact, except that -0.0 comes back as +0.0.

        Raises
        ------
        TypeError, ValueError
            If `dense` is no matrix of floats, or `block_shape` does not divide its shape.
        """
        where = "BSR.from_dense"
        check_dense(where, dense)
        grid = block_grid(where, dense.shape, block_shape)
        r, c = block_shape
        blocks = dense.reshape(grid[0], r, grid[1], c).swapaxes(1, 2)  # (m / r, n / c, r, c)
        rows, cols = np.nonzero((blocks != 0).any(axis=(2, 3)))
        data = blocks[rows, cols]
        data[data == 0] = 0  # -0.0 becomes +0.0
        index = index_dtype(grid, len(data))
        return cls(data, cols.astype(index), pointers(rows, grid[0], index), dense.shape)

    @classmethod
    def from_coo(cls, coo: COO, *, block_shape: tuple[int, int]) -> Self:
        """Store each block that an entry falls into, the rest of it filled up with zeros.

        Parameters
        ----------
        coo : COO
            In any order. Its stored zeros count as entries.
        block_shape : tuple of int
            ``(r, c)``, rows and columns of a block; r divides m and c divides n.

        Returns
        -------
        BSR
            A copy, of the index dtype of `coo`.

        Raises
        ------
        TypeError, ValueError
            If `block_shape` does not divide the shape.
        """
        where = "BSR.from_coo"
        check_coo(where, coo)
        grid = block_grid(where, coo.shape, block_shape)
        r, c = block_shape
        order = np.lexsort((coo.cols // c, coo.rows // r))
        rows, cols = coo.rows[order] // r, coo.cols[order] // c
        is_first = differs_from_previous(rows, cols)
        block = np.cumsum(is_first) - 1  # the number of each entry's block
        data = np.zeros((np.count_nonzero(is_first), r, c), coo.dtype)
        data[block, coo.rows[order] % r, coo.cols[order] % c] = coo.data[order]
        indptr = pointers(rows[is_first], grid[0], coo.rows.dtype)
        return cls(data, cols[is_first], indptr, coo.shape)

    @classmethod
    def from_scipy(cls, matrix: Any, *, block_shape: tuple[int, int] | None = None) -> Self:
        """Copy a SciPy sparse matrix of any format; duplicates are summed, blocks sorted.

        Parameters
        ----------
        matrix : scipy.sparse array or matrix of float32 or float64
            Any format; left as it is.
        block_shape : tuple of int, optional
            ``(r, c)``, rows and columns of a block. May be left out for SciPy's BSR, whose
            blocks are then kept.

        Returns
        -------
        BSR
            Stored zeros of `matrix` stay stored.

        Raises
        ------
        TypeError, ValueError
            If `matrix` is not sparse, not of floats, or its indices are corrupt, or
            `block_shape` is missing or does not divide its shape.
        """
        coo = COO.from_scipy(matrix)
        if block_shape is None:
            if matrix.format != "bsr":
                actual, advice = f"None and {matrix.format}", "say for example block_shape=(4, 4)"
                raise bad_argument(
                    "BSR.from_scipy", "block_shape", "be given, except for bsr", actual, advice
                )
            block_shape = matrix.blocksize
        return cls.from_coo(coo, block_shape=block_shape)

    def to_coo(self) -> COO:
        """Write out row and column of each entry of each block, block by block."""
        r, c = self.block_shape
        index = np.promote_types(self.indices.dtype, index_dtype(self.shape, self.nnz))
        block_rows = np.repeat(np.arange(self.indptr.size - 1), np.diff(self.indptr))
        rows = block_rows[:, None, None] * r + np.arange(r)[:, None]  # (n_blocks, r, 1)
        cols = self.indices.astype(index)[:, None, None] * c + np.arange(c)  # (n_blocks, 1, c)
        rows, cols = (np.broadcast_to(line, self.data.shape).ravel() for line in (rows, cols))
        return COO(rows.astype(index), cols.astype(index), self.data.ravel(), self.shape)

    def to_scipy(self) -> scipy.sparse.bsr_array:
        """Copy into SciPy's block sparse row format.

        Returns
        -------
        scipy.sparse.bsr_array
            Owns writeable copies of the arrays.

        Raises
        ------
        TypeError
            If the values are float16, which SciPy's sparse arrays do not support.
        """
        check_scipy_dtype("BSR.to_scipy", self.dtype)
        arrays = (self.data.copy(), self.indices.copy(), self.indptr.copy())
        return scipy.sparse.bsr_array(arrays, shape=self.shape, blocksize=self.block_shape)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of a block, ``(r, c)``."""
        return self.data.shape[1:]

    # Infinity and NaN as IEEE 754 has them, without a warning, as from a compiled kernel.
    @np.errstate(over="ignore", invalid="ignore")
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: one small dense product for each stored block.

        Notes
        -----
        With y and x cut into the same blocks as the matrix,
        ``y_i = sum of data[k] @ x_indices[k]`` over
        ``indptr[i] <= k < indptr[i + 1]``, in 2 nnz flops for each column of x.
        A zero inside a stored block is multiplied as any other entry.
        """
        data, x, y, dtype = self._operands(self.data, x)
        indices, indptr, (r, c) = self.indices, self.indptr, self.block_shape
        for row in range(indptr.size - 1):
            of_row = slice(row * r, (row + 1) * r)
            for k in range(indptr[row], indptr[row + 1]):
                y[of_row] += data[k] @ x[indices[k] * c : (indices[k] + 1) * c]
        return y.astype(dtype, copy=False)

    def _check_structure(self, where: str) -> None:
        check_count(where, "shape", max(self.shape), 0, np.iinfo(np.int64).max)
        grid = block_grid(where, self.shape, self.block_shape)
        check_compressed(where, self.indices, self.indptr, len(self.data), grid, "row")


def block_grid(where: str, shape: tuple[int, int], block_shape: Any) -> tuple[int, int]:
    """Count the rows and columns of blocks that a matrix is cut into.

    Parameters
    ----------
    where : str
        Named in the error.
    shape : tuple of int
        ``(m, n)``, rows and columns of the matrix.
    block_shape : tuple of int
        ``(r, c)``, rows and columns of a block.

    Returns
    -------
    tuple of int
        ``(m / r, n / c)``.

    Raises
    ------
    TypeError, ValueError
        If `block_shape` is no pair of counts, or does not divide `shape`.

    Examples
    --------
    >>> block_grid("BSR", (32, 48), (4, 16))
    (8, 3)
    """
    if not isinstance(block_shape, tuple) or len(block_shape) != 2:
        actual, advice = repr(block_shape), "give (rows, columns) of a block, such as (4, 4)"
        raise bad_argument(
            where, "block_shape", "be a tuple of two", actual, advice, kind=TypeError
        )
    for size in block_shape:
        check_count(where, "block_shape", size, 1)
    (m, n), (r, c) = shape, block_shape
    if int(r) * int(c) > MOST_IN_A_BLOCK:
        requirement, advice = f"have at most {MOST_IN_A_BLOCK} entries", "choose smaller blocks"
        raise bad_argument(where, "block_shape", requirement, block_shape, advice)
    if m % r or n % c:
        requirement = f"divide the shape {shape}"
        advice = "choose divisors of rows and columns, or pad with rows and columns of zeros"
        raise bad_argument(where, "block_shape", requirement, block_shape, advice)
    return m // r, n // c
