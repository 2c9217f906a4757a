"""CSR, the compressed sparse row format: values row by row, and where each row begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import scipy.sparse

from refimpl.arrays import FLOAT_DTYPES, INDEX_DTYPES
from refimpl.formats.base import SparseMatrix, Stored, check_dense
from refimpl.formats.coo import COO, check_coo, check_scipy_dtype
from refimpl.formats.indices import check_compressed, index_dtype, pointers


@final
@dataclass(frozen=True, eq=False, repr=False)
class CSR(SparseMatrix):
    """A sparse matrix as its rows, one after the other.

    Row i owns the entries ``indptr[i]`` to ``indptr[i + 1] - 1`` of `data` and `indices`.

    Parameters
    ----------
    data : ndarray of float16, float32 or float64, shape (nnz,)
        The values, row by row; zeros are allowed.
    indices : ndarray of int32 or int64, shape (nnz,)
        The column of each value, strictly increasing within a row.
    indptr : ndarray of the dtype of `indices`, shape (m + 1,)
        Where each row begins in `data`; starts at 0, never decreases, ends at nnz.
    shape : tuple of int
        ``(m, n)``, rows and columns.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    Takes ``nnz * (bytes of a value + bytes of an index) + (m + 1) * bytes of an index``:
    ``8 nnz + 4 (m + 1)`` for float32 and int32.

    References
    ----------
    Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., 2003, section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> csr = CSR.from_dense(np.array([[1.0, 0, 2], [0, 0, 3], [4, 0, 0]], np.float32))
    >>> csr.data.tolist(), csr.indices.tolist(), csr.indptr.tolist()
    ([1.0, 2.0, 3.0, 4.0], [0, 2, 2, 0], [0, 2, 3, 4])
    >>> csr
    CSR(shape=(3, 3), nnz=4, dtype=float32, nbytes=48)
    >>> csr @ np.ones(3, np.float32)
    array([3., 3., 4.], dtype=float32)
    """

    arrays: ClassVar = (
        Stored("data", 1, FLOAT_DTYPES),
        Stored("indices", 1, INDEX_DTYPES),
        Stored("indptr", 1, INDEX_DTYPES),
    )

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, dense: np.ndarray) -> Self:
        """Store the entries of a dense matrix that are not zero, row by row.

        Parameters
        ----------
        dense : ndarray of float16, float32 or float64, shape (m, n)
            Any memory layout.

        Returns
        -------
        CSR
            A copy. Exact, except that -0.0 is not stored and comes back as +0.0.

        Raises
        ------
        TypeError, ValueError
            If `dense` is no matrix of floats.
        """
        check_dense("CSR.from_dense", dense)
        rows, cols = np.nonzero(dense)
        index = index_dtype(dense.shape, rows.size)
        indptr = pointers(rows, dense.shape[0], index)
        return cls(dense[rows, cols], cols.astype(index), indptr, dense.shape)

    @classmethod
    def from_coo(cls, coo: COO) -> Self:
        """Sort coordinates by row, then column, and compress the row numbers.

        Parameters
        ----------
        coo : COO
            In any order.

        Returns
        -------
        CSR
            A copy, with the same entries and index dtype.
        """
        check_coo("CSR.from_coo", coo)
        order = np.lexsort((coo.cols, coo.rows))
        indptr = pointers(coo.rows, coo.shape[0], coo.rows.dtype)
        return cls(coo.data[order], coo.cols[order], indptr, coo.shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> Self:
        """Copy a SciPy sparse matrix of any format; duplicates are summed, columns sorted.

        Parameters
        ----------
        matrix : scipy.sparse array or matrix of float32 or float64
            Any format; left as it is.

        Returns
        -------
        CSR
            Stored zeros of `matrix` stay stored.

        Raises
        ------
        TypeError, ValueError
            If `matrix` is not sparse, not of floats, or its indices are corrupt.
        """
        return cls.from_coo(COO.from_scipy(matrix))

    def to_coo(self) -> COO:
        """Write out the row number of each entry.

        Returns
        -------
        COO
            A copy, row by row, with the same entries and index dtype.
        """
        row_numbers = np.arange(self.shape[0], dtype=self.indptr.dtype)
        rows = np.repeat(row_numbers, np.diff(self.indptr))
        return COO(rows, self.indices, self.data, self.shape)

    def to_scipy(self) -> scipy.sparse.csr_array:
        """Copy into SciPy's compressed sparse row format.

        Returns
        -------
        scipy.sparse.csr_array
            Owns writeable copies of the arrays.

        Raises
        ------
        TypeError
            If the values are float16, which SciPy's sparse arrays do not support.
        """
        check_scipy_dtype("CSR.to_scipy", self.dtype)
        arrays = (self.data.copy(), self.indices.copy(), self.indptr.copy())
        return scipy.sparse.csr_array(arrays, shape=self.shape)

    def transpose(self) -> CSR:
        """Store the same entries column by column: the CSR arrays of the transposed matrix.

        Returns
        -------
        CSR
            A copy, of shape ``(n, m)``. Backpropagation through ``W @ x`` needs it.

        Notes
        -----
        A sort of nnz entries by column; not free, so do it once and keep the result.
        """
        coo = self.to_coo()
        return CSR.from_coo(COO(coo.cols, coo.rows, coo.data, self.shape[::-1]))

    # Infinity and NaN as IEEE 754 has them, without a warning, as from a compiled kernel.
    @np.errstate(over="ignore", invalid="ignore")
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: each row gathers its own sum.

        Parameters
        ----------
        x : ndarray of float16, float32 or float64, shape (n,) or (n, batch)
            Any memory layout.

        Returns
        -------
        ndarray, shape (m,) or (m, batch)
            New, of dtype ``np.result_type(data, x)``: summed in float32 at
            least, rounded once.

        Raises
        ------
        TypeError, ValueError
            If `x` is no array of floats or its first axis is not n long.

        Notes
        -----
        ``y_i = sum of data[k] x[indices[k]]`` over
        ``indptr[i] <= k < indptr[i + 1]``, in 2 nnz flops for each column of x.
        Entries that are not stored are skipped, even where x is infinite or NaN.
        """
        data, x, y, dtype = self._operands(self.data, x)
        indices, indptr = self.indices, self.indptr
        for row in range(self.shape[0]):
            for k in range(indptr[row], indptr[row + 1]):
                y[row] += data[k] * x[indices[k]]
        return y.astype(dtype, copy=False)

    def _check_structure(self, where: str) -> None:
        check_compressed(where, self.indices, self.indptr, self.nnz, self.shape, "row")
