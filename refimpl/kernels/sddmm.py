"""The product of two dense matrices at the places of a pattern only: a sparse weight's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array
from refimpl.formats import BSR, CSC, CSR, SparseMatrix
from refimpl.formats.base import check_numpy
from refimpl.kernels.dispatch import check_out
from refimpl.kernels.numba_sddmm import (
    LANES,
    bsr_sddmm,
    csr_sddmm,
    csr_sddmm_cache_blocks,
    csr_sddmm_four_entries,
    csr_sddmm_sixteen_sums,
)
from refimpl.kernels.vectors import aligned_rows

STRIP = 32  # examples that are transposed together: their cache lines are still there when full


class SDDMMKernel(NamedTuple):
    """One row of the table: a function, and the patterns that it computes a gradient for.

    Attributes
    ----------
    name : str
        The function's name.
    format : type of SparseMatrix
        Format of the pattern.
    function : callable
        Takes the pattern's arrays without its values, the rows of `dy` and of `x` as
        `feature_rows` lays them out, and `out`. Returns nothing.
    transposed : bool
        Whether the function takes the pattern's arrays for those of its transpose; then `dy`
        and `x` change places.
    """

    name: str
    format: type[SparseMatrix]
    function: Callable[..., None]
    transposed: bool = False

    def run(self, dy: np.ndarray, x: np.ndarray, pattern: SparseMatrix, out: np.ndarray) -> None:
        """Overwrite `out` with the gradient at the pattern, in the dtype of `out`.

        Parameters
        ----------
        dy : ndarray of float, shape (batch, n_out)
            Any memory layout.
        x : ndarray of float, shape (batch, n_in)
            Any memory layout.
        pattern : SparseMatrix
            Of this kernel's format.
        out : ndarray of float32 or float64, of the shape of the pattern's values
            C-contiguous, apart from `dy` and `x`.
        """
        names = (stored.name for stored in pattern.arrays if stored.name != pattern.valued)
        factors = (x, dy) if self.transposed else (dy, x)
        rows = (_rows(factor, out.dtype) for factor in factors)
        self.function(*(getattr(pattern, name) for name in names), *rows, np.asarray(out))


# The first row that fits a pattern computes its gradient.
# A row that never comes first is kept to be compared with.
SDDMM_KERNELS: tuple[SDDMMKernel, ...] = (
    SDDMMKernel("csr_sddmm_cache_blocks", CSR, csr_sddmm_cache_blocks),
    SDDMMKernel("csr_sddmm_cache_blocks", CSC, csr_sddmm_cache_blocks, transposed=True),
    SDDMMKernel("bsr_sddmm", BSR, bsr_sddmm),
    SDDMMKernel("csr_sddmm_four_entries", CSR, csr_sddmm_four_entries),
    SDDMMKernel("csr_sddmm_sixteen_sums", CSR, csr_sddmm_sixteen_sums),
    SDDMMKernel("csr_sddmm", CSR, csr_sddmm),
)
# End of the table.


@np.errstate(over="ignore", invalid="ignore")  # IEEE 754 inf and NaN, jitted or not
def sddmm(
    dy: np.ndarray, x: np.ndarray, pattern: SparseMatrix, out: np.ndarray | None = None
) -> np.ndarray:
    """Compute the gradient of a sparse weight, at its stored entries and nowhere else.

    Parameters
    ----------
    dy : ndarray of float16, float32 or float64, shape (batch, n_out)
        Gradient at the layer's output. Where ``dy.T`` is what `feature_rows` returns, it is
        read in place; else it is copied first.
    x : ndarray of float16, float32 or float64, shape (batch, n_in)
        The layer's input; read or copied as `dy`.
    pattern : SparseMatrix
        The weight, of shape (n_out, n_in). Only where it stores entries matters. A format
        without a kernel is served by `sddmm_by_example`.
    out : ndarray, optional
        Of the shape of ``pattern.stored_values`` and dtype ``np.result_type(dy, x)``.
        Overwritten. It may overlap `dy` and `x`.

    Returns
    -------
    ndarray
        Of the shape of ``pattern.stored_values``, in their order; `out` itself if given.

    Raises
    ------
    TypeError
        If an operand is of the wrong kind or dtype.
    ValueError
        If shapes do not fit, or `out` is read-only.

    Notes
    -----
    SDDMM, sampled dense-dense matrix multiplication: ``dW[i, j] = sum_b dy[b, i] * x[b, j]`` for
    each stored entry (i, j), the entries of ``dy.T @ x`` that an optimiser will look at. Cost:
    2 nnz batch FLOPs, against ``2 n_out n_in batch`` of the product. Factors of different dtypes
    meet in ``np.result_type``; float16 is computed in float32 and rounded once.

    References
    ----------
    Gale, Zaharia, Young and Elsen, "Sparse GPU kernels for deep learning", SC 2020, section II.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.formats import CSR
    >>> w = CSR.from_dense(np.array([[5.0, 0.0, 7.0], [0.0, 8.0, 0.0]]))
    >>> dy = np.array([[1.0, 2.0], [3.0, -1.0]])
    >>> x = np.array([[1.0, 0.0, 4.0], [2.0, 1.0, 0.0]])
    >>> sddmm(dy, x, w)
    array([ 7.,  4., -1.])
    >>> dy.T @ x  # holds these three, and three more that nobody needs
    array([[ 7.,  3.,  4.],
           [ 0., -1.,  8.]])
    """
    where = "kernels.sddmm"
    _check_operands(where, dy, x, pattern)
    shape, dtype = pattern.stored_values.shape, np.result_type(dy, x).newbyteorder("=")
    if out is not None:
        check_out(where, out, shape, dtype)
    result = _gradient(dy, x, pattern, _workspace(out, dy, x, shape, dtype))
    if out is None:
        return result.astype(dtype, copy=False)
    if result is not out:
        np.copyto(out, result, casting="same_kind")
    return out


def sddmm_by_example(dy: np.ndarray, x: np.ndarray, pattern: SparseMatrix) -> np.ndarray:
    """Compute the gradient of a sparse weight the clear way: add up what each example asks for.

    Parameters
    ----------
    dy, x : ndarray of float, shape (batch, n_out) and (batch, n_in)
        As for `sddmm`.
    pattern : SparseMatrix
        Of any format.

    Returns
    -------
    ndarray of float32 or float64, of the shape of ``pattern.stored_values``
        A value that stands at several places, as in a codebook, collects from all of them.

    Notes
    -----
    Which value stands where, any format says itself: it is given 1, 2, 3, ... for values, and
    written out as coordinates.
    """
    values = pattern.stored_values
    numbers = np.arange(1.0, values.size + 1).reshape(values.shape)
    places = pattern.with_values(numbers).to_coo()
    dw = np.zeros(places.nnz, np.result_type(dy, x, np.float32))
    for dy_b, x_b in zip(dy.astype(dw.dtype), x.astype(dw.dtype), strict=True):
        dw += dy_b[places.rows] * x_b[places.cols]
    totals = np.bincount(places.data.astype(np.intp), dw, values.size + 1)
    return totals[1:].astype(dw.dtype).reshape(values.shape)  # number 0 is no value's


def feature_rows(activations: np.ndarray) -> np.ndarray:
    """Lay out activations feature by feature, as the kernels read them fastest.

    Parameters
    ----------
    activations : ndarray of float16, float32 or float64, shape (batch, n_features)
        Any memory layout.

    Returns
    -------
    ndarray, shape (n_features, batch rounded up to a multiple of 16)
        C-contiguous and read-only: the transpose, filled up with zeros. In float32 and float64
        each row begins on a cache line, as a vector load wants it. No copy where memory holds
        this already.

    Raises
    ------
    TypeError, ValueError
        If `activations` is no NumPy matrix of floats.

    Examples
    --------
    >>> import numpy as np
    >>> rows = feature_rows(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> rows.shape, rows[:, :3].tolist()
    ((2, 16), [[1.0, 3.0, 0.0], [2.0, 4.0, 0.0]])
    """
    where = "kernels.feature_rows"
    check_numpy(where, "activations", activations)
    check_array(where, "activations", activations, ndim=2, dtypes=FLOAT_DTYPES)
    return _rows(activations, activations.dtype.newbyteorder("="))


def _rows(activations: np.ndarray, dtype: np.dtype) -> np.ndarray:
    rows = activations.T  # a new array object, whose flag is nobody else's
    if not _is_laid_out(rows, dtype):
        rows = _copied_rows(activations, dtype)
    rows.flags.writeable = False
    return rows


def _is_laid_out(rows: np.ndarray, dtype: np.dtype) -> bool:
    sound = rows.dtype == dtype and rows.flags.c_contiguous
    return sound and rows.shape[1] % LANES == 0 and rows.ctypes.data % 64 == 0


def _copied_rows(activations: np.ndarray, dtype: np.dtype) -> np.ndarray:
    batch, n_features = activations.shape
    rows = aligned_rows(n_features, -(-batch // LANES) * LANES, np.empty(0, dtype))
    rows[:, batch:] = 0
    strip = STRIP if activations.flags.c_contiguous else max(batch, 1)
    for start in range(0, batch, strip):
        end = min(start + strip, batch)
        rows[:, start:end] = activations[start:end].T
    return rows


def _gradient(
    dy: np.ndarray, x: np.ndarray, pattern: SparseMatrix, workspace: np.ndarray
) -> np.ndarray:
    """Write the gradient into `workspace`, or into new memory where only the clear version is."""
    kernel = next((row for row in SDDMM_KERNELS if row.format is type(pattern)), None)
    if kernel is None:
        return sddmm_by_example(dy, x, pattern)
    kernel.run(dy, x, pattern, workspace)
    return workspace


def _workspace(
    out: np.ndarray | None,
    dy: np.ndarray,
    x: np.ndarray,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> np.ndarray:
    """Memory that a kernel may write to: `out` itself wherever that is sound."""
    computed = np.promote_types(dtype, np.float32)
    sound = out is not None and out.dtype == computed and out.flags.carray
    if sound and not (np.may_share_memory(out, dy) or np.may_share_memory(out, x)):
        return out
    return np.empty(shape, computed)


def _check_operands(where: str, dy: Any, x: Any, pattern: Any) -> None:
    if not isinstance(pattern, SparseMatrix):
        advice, actual = "pass the sparse weight", type(pattern).__name__
        raise bad_argument(where, "pattern", "be a SparseMatrix", actual, advice, kind=TypeError)
    n_out, n_in = pattern.shape
    check_numpy(where, "dy", dy)
    check_array(where, "dy", dy, shape=(-1, n_out), dtypes=FLOAT_DTYPES)
    check_numpy(where, "x", x)
    check_array(where, "x", x, shape=(len(dy), n_in), dtypes=FLOAT_DTYPES)
