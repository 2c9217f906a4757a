"""CSR times a vector (SpMV) and CSR times a dense matrix (SpMM), compiled by Numba.

The definition of the product is `refimpl.formats.CSR.matmul`; these are the same loops with
the rows shared out among threads. All but `csr_matvec_gathered` add the products of a row in the
order of the definition and agree with it bit for bit. The order depends on the row alone, so the
bits are the same on any number of threads.

They trust their arguments: a `CSR` is validated when it is built, and `refimpl.kernels.matmul`
checks the rest. Each is compiled at its first call for a combination of dtypes, and kept on
disk for the next process, where there is a folder to write to.

No kernel uses ``fastmath``: it lets the compiler assume that there are no NaN and infinities,
and a network that has diverged must show them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, njit, prange

from refimpl.kernels.vectors import (
    add_panels,
    gather_panel,
    gather_panel_head,
    load_panel,
    load_panel_head,
    multiply_add_panels,
    sum_panel,
    zero_panel,
)

SIXTEEN = np.uintp(16)  # unsigned, as the positions they are added to


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Have Numba compile a function when it is first called, its ``prange`` loops in parallel.

    Parameters
    ----------
    function : callable
        Of arrays, with those that it writes last.

    Returns
    -------
    callable
        Takes the same arguments. What is compiled is kept on disk, unless no folder for it can
        be written to: then every process compiles anew, where Numba would refuse the import.
        With ``NUMBA_DISABLE_JIT=1`` it is the function itself, and infinities and NaN come
        without NumPy's warning, as from compiled code.
    """
    if config.DISABLE_JIT:
        return np.errstate(over="ignore", invalid="ignore")(function)
    return _kept_on_disk(function, parallel=True)


def compiled_for_one_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, for a function without a ``prange`` loop; it may return something."""
    return _kept_on_disk(function, parallel=False)


def _kept_on_disk(function: Callable[..., Any], *, parallel: bool) -> Callable[..., Any]:
    try:
        return njit(parallel=parallel, cache=True)(function)
    except RuntimeError:
        return njit(parallel=parallel)(function)


@compiled
def csr_matvec(data, indices, indptr, x, out):
    """Multiply CSR with a vector, one dot product a row.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (nnz,)
        IN. Stored values, row after row.
    indices : ndarray of int32 or int64, shape (nnz,)
        IN. Column of each value.
    indptr : ndarray of int32 or int64, shape (n_rows + 1,)
        IN. Row ``i`` is stored at ``indptr[i]:indptr[i + 1]``.
    x : ndarray of float32 or float64, shape (n_columns,)
        IN.
    out : ndarray of float32 or float64, shape (n_rows,)
        OUT. Overwritten; must not overlap `x`.

    Notes
    -----
    ``out[i] = sum_k data[k] * x[indices[k]]`` over the row's entries: 2 nnz
    FLOPs. The additions of a row keep their order, so each waits for the one
    before it.

    Unsigned positions: a signed index may count from the end, so Numba tests
    each one's sign; an unsigned one cannot, and the test is gone.
    """
    for row in prange(out.size):
        total = out.dtype.type(0)
        for k in range(np.uintp(indptr[row]), np.uintp(indptr[row + 1])):
            total += data[k] * x[np.uintp(indices[k])]
        out[row] = total


@compiled
def csr_matvec_gathered(data, indices, indptr, x, out):
    """Multiply CSR with a vector, 16 stored values at a time.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `csr_matvec`.

    Notes
    -----
    A gather: one instruction reads the 16 numbers of `x` that 16 indices ask for.

    Two chains of 16 sums: no addition waits for the one before it, and what the lanes hold is
    added up once, at the end of the row.

    A masked head: at most 15 values of a row are left over, and are multiplied at once too.
    """
    values = data.reshape(1, data.size)
    for row in prange(out.size):
        k, last = np.uintp(indptr[row]), np.uintp(indptr[row + 1])
        y, z = zero_panel(out, 16), zero_panel(out, 16)
        while k + SIXTEEN + SIXTEEN <= last:
            y = multiply_add_panels(
                y, load_panel(values, 0, k, 16), gather_panel(x, indices, k, 16)
            )
            k += SIXTEEN
            z = multiply_add_panels(
                z, load_panel(values, 0, k, 16), gather_panel(x, indices, k, 16)
            )
            k += SIXTEEN
        if k + SIXTEEN <= last:
            y = multiply_add_panels(
                y, load_panel(values, 0, k, 16), gather_panel(x, indices, k, 16)
            )
            k += SIXTEEN
        if k < last:
            n = last - k
            head = load_panel_head(values, 0, k, 16, n), gather_panel_head(x, indices, k, 16, n)
            z = multiply_add_panels(z, *head)
        out[row] = sum_panel(add_panels(y, z))


@compiled
def csr_matmul(data, indices, indptr, x, out):
    """Multiply CSR with a dense matrix, one stored value at a time.

    Parameters
    ----------
    data, indices, indptr : ndarray
        IN. As for `csr_matvec`.
    x : ndarray of float32 or float64, shape (n_columns, batch)
        IN. C-contiguous.
    out : ndarray of float32 or float64, shape (n_rows, batch)
        OUT. C-contiguous, overwritten; must not overlap `x`.

    Notes
    -----
    ``out[i, :] = sum_k data[k] * x[indices[k], :]``: 2 nnz batch FLOPs. The
    entries of the batch lie side by side, so the compiler turns the loop over
    them into vector instructions. Each stored value costs a load of a row of
    `x`, and a load and a store of a row of `out`.
    """
    for row in prange(out.shape[0]):
        y = out[row]
        y[:] = 0
        for k in range(indptr[row], indptr[row + 1]):
            value, source = data[k], x[indices[k]]
            for j in range(y.size):
                y[j] += value * source[j]


@compiled
def csr_matmul_four_values(data, indices, indptr, x, out):
    """Multiply CSR with a dense matrix, four stored values at a time.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `csr_matmul`.

    Notes
    -----
    The same sums in the same order as in `csr_matmul`, with as many FLOPs.

    Four values at a time: one load and one store of ``out[i, :]`` serve four
    multiplications instead of one.
    """
    for row in prange(out.shape[0]):
        y = out[row]
        y[:] = 0
        first, last = indptr[row], indptr[row + 1]
        rest = last - (last - first) % 4
        for k in range(first, rest, 4):
            a, b, c, d = data[k], data[k + 1], data[k + 2], data[k + 3]
            xa, xb = x[indices[k]], x[indices[k + 1]]
            xc, xd = x[indices[k + 2]], x[indices[k + 3]]
            for j in range(y.size):
                y[j] = y[j] + a * xa[j] + b * xb[j] + c * xc[j] + d * xd[j]
        for k in range(rest, last):  # at most three values are left over
            value, source = data[k], x[indices[k]]
            for j in range(y.size):
                y[j] += value * source[j]
