"""Which kernel multiplies which format: one literal table, read from the top."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from refimpl.arrays import bad_argument, check_array, xp_of
from refimpl.formats import BSR, COO, CSC, CSR, SparseMatrix, TwoFour
from refimpl.formats.base import check_operand
from refimpl.kernels.numba_bsr import (
    bsr_matmul,
    bsr_matmul_packed_panels,
    bsr_matmul_register_blocks,
    bsr_matmul_row_panels,
    bsr_matmul_transposed,
    bsr_matvec,
    bsr_matvec_transposed,
)
from refimpl.kernels.numba_csc import (
    csc_matmul,
    csc_matmul_sorted,
    csc_matmul_tiles,
    csc_matmul_tiles_or_sorted,
    csc_matvec,
)
from refimpl.kernels.numba_csr import (
    csr_matmul,
    csr_matmul_four_values,
    csr_matvec,
    csr_matvec_gathered,
)
from refimpl.kernels.numba_csr_panels import (
    csr_matmul_packed_panels,
    csr_matmul_register_panels,
)
from refimpl.kernels.numba_two_four import (
    two_four_matmul,
    two_four_matmul_cache_blocks,
    two_four_matmul_packed_panels,
    two_four_matmul_prefetched_blocks,
    two_four_matmul_register_panels,
)
from refimpl.kernels.numba_two_four_transposed import two_four_matmul_transposed
from refimpl.kernels.numba_two_four_vector import (
    two_four_matvec,
    two_four_matvec_picked,
    two_four_matvec_transposed,
)


class Kernel(NamedTuple):
    """One row of the table: a function, and the products it can compute.

    Attributes
    ----------
    name : str
        The function's name.
    format : type of SparseMatrix
        Format of the left factor.
    module : str
        ``"numpy"`` or ``"cupy"``, where `x` lives.
    x_ndim : int
        Axes of `x`: 1 for a vector (SpMV), 2 for a matrix (SpMM).
    function : callable
        Takes the format's arrays, `x` and `out`, and returns nothing.
    transposed : bool
        Whether it multiplies with the transpose of the left factor.
    """

    name: str
    format: type[SparseMatrix]
    module: str
    x_ndim: int
    function: Callable[..., None]
    transposed: bool = False

    def run(self, a: SparseMatrix, x: np.ndarray, out: np.ndarray) -> None:
        """Overwrite `out` with ``a @ x`` (``a.T @ x`` if transposed), in the dtype of `out`.

        Parameters
        ----------
        a : SparseMatrix
            Of this kernel's format.
        x : ndarray of float, shape (n_columns,) or (n_columns, batch)
            Of this kernel's number of axes; copied where its memory layout asks for it.
        out : ndarray of float32 or float64, shape (n_rows,) or (n_rows, batch)
            C-contiguous and apart from `x`. If transposed, rows and columns change places.
        """
        arrays = (getattr(a, stored.name) for stored in a.arrays)
        inputs = (readable(array, out.dtype) for array in (*arrays, x))
        self.function(*inputs, np.asarray(out))


FLOAT32 = np.dtype(np.float32)  # float16 is computed in it

# The first row that fits a product computes it.
# A row that never comes first is kept to be compared with.
KERNELS: tuple[Kernel, ...] = (
    Kernel("csr_matvec_gathered", CSR, "numpy", 1, csr_matvec_gathered),
    Kernel("csr_matvec", CSR, "numpy", 1, csr_matvec),
    Kernel("csr_matmul_packed_panels", CSR, "numpy", 2, csr_matmul_packed_panels),
    Kernel("csr_matmul_register_panels", CSR, "numpy", 2, csr_matmul_register_panels),
    Kernel("csr_matmul_four_values", CSR, "numpy", 2, csr_matmul_four_values),
    Kernel("csr_matmul", CSR, "numpy", 2, csr_matmul),
    Kernel("csc_matvec", CSC, "numpy", 1, csc_matvec),
    Kernel("csc_matmul_tiles_or_sorted", CSC, "numpy", 2, csc_matmul_tiles_or_sorted),
    Kernel("csc_matmul_tiles", CSC, "numpy", 2, csc_matmul_tiles),
    Kernel("csc_matmul_sorted", CSC, "numpy", 2, csc_matmul_sorted),
    Kernel("csc_matmul", CSC, "numpy", 2, csc_matmul),
    Kernel("bsr_matvec", BSR, "numpy", 1, bsr_matvec),
    Kernel("bsr_matmul_packed_panels", BSR, "numpy", 2, bsr_matmul_packed_panels),
    Kernel("bsr_matmul_register_blocks", BSR, "numpy", 2, bsr_matmul_register_blocks),
    Kernel("bsr_matmul_row_panels", BSR, "numpy", 2, bsr_matmul_row_panels),
    Kernel("bsr_matmul", BSR, "numpy", 2, bsr_matmul),
    Kernel("bsr_matvec_transposed", BSR, "numpy", 1, bsr_matvec_transposed, transposed=True),
    Kernel("bsr_matmul_transposed", BSR, "numpy", 2, bsr_matmul_transposed, transposed=True),
    Kernel("two_four_matvec_picked", TwoFour, "numpy", 1, two_four_matvec_picked),
    Kernel("two_four_matvec", TwoFour, "numpy", 1, two_four_matvec),
    Kernel(
        "two_four_matmul_prefetched_blocks",
        TwoFour,
        "numpy",
        2,
        two_four_matmul_prefetched_blocks,
    ),
    Kernel("two_four_matmul_cache_blocks", TwoFour, "numpy", 2, two_four_matmul_cache_blocks),
    Kernel("two_four_matmul_packed_panels", TwoFour, "numpy", 2, two_four_matmul_packed_panels),
    Kernel("two_four_matmul_register_panels", TwoFour, "numpy", 2, two_four_matmul_register_panels),
    Kernel("two_four_matmul", TwoFour, "numpy", 2, two_four_matmul),
    Kernel(
        "two_four_matvec_transposed",
        TwoFour,
        "numpy",
        1,
        two_four_matvec_transposed,
        transposed=True,
    ),
    Kernel(
        "two_four_matmul_transposed",
        TwoFour,
        "numpy",
        2,
        two_four_matmul_transposed,
        transposed=True,
    ),
)
# End of the table.

# The CSC arrays of a matrix are the CSR arrays of its transpose.
# So each kernel for one of these formats multiplies with the transpose of the other.
_DUAL = {CSR: CSC, CSC: CSR}
KERNELS += tuple(
    row._replace(format=_DUAL[row.format], transposed=True)
    for row in KERNELS
    if row.format in _DUAL and not row.transposed
)


def matmul(a: SparseMatrix, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Multiply a sparse matrix with a vector or a dense matrix, by the fastest kernel there is.

    Parameters
    ----------
    a : SparseMatrix
        Shape (n_rows, n_columns). A format without a kernel uses its own clear ``matmul``.
    x : ndarray of float16, float32 or float64, shape (n_columns,) or (n_columns, batch)
        A C-contiguous array is read in place, any other is copied first.
    out : ndarray, optional
        Shape (n_rows,) or (n_rows, batch), of dtype ``np.result_type(a.dtype, x.dtype)``.
        Overwritten. It may overlap `x`, and need not be contiguous: then the product is
        computed apart and copied.

    Returns
    -------
    ndarray
        The product; `out` itself if given, else a new C-contiguous array.

    Raises
    ------
    TypeError
        If an operand is of the wrong kind or dtype.
    ValueError
        If shapes do not fit, or `out` is read-only.

    Notes
    -----
    Only stored entries are multiplied: a pruned weight times NaN or infinity adds nothing,
    where a dense product adds NaN. Factors of different dtypes meet in
    ``np.result_type``; float16 is computed in float32 and rounded once.

    The first call for a combination of dtypes compiles the kernel, which takes seconds.
    ``numba.set_num_threads`` says how many threads share the rows.

    Numba's threads do not survive a fork: a process that has multiplied and is then forked ends
    when the child multiplies. Start processes by spawn, or with joblib, which does. Where Numba
    finds neither OpenMP nor TBB, calls from several Python threads at a time end the process.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.formats import CSR
    >>> w = CSR.from_dense(np.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0]]))
    >>> matmul(w, np.array([1.0, 2.0, 3.0, 4.0]))
    array([8., 9.])
    """
    return checked_product("kernels.matmul", a, x, out, partial(_product, a))


def matmul_transposed(a: SparseMatrix, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Multiply the transpose of a sparse matrix with a vector or a dense matrix.

    Parameters
    ----------
    a : SparseMatrix
        Shape (n_rows, n_columns). It is not transposed in memory: the same arrays are read the
        other way round. A format without a kernel goes through COO.
    x : ndarray of float16, float32 or float64, shape (n_rows,) or (n_rows, batch)
        A C-contiguous array is read in place, any other is copied first.
    out : ndarray, optional
        Shape (n_columns,) or (n_columns, batch), else as for `matmul`.

    Returns
    -------
    ndarray
        ``a.T @ x``; `out` itself if given, else a new C-contiguous array.

    Raises
    ------
    TypeError, ValueError
        As for `matmul`.

    Notes
    -----
    Backpropagation through ``y = W @ x`` needs it: ``dx = W.T @ dy``.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.formats import CSR
    >>> w = CSR.from_dense(np.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0]]))
    >>> matmul_transposed(w, np.array([1.0, 10.0]))
    array([ 0.,  2., 30.,  1.])
    """
    where, product = "kernels.matmul_transposed", partial(_product, a, transposed=True)
    return checked_product(where, a, x, out, product, transposed=True)


def checked_product(
    where: str,
    a: SparseMatrix,
    x: np.ndarray,
    out: np.ndarray | None,
    product: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    transposed: bool = False,
) -> np.ndarray:
    """Check the operands of a product, compute it, and round it to the dtype it has.

    Parameters
    ----------
    where : str
        Named in the errors.
    a, x, out
        As for `matmul`.
    product : callable
        Takes `x` and a workspace: C-contiguous, apart from `x`, of the result's shape, float32
        or float64. Fills the workspace and returns it, or returns the product in new memory.
    transposed : bool
        Whether the left factor is the transpose of `a`.

    Returns
    -------
    ndarray
        As for `matmul`.

    Raises
    ------
    TypeError, ValueError
        As for `matmul`.
    """
    _check_factors(where, a, x, transposed=transposed)
    dtype = np.promote_types(a.dtype, x.dtype)  # in this machine's byte order
    shape = (a.shape[1 if transposed else 0], *x.shape[1:])
    if out is not None:
        check_out(where, out, shape, dtype)
    result = _workspace(out, x, shape, dtype)
    if result.size:  # else `x` may have more rows than memory has room for
        result = product(x, result)
    if out is None and result.dtype == dtype:
        return result
    if out is None:
        out = np.empty(shape, dtype)
    if result is not out:
        with np.errstate(over="ignore"):  # float16 has room up to 65,504
            np.copyto(out, result, casting="same_kind")
    return out


def _kernel_for(a: SparseMatrix, x: np.ndarray, *, transposed: bool) -> Kernel | None:
    form, module = type(a), xp_of(x).__name__
    for row in KERNELS:
        fits = row.format is form and row.x_ndim == x.ndim and row.module == module
        if fits and row.transposed is transposed:
            return row
    return None


def _product(
    a: SparseMatrix, x: np.ndarray, workspace: np.ndarray, *, transposed: bool = False
) -> np.ndarray:
    """Write the product into `workspace`, or into new memory where only a clear version is."""
    kernel = _kernel_for(a, x, transposed=transposed)
    if kernel is not None:
        kernel.run(a, x, workspace)
        return workspace
    if not transposed:
        return a.matmul(x)
    coo = a.to_coo()
    return COO(coo.cols, coo.rows, coo.data, a.shape[::-1]).matmul(x)


def _workspace(
    out: np.ndarray | None, x: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Memory that a kernel may write to: `out` itself wherever that is sound."""
    computed = FLOAT32 if dtype.itemsize < 4 else dtype
    if out is None:
        return np.empty(shape, computed)
    sound = out.dtype == computed and out.flags.carray and not np.may_share_memory(out, x)
    return out if sound else np.empty(shape, computed)


def readable(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Give what a kernel reads: C-contiguous, its values in the dtype that is computed in.

    Parameters
    ----------
    array : ndarray
        Values, or indices.
    dtype : numpy.dtype
        Of the product; indices keep their own.

    Returns
    -------
    ndarray
        `array` itself where it fits. It is read-only: Numba then refuses a kernel that writes
        to an input, and compiles once for callers with and without the right to write.
    """
    wanted = dtype if array.dtype.kind == "f" else array.dtype
    array = np.ascontiguousarray(array, wanted)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def _check_factors(where: str, a: SparseMatrix, x: np.ndarray, *, transposed: bool) -> None:
    if not isinstance(a, SparseMatrix):
        advice = "convert it with CSR.from_dense or CSR.from_scipy"
        actual = type(a).__name__
        raise bad_argument(where, "a", "be a SparseMatrix", actual, advice, kind=TypeError)
    check_operand(where, a, x, transposed=transposed)


def check_out(where: str, out: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse an `out` that a result cannot be written to.

    Parameters
    ----------
    where : str
        Named in the error.
    out : ndarray
        What the caller gave.
    shape, dtype : tuple of int and dtype
        Of the result.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    check_array(where, "out", out, shape=shape)
    if out.dtype != dtype:
        advice = f"make it with np.empty({shape}, np.{dtype})"
        requirement = f"be {dtype}, the result's dtype"
        raise bad_argument(where, "out", requirement, out.dtype, advice, kind=TypeError)
    if not out.flags.writeable:
        raise bad_argument(where, "out", "be writeable", "a read-only array", "pass a copy")
