"""What is each step of the 2:4 kernels worth, beside dense BLAS and the same matrix as CSR.

A square float32 weight with two zeros among every four columns, and its transpose, are multiplied
with one vector and with batches of 16, 64 and 256 by every 2:4 kernel of the table, on one thread.
Each product is checked before it is timed, and the contenders take turns. Run it with one job, on
a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - Numba loads SciPy's BLAS later: too late to pin its threads

from refimpl.experiments.kernel_first_look import check_product
from refimpl.experiments.kernel_inputs import random_two_four, right_factor
from refimpl.formats import CSR, TwoFour
from refimpl.kernels import KERNELS, Kernel, matmul, matmul_transposed, plan
from refimpl.measure import compare, matmul_flops, pinned_threads, speedup

SETTINGS = tuple(
    {"size": size, "batch": batch} for size, batch in product((512, 1024, 2048), (1, 16, 64, 256))
)
SEEDS = (0, 1, 2)
REPEATS = 15

Product = Callable[[], np.ndarray]


def run_once(setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Time the product and the transposed product in every implementation, on one thread.

    Parameters
    ----------
    setting : dict
        ``size``, rows and columns of the weight; ``batch``, the columns of X (1 for a vector).
        Fewer ``repeats`` than 15 make a quick trial.
    seed : int
        Draws the weight and X.

    Returns
    -------
    dict of str to float
        ``flops`` of the 2:4 product; for each contender ``<name>_seconds``, the median of a call,
        and ``<name>_speedup`` over dense, the median of the ratios round by round. Contenders are
        ``dense`` (NumPy's BLAS), ``csr`` (`refimpl.kernels.matmul`), ``csr_plan``
        (`refimpl.kernels.plan`, not counting the plan) and each 2:4 kernel by its name. For the
        transpose they are ``dense_transposed``, ``csr_transposed`` and the kernel.

    Raises
    ------
    ValueError
        If a product is wrong.
    """
    size, rng = setting["size"], np.random.default_rng(seed)
    w = random_two_four({"rows": size, "columns": size}, rng)
    x = right_factor(size, setting, rng)
    result: dict[str, float] = {"flops": matmul_flops(size, size, setting["batch"]) // 2}
    with pinned_threads(1):
        result |= _times("dense", _forward(w, x), (w, x), setting)
        result |= _times("dense_transposed", _transposed(w, x), (w.T, x), setting)
    return result


def _times(
    baseline: str,
    contenders: dict[str, Product],
    factors: tuple[np.ndarray, np.ndarray],
    setting: dict[str, Any],
) -> dict[str, float]:
    """Check everybody's product of the factors, then time it."""
    for name, contender in contenders.items():
        check_product(name, contender(), *factors)
    times = compare(contenders, repeats=setting.get("repeats", REPEATS))
    medians = {f"{name}_seconds": measured.median for name, measured in times.items()}
    speedups = {f"{name}_speedup": speedup(times[baseline], t).median for name, t in times.items()}
    return medians | speedups


def _forward(w: np.ndarray, x: np.ndarray) -> dict[str, Product]:
    csr = CSR.from_dense(w)
    peers = {
        "dense": lambda: w @ x,
        "csr": partial(matmul, csr, x),
        "csr_plan": partial(plan(csr), x),
    }
    return peers | _kernels(TwoFour.from_dense(w), x, transposed=False)


def _transposed(w: np.ndarray, x: np.ndarray) -> dict[str, Product]:
    peers = {
        "dense_transposed": lambda: w.T @ x,
        "csr_transposed": partial(matmul_transposed, CSR.from_dense(w), x),
    }
    return peers | _kernels(TwoFour.from_dense(w), x, transposed=True)


def _kernels(a: TwoFour, x: np.ndarray, *, transposed: bool) -> dict[str, Product]:
    """Every kernel of the table for this product, into new memory, the plainest first."""
    wanted = (TwoFour, "numpy", x.ndim, transposed)
    rows = [row for row in reversed(KERNELS) if (*row[1:4], row.transposed) == wanted]
    return {row.name: partial(_run, row, a, x) for row in rows}


def _run(kernel: Kernel, a: TwoFour, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)  # the weight is square
    kernel.run(a, x, out)
    return out
