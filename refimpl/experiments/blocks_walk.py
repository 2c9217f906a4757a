"""What is each step worth, from a loop over blocks to a block of registers, beside the peers.

A 1024 x 1024 float32 weight of 4 x 4 or of 16 x 16 blocks, four fifths of them zero, is
multiplied with batches of 64 and 256 by every BSR kernel of the table, on one thread. Each product
is checked before it is timed, and the contenders take turns. Run it with one job, on a machine
that does nothing else.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import scipy.sparse
from numba import prange

from refimpl.experiments.kernel_first_look import check_product
from refimpl.experiments.kernel_inputs import random_blocks, right_factor
from refimpl.experiments.peer_products import Product, products
from refimpl.experiments.peers import pinned
from refimpl.formats import BSR, CSR
from refimpl.kernels import KERNELS, matmul
from refimpl.kernels.numba_csr import compiled
from refimpl.measure import compare, matmul_flops, speedup

SIZE, SPARSITY = 1024, 0.8
# A large NumPy array begins 16 bytes into a cache line; other memory may begin with the line.
SETTINGS = tuple(
    {"block": block, "batch": batch, "offset": offset}
    for block, batch, offset in product((4, 16), (64, 256), (0, 16))
)
SEEDS = (0, 1, 2)
REPEATS = 15


def run_once(setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Time one product in every implementation, on one thread.

    Parameters
    ----------
    setting : dict
        ``block``, the side of the blocks; ``batch``, the columns of X; ``offset``, the bytes
        from the start of a cache line to that of X. A smaller ``size`` than 1024 and fewer
        ``repeats`` than 15 make a quick trial.
    seed : int
        Draws blocks, values and X.

    Returns
    -------
    dict of str to float
        ``nnz`` and ``flops`` of the sparse product, and for each contender
        ``<name>_seconds``, the median of a call, and ``<name>_speedup`` over dense, the median
        of the ratios round by round. Contenders are ``dense`` (NumPy's BLAS); ``scipy``,
        ``mkl``, ``mkl_kept`` and ``torch`` with BSR, as far as they are installed;
        ``scipy_csr`` and ``csr`` (`refimpl.kernels.matmul`) with the same matrix as CSR; each
        BSR kernel by its name; and ``one_sum_at_a_time``, the loops of SciPy's BSR, compiled
        by Numba.

    Raises
    ------
    ValueError
        If a product is wrong, or a library does not keep to one thread.
    """
    size, rng = setting.get("size", SIZE), np.random.default_rng(seed)
    w = random_blocks({"rows": size, "columns": size, "sparsity": SPARSITY} | setting, rng)
    x = right_factor(size, setting, rng)
    with pinned(1):
        contenders = _contenders(w, x, setting["block"])
        for name, contender in contenders.items():
            check_product(name, np.asarray(contender()), w, x)
        times = compare(contenders, repeats=setting.get("repeats", REPEATS))
    nnz = int(np.count_nonzero(w))
    result: dict[str, float] = {
        "nnz": nnz,
        "flops": matmul_flops(size, size, setting["batch"], nnz=nnz),
    }
    for name, measured in times.items():
        result[f"{name}_seconds"] = measured.median
        result[f"{name}_speedup"] = speedup(times["dense"], measured).median
    return result


@compiled
def one_sum_at_a_time(data, indices, indptr, x, out):
    """Multiply BSR with a dense matrix in the order of SciPy's loops.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `refimpl.kernels.numba_bsr.bsr_matmul`.

    Notes
    -----
    The innermost loop runs over the c columns of a block, down a column of `x`: its steps lie a
    whole row of `x` apart, and all add to one number.

    References
    ----------
    SciPy, ``scipy/sparse/sparsetools``: ``bsr_matvecs`` in bsr.h, ``gemm`` in dense.h.
    """
    _, r, c = data.shape
    for row in prange(indptr.size - 1):
        y = out[row * r : (row + 1) * r]
        y[:] = 0
        for k in range(indptr[row], indptr[row + 1]):
            block, source = data[k], x[indices[k] * c : (indices[k] + 1) * c]
            for p in range(r):
                for j in range(y.shape[1]):
                    total = y[p, j]
                    for q in range(c):
                        total += block[p, q] * source[q, j]
                    y[p, j] = total


def _contenders(w: np.ndarray, x: np.ndarray, block: int) -> dict[str, Product]:
    a, as_csr = BSR.from_dense(w, block_shape=(block, block)), CSR.from_dense(w)
    theirs, scipy_csr = a.to_scipy(), scipy.sparse.csr_array(w)
    wanted = (BSR, "numpy", 2, False)
    own = [row.function for row in KERNELS if (*row[1:4], row.transposed) == wanted]
    return (
        {"dense": lambda: w @ x}
        | products(theirs, x)
        | {"scipy_csr": lambda: scipy_csr @ x, "csr": lambda: matmul(as_csr, x)}
        | {f.__name__: partial(_run, f, a, x) for f in (*own, one_sum_at_a_time)}
    )


def _run(function: Any, a: BSR, x: np.ndarray) -> np.ndarray:
    out = np.empty((a.shape[0], x.shape[1]), x.dtype)
    function(a.data, a.indices, a.indptr, x, out)
    return out
