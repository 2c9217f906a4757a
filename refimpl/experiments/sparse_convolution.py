"""From how many zeros on is a sparse convolution faster than a dense one, and by which kernel?

Three convolutions, LeNet-5's two and one of 64 channels, are applied to 100 images, with kernels of
which a share is zero at random places. Contenders: the dense convolution by this package and by
PyTorch, CSR times patches that are laid out before it, and CSR straight from the images. On one
thread; each result is checked before it is timed, and the contenders take turns. Run it with one
job, on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from refimpl.experiments.kernel_first_look import check_product
from refimpl.experiments.peers import pinned, torch
from refimpl.formats import CSR
from refimpl.kernels import matmul
from refimpl.kernels.numba_convolution import convolve
from refimpl.kernels.numba_sparse_convolution import csr_convolve
from refimpl.measure import compare, speedup
from refimpl.nn import im2col, patch_grid

# c_in, c_out, side of the (padded) images, side of the kernels
LAYERS = {"lenet5 conv1": (1, 20, 28, 5), "lenet5 conv2": (20, 50, 12, 5), "3x3": (64, 64, 18, 3)}
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
BATCH = 100
SETTINGS = tuple({"layer": name, "sparsity": s} for name, s in product(LAYERS, SPARSITIES))
SEEDS = (0, 1, 2)
REPEATS = 15


def run_once(setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Time one convolution in every way, on one thread.

    Parameters
    ----------
    setting : dict
        ``layer``, a key of `LAYERS`, and ``sparsity``, in ``[0, 1)``. A smaller ``batch`` than
        100 and fewer ``repeats`` than 15 make a quick trial.
    seed : int
        Draws images, places and values.

    Returns
    -------
    dict of str to float
        ``nnz`` and ``flops`` of the sparse convolution, and for each contender
        ``<name>_seconds``, the median of a call, and ``<name>_speedup`` over ``dense``, the
        median of the ratios round by round. Contenders are ``dense`` (`convolve`, compiled),
        ``torch`` where it is installed, ``patches`` (`im2col` and CSR), and ``direct``
        (`csr_convolve`).

    Raises
    ------
    ValueError
        If a result is wrong, or a library does not keep to one thread.
    """
    c_in, c_out, side, k = LAYERS[setting["layer"]]
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((setting.get("batch", BATCH), c_in, side, side), np.float32)
    weight = rng.standard_normal((c_out, c_in, k, k), np.float32)
    weight[rng.random(weight.shape) < setting["sparsity"]] = 0
    columns = im2col(images, (k, k))
    with pinned(1):
        contenders = _contenders(weight, images)
        for name, contender in contenders.items():
            y = np.asarray(contender()).swapaxes(0, 1).reshape(c_out, -1)
            check_product(name, y, weight.reshape(c_out, -1), columns)
        times = compare(contenders, repeats=setting.get("repeats", REPEATS))
    nnz = int(np.count_nonzero(weight))
    result: dict[str, float] = {"nnz": nnz, "flops": 2 * nnz * columns.shape[1]}
    for name, measured in times.items():
        result[f"{name}_seconds"] = measured.median
        result[f"{name}_speedup"] = speedup(times["dense"], measured).median
    return result


def _contenders(weight: np.ndarray, images: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    (c_out, _, k, _), batch = weight.shape, len(images)
    grid = patch_grid(images.shape[2:], (k, k))
    a = CSR.from_dense(weight.reshape(c_out, -1))

    def dense() -> np.ndarray:
        y = np.empty((batch, c_out, *grid), np.float32)
        convolve(images, weight, 1, 0, None, y)
        return y

    def patches() -> np.ndarray:
        return matmul(a, im2col(images, (k, k))).reshape(c_out, batch, *grid).swapaxes(0, 1)

    def direct() -> np.ndarray:
        y = np.empty((batch, c_out, *grid), np.float32)
        csr_convolve(a.data, a.indices, a.indptr, images, k, k, y)
        return y

    own = {"dense": dense, "patches": patches, "direct": direct}
    return own | _peer(weight, images)


def _peer(weight: np.ndarray, images: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    module = torch()
    if not isinstance(module, ModuleType):
        return {}
    w, x = module.from_numpy(weight), module.from_numpy(images)
    return {"torch": lambda: module.nn.functional.conv2d(x, w)}
