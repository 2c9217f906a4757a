"""CSC, the compressed sparse column format: values column by column, as CSR has them by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import scipy.sparse

from refimpl.arrays import FLOAT_DTYPES, INDEX_DTYPES, bad_argument
from refimpl.formats.base import SparseMatrix, Stored, check_dense
from refimpl.formats.coo import COO, check_coo, check_scipy_dtype
from refimpl.formats.csr import CSR
from refimpl.formats.indices import check_compressed, index_dtype, pointers


@final
@dataclass(frozen=True, eq=False, repr=False)
class CSC(SparseMatrix):
    """A sparse matrix as its columns, one after the other.

    Column j owns the entries ``indptr[j]`` to ``indptr[j + 1] - 1`` of `data` and `indices`.

    Parameters
    ----------
    data : ndarray of float16, float32 or float64, shape (nnz,)
        The values, column by column; zeros are allowed.
    indices : ndarray of int32 or int64, shape (nnz,)
        The row of each value, strictly increasing within a column.
    indptr : ndarray of the dtype of `indices`, shape (n + 1,)
        Where each column begins in `data`; starts at 0, never decreases, ends at nnz.
    shape : tuple of int
        ``(m, n)``, rows and columns.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    The CSC arrays of a matrix are the `CSR` arrays of its transpose, bit for bit. Hence they
    take ``nnz * (bytes of a value + bytes of an index) + (n + 1) * bytes of an index``:
    ``8 nnz + 4 (n + 1)`` for float32 and int32.

    References
    ----------
    Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., 2003, section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> csc = CSC.from_dense(np.array([[1.0, 0, 2], [0, 0, 3], [4, 0, 0]], np.float32))
    >>> csc.data.tolist(), csc.indices.tolist(), csc.indptr.tolist()
    ([1.0, 4.0, 2.0, 3.0], [0, 2, 0, 1], [0, 2, 2, 4])
    >>> csc @ np.ones(3, np.float32)
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
        """Store the entries of a dense matrix that are not zero, column by column."""
        check_dense("CSC.from_dense", dense)
        cols, rows = np.nonzero(dense.T)
        index = index_dtype(dense.shape, rows.size)
        indptr = pointers(cols, dense.shape[1], index)
        return cls(dense[rows, cols], rows.astype(index), indptr, dense.shape)

    @classmethod
    def from_coo(cls, coo: COO) -> Self:
        """Sort coordinates by column, then row, and compress the column numbers."""
        check_coo("CSC.from_coo", coo)
        order = np.lexsort((coo.rows, coo.cols))
        indptr = pointers(coo.cols, coo.shape[1], coo.cols.dtype)
        return cls(coo.data[order], coo.rows[order], indptr, coo.shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> Self:
        """Copy a SciPy sparse matrix of any format; duplicates are summed, rows sorted.

        Parameters
        ----------
        matrix : scipy.sparse array or matrix of float32 or float64
            Any format; left as it is.

        Returns
        -------
        CSC
            Stored zeros of `matrix` stay stored.

        Raises
        ------
        TypeError, ValueError
            If `matrix` is not sparse, not of floats, or its indices are corrupt.
        """
        return cls.from_coo(COO.from_scipy(matrix))

    @classmethod
    def transpose_of(cls, csr: CSR) -> Self:
        """Read the rows of a CSR matrix as the columns of its transpose.

        Parameters
        ----------
        csr : CSR
            Of shape (n, m).

        Returns
        -------
        CSC
            Of shape (m, n), over the same memory: nothing is copied, sorted or checked again.

        Raises
        ------
        TypeError
            If `csr` is of another format.
        """
        if not isinstance(csr, CSR):
            actual, advice = type(csr).__name__, "convert it with CSR.from_coo(a.to_coo())"
            where, kind = "CSC.transpose_of", TypeError
            raise bad_argument(where, "csr", "be a CSR", actual, advice, kind=kind)
        return csr._arrays_as(cls, csr.shape[::-1])

    def transpose(self) -> CSR:
        """Read the columns of this matrix as the rows of its transpose, which is then CSR.

        Returns
        -------
        CSR
            Of shape (n, m), over the same memory: nothing is copied, sorted or checked again.
        """
        return self._arrays_as(CSR, self.shape[::-1])

    def to_coo(self) -> COO:
        """Write out the column number of each entry, column by column."""
        column_numbers = np.arange(self.shape[1], dtype=self.indptr.dtype)
        cols = np.repeat(column_numbers, np.diff(self.indptr))
        return COO(self.indices, cols, self.data, self.shape)

    def to_scipy(self) -> scipy.sparse.csc_array:
        """Copy into SciPy's compressed sparse column format.

        Returns
        -------
        scipy.sparse.csc_array
            Owns writeable copies of the arrays.

        Raises
        ------
        TypeError
            If the values are float16, which SciPy's sparse arrays do not support.
        """
        check_scipy_dtype("CSC.to_scipy", self.dtype)
        arrays = (self.data.copy(), self.indices.copy(), self.indptr.copy())
        return scipy.sparse.csc_array(arrays, shape=self.shape)

    # Infinity and NaN as IEEE 754 has them, without a warning, as from a compiled kernel.
    @np.errstate(over="ignore", invalid="ignore")
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: each column scatters multiples of an entry of `x`.

        Notes
        -----
        ``y_indices[k] += data[k] x_j`` over ``indptr[j] <= k < indptr[j + 1]``, column after
        column. Each row of the result is written as often as it has entries.
        """
        data, x, y, dtype = self._operands(self.data, x)
        indices, indptr = self.indices, self.indptr
        for column in range(self.shape[1]):
            for k in range(indptr[column], indptr[column + 1]):
                y[indices[k]] += data[k] * x[column]
        return y.astype(dtype, copy=False)

    def _check_structure(self, where: str) -> None:
        sizes = self.shape[::-1]
        check_compressed(where, self.indices, self.indptr, self.nnz, sizes, "column")
