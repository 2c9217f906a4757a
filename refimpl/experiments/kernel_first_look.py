"""How much faster is a sparse product, and what does each trick add: one thread, CSR.

A 1024 x 1024 float32 weight is pruned at random to six sparsities and multiplied with one
vector and with batches of 64 and 256: by dense BLAS, by SciPy, by every CSR kernel of the
table, and with a plan. Each product is checked before it is timed, and the contenders take
turns. Run it with one job, on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg  # Numba loads SciPy's BLAS later: too late for threads to be pinned
import scipy.sparse

from refimpl.arrays import bad_argument
from refimpl.experiments.kernel_inputs import aligned
from refimpl.formats import CSR
from refimpl.kernels import KERNELS, Kernel, matmul, plan
from refimpl.kernels.numba_csr_tiles import tile, tiled_matmul
from refimpl.masks import unstructured
from refimpl.measure import compare, matmul_flops, measure, pinned_threads, speedup
from refimpl.saliency import random

SIZE = 1024
SETTINGS = tuple(
    {"batch": batch, "sparsity": sparsity}
    for batch in (1, 64, 256)
    for sparsity in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
)
SEEDS = (0, 1, 2, 3, 4)
REPEATS = 25


def run_once(setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Time one product in every implementation, on one thread.

    Parameters
    ----------
    setting : dict
        ``batch``, the columns of X (1 for a vector), and ``sparsity`` of the weight. A
        smaller ``size`` than 1024 and fewer ``repeats`` than 25 make a quick trial.
    seed : int
        Draws weight, mask and X.

    Returns
    -------
    dict of str to float
        ``nnz`` and ``flops`` of the sparse product, and for each contender
        ``<name>_seconds``, the median of a call; ``<name>_spread``, the interquartile range;
        ``<name>_speedup`` over dense, the median of the ratios round by round. Contenders are
        ``dense`` (NumPy's BLAS, before pruning), ``masked`` (the same product, of the weight
        with its zeros), ``scipy``, ``refimpl`` (`kernels.matmul`), ``plan``, each CSR kernel by
        its name and, for a batch, ``aligned_x`` (register panels, of an X that begins on a cache
        line) and ``sorted_rows`` (tiles as wide as the matrix).
        ``plan_seconds_once`` is what making the plan takes.

    Raises
    ------
    ValueError
        If a product is wrong.
    """
    batch, size = setting["batch"], setting.get("size", SIZE)
    dense, w, x = _factors(size, batch, setting["sparsity"], np.random.default_rng(seed))
    nnz = int(np.count_nonzero(w))
    with pinned_threads(1):
        contenders = _contenders(dense, w, x)
        for name, product in contenders.items():
            check_product(name, product(), dense if name == "dense" else w, x)
        times = compare(contenders, repeats=setting.get("repeats", REPEATS))
        once = measure(partial(plan, CSR.from_dense(w), batch=batch), repeats=5)
    result: dict[str, float] = {"nnz": nnz, "flops": matmul_flops(size, size, batch, nnz=nnz)}
    result["plan_seconds_once"] = once.median
    for name, measured in times.items():
        result[f"{name}_seconds"] = measured.median
        result[f"{name}_spread"] = measured.spread
        result[f"{name}_speedup"] = speedup(times["dense"], measured).median
    return result


def check_product(name: str, y: np.ndarray, w: np.ndarray, x: np.ndarray) -> None:
    """Refuse a product that is off by more than rounding, so that nothing wrong is timed.

    Parameters
    ----------
    name : str
        Who computed it.
    y : ndarray of float, shape (n_out,) or (n_out, batch)
        The product to check.
    w, x : ndarray of float
        Its factors.

    Raises
    ------
    ValueError
        If the shape is another one, or an entry is off by more than ``4 (n_in + 1) eps
        (|w| @ |x|)``.
    """
    exact = w.astype(np.float64) @ x.astype(np.float64)
    bound = np.abs(w).astype(np.float64) @ np.abs(x).astype(np.float64)
    allowed = 4 * (w.shape[1] + 1) * float(np.finfo(y.dtype).eps) * bound
    if y.shape != exact.shape or not (np.abs(y - exact) <= allowed).all():
        requirement = "equal the dense product to rounding"
        advice = "correct it before timing it"
        raise bad_argument("kernel_first_look", name, requirement, "another result", advice)


def _factors(
    size: int, batch: int, sparsity: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight, the same with an exact count of zeros at random places, and their input.

    The input begins 16 bytes into a cache line, as large arrays of NumPy mostly do: left to
    chance, a kernel that reads it in place is 1.7 times as fast in one process as in another.
    """
    weight = rng.standard_normal((size, size)).astype(np.float32)
    mask = unstructured(random(weight.shape, rng), sparsity)
    x = rng.standard_normal((size, batch)).astype(np.float32)
    pruned = np.where(mask, weight, np.float32(0))
    return weight, pruned, aligned(x[:, 0] if batch == 1 else x, offset=16)


def _contenders(
    dense: np.ndarray, w: np.ndarray, x: np.ndarray
) -> dict[str, Callable[[], np.ndarray]]:
    """Products that each allocate their result, as a caller without `out` sees them."""
    a, peer = CSR.from_dense(w), scipy.sparse.csr_array(w)
    planned = plan(a, batch=x.shape[1] if x.ndim == 2 else 1)
    contenders = {
        "dense": lambda: dense @ x,
        "masked": lambda: w @ x,
        "scipy": lambda: peer @ x,
        "refimpl": lambda: matmul(a, x),
        "plan": lambda: planned(x),
    }
    for row in KERNELS:
        if row.format is CSR and row.x_ndim == x.ndim and not row.transposed:
            contenders[row.name] = partial(_run, row, a, x)
    if x.ndim == 2:
        in_place = next(row for row in KERNELS if row.name == "csr_matmul_register_panels")
        contenders["aligned_x"] = partial(_run, in_place, a, aligned(x))
        contenders["sorted_rows"] = _sorted_rows(a, x)
    return contenders


def _run(kernel: Kernel, a: CSR, x: np.ndarray) -> np.ndarray:
    out = np.empty((a.shape[0], *x.shape[1:]), x.dtype)
    kernel.run(a, x, out)
    return out


def _sorted_rows(a: CSR, x: np.ndarray) -> Callable[[], np.ndarray]:
    """One tile as wide as the matrix: what sorting the rows gains without blocks of columns."""
    width = max(a.shape[1], 1)
    tiles, order = tile(a.indices, a.indptr, a.shape[1], width=width, n_shares=1)
    values = a.data[order]

    def product() -> np.ndarray:
        out = np.empty((a.shape[0], x.shape[1]), x.dtype)
        tiled_matmul(values, *tiles, x, out)
        return out

    return product
