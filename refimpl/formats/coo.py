"""COO, the coordinate format: one row number, one column number and one value an entry."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import scipy.sparse

from refimpl.arrays import FLOAT_DTYPES, INDEX_DTYPES, bad_argument, check_array
from refimpl.formats.base import SparseMatrix, Stored, check_dense
from refimpl.formats.indices import (
    check_index_width,
    check_indices,
    differs_from_previous,
    index_dtype,
)


@final
@dataclass(frozen=True, eq=False, repr=False)
class COO(SparseMatrix):
    """A sparse matrix as a list of (row, column, value), in any order.

    Parameters
    ----------
    rows, cols : ndarray of int32 or int64, shape (nnz,)
        Where each value belongs; both of one dtype. No pair occurs twice.
    data : ndarray of float16, float32 or float64, shape (nnz,)
        The values; zeros are allowed.
    shape : tuple of int
        ``(m, n)``, rows and columns.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    Takes ``nnz * (bytes of a value + 2 * bytes of an index)``: 12 nnz for float32 and int32.

    References
    ----------
    Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., 2003, section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> coo = COO.from_dense(np.array([[1.0, 0, 2], [0, 0, 3], [4, 0, 0]], np.float32))
    >>> coo.rows.tolist(), coo.cols.tolist(), coo.data.tolist()
    ([0, 0, 1, 2], [0, 2, 2, 0], [1.0, 2.0, 3.0, 4.0])
    >>> coo @ np.ones(3, np.float32)
    array([3., 3., 4.], dtype=float32)
    """

    arrays: ClassVar = (
        Stored("rows", 1, INDEX_DTYPES),
        Stored("cols", 1, INDEX_DTYPES),
        Stored("data", 1, FLOAT_DTYPES),
    )

    rows: np.ndarray
    cols: np.ndarray
    data: np.ndarray
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
        COO
            A copy. Exact, except that -0.0 is not stored and comes back as +0.0.

        Raises
        ------
        TypeError, ValueError
            If `dense` is no matrix of floats.
        """
        check_dense("COO.from_dense", dense)
        rows, cols = np.nonzero(dense)
        index = index_dtype(dense.shape, rows.size)
        data = dense[rows, cols]
        return cls(rows.astype(index), cols.astype(index), data, dense.shape)

    @classmethod
    def from_coo(cls, coo: COO) -> Self:
        """Take the matrix as it is: it cannot change.

        Parameters
        ----------
        coo : COO
            In any order.

        Returns
        -------
        COO
            `coo` itself.

        Raises
        ------
        TypeError
            If `coo` is of another format.
        """
        check_coo("COO.from_coo", coo)
        return coo

    def to_coo(self) -> COO:
        """Take the matrix as it is: it cannot change.

        Returns
        -------
        COO
            The matrix itself.
        """
        return self

    @classmethod
    def from_scipy(cls, matrix: Any) -> Self:
        """Copy a SciPy sparse matrix of any format, row by row; duplicates are summed.

        Parameters
        ----------
        matrix : scipy.sparse array or matrix of float32 or float64
            Any format; left as it is.

        Returns
        -------
        COO
            Stored zeros of `matrix` stay stored.

        Raises
        ------
        TypeError, ValueError
            If `matrix` is not sparse, not of floats, or its indices are corrupt.
        """
        where = "COO.from_scipy"
        coo = _scipy_coo(where, matrix)
        index = index_dtype(coo.shape, coo.data.size)
        rows, cols, data = coo.row, coo.col, coo.data
        for name, indices, n in zip(("row", "col"), (rows, cols), coo.shape, strict=True):
            check_array(where, name, indices, shape=data.shape, dtypes=INDEX_DTYPES)
            check_indices(where, name, indices, n)
        order = np.lexsort((cols, rows))
        rows, cols, data = rows[order], cols[order], data[order]
        is_first = differs_from_previous(rows, cols)
        summed = data[is_first]  # added to only where there is more: 0.0 + -0.0 loses the sign
        np.add.at(summed, np.cumsum(is_first)[~is_first] - 1, data[~is_first])
        return cls(rows[is_first].astype(index), cols[is_first].astype(index), summed, coo.shape)

    def to_scipy(self) -> scipy.sparse.coo_array:
        """Copy into SciPy's coordinate format.

        Returns
        -------
        scipy.sparse.coo_array
            Owns writeable copies of the arrays.

        Raises
        ------
        TypeError
            If the values are float16, which SciPy's sparse arrays do not support.
        """
        check_scipy_dtype("COO.to_scipy", self.dtype)
        positions = (self.rows.copy(), self.cols.copy())
        return scipy.sparse.coo_array((self.data.copy(), positions), shape=self.shape)

    # Infinity and NaN as IEEE 754 has them, without a warning, as from a compiled kernel.
    @np.errstate(over="ignore", invalid="ignore")
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: each entry adds to one row of the result.

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
        ``y_r = sum of a_rc x_c`` over the stored (r, c), in 2 nnz flops for
        each column of x. Entries that are not stored are skipped, even where x
        is infinite or NaN.
        """
        data, x, y, dtype = self._operands(self.data, x)
        for row, col, value in zip(self.rows, self.cols, data, strict=True):
            y[row] += value * x[col]
        return y.astype(dtype, copy=False)

    def _check_structure(self, where: str) -> None:
        check_index_width(where, self.shape, self.nnz, rows=self.rows, cols=self.cols)
        check_array(where, "rows", self.rows, shape=(self.nnz,))
        check_array(where, "cols", self.cols, shape=(self.nnz,))
        check_indices(where, "rows", self.rows, self.shape[0])
        check_indices(where, "cols", self.cols, self.shape[1])
        _check_no_duplicates(where, self.rows, self.cols)


def check_coo(where: str, coo: Any) -> None:
    """Refuse what is no COO, the format that all conversions go through.

    Parameters
    ----------
    where : str
        Named in the error.
    coo : COO
        What to convert.

    Raises
    ------
    TypeError
        In one sentence.
    """
    if not isinstance(coo, COO):
        actual, advice = type(coo).__name__, "convert it with .to_coo(), or COO.from_dense"
        raise bad_argument(where, "coo", "be a COO", actual, advice, kind=TypeError)


def check_scipy_dtype(where: str, dtype: np.dtype) -> None:
    """Refuse float16, which SciPy's sparse arrays do not support.

    Parameters
    ----------
    where : str
        Named in the error.
    dtype : numpy.dtype
        Of the values.

    Raises
    ------
    TypeError
        In one sentence.
    """
    if dtype == np.float16:
        advice = "SciPy has no sparse float16: convert the data with .astype(np.float32)"
        raise bad_argument(where, "data", "be float32 or float64", dtype, advice, kind=TypeError)


def _check_no_duplicates(where: str, rows: np.ndarray, cols: np.ndarray) -> None:
    later_row, same_row = rows[1:] > rows[:-1], rows[1:] == rows[:-1]
    if (later_row | same_row & (cols[1:] > cols[:-1])).all():
        return  # in order, as formats that store rows give them: no need to sort
    order = np.lexsort((cols, rows))
    is_first = differs_from_previous(rows[order], cols[order])
    if not is_first.all():
        position = order[is_first.argmin()]
        actual = f"({rows[position]}, {cols[position]}) more than once"
        advice = "sum them: COO.from_scipy does"
        raise bad_argument(where, "(rows, cols)", "name each entry once", actual, advice)


def _scipy_coo(where: str, matrix: Any) -> scipy.sparse.coo_array:
    """View a SciPy matrix as coordinates, once it is sure that SciPy can walk its arrays."""
    if not scipy.sparse.issparse(matrix):
        actual, advice = type(matrix).__name__, "use from_dense for dense arrays"
        raise bad_argument(where, "matrix", "be scipy.sparse", actual, advice, kind=TypeError)
    if matrix.dtype.type not in FLOAT_DTYPES:
        actual, advice = matrix.dtype.name, "convert it with .astype(np.float64)"
        raise bad_argument(where, "matrix", "hold floats", actual, advice, kind=TypeError)
    if len(matrix.shape) != 2:
        advice = "reshape it"
        raise bad_argument(where, "matrix", "have 2 axes", f"shape {matrix.shape}", advice)
    try:
        return _sound(matrix).tocoo()
    except ValueError as error:
        advice = "rebuild it from valid indices"
        raise bad_argument(where, "matrix", "be consistent", f"'{error}'", advice) from error


def _sound(matrix: Any) -> Any:
    """Give the matrix, unless SciPy's compiled conversion would leave its arrays."""
    if hasattr(matrix, "check_format"):  # the compressed formats
        matrix = copy.copy(matrix)  # shallow: SciPy's check may replace the arrays it looks at
        matrix.check_format(full_check=True)
    if matrix.format == "lil":
        rows, data = ([len(line) for line in lines] for lines in (matrix.rows, matrix.data))
        if rows != data or len(rows) != matrix.shape[0]:
            raise ValueError("rows and data of different lengths")
    if matrix.format == "dia" and matrix.data.shape[:-1] != matrix.offsets.shape:
        raise ValueError("offsets and data of different lengths")
    return matrix
