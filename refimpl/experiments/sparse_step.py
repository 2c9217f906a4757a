"""How much of a training step does sparsity save: the whole step, its products, the gradient.

Two kinds of settings, told apart by ``measured``. ``"step"``: a 784-300-100-10 network with random
masks learns from random images, dense with masks and sparse at the masks' places, and so do the
three products of its first layer. ``"gradient"``: the weight gradient of a 1024 x 1024 layer, by
every SDDMM kernel for CSR and by the dense product. Everything is checked before it is timed, on
one thread, and the contenders take turns. Run it with one job, on a machine that does nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - Numba loads SciPy's BLAS later: too late to pin its threads

from refimpl import nn
from refimpl.arrays import bad_argument
from refimpl.deploy import sparsify
from refimpl.experiments.kernel_first_look import check_product
from refimpl.formats import CSR
from refimpl.kernels import (
    SDDMM_KERNELS,
    SDDMMKernel,
    feature_rows,
    matmul,
    matmul_transposed,
    sddmm,
)
from refimpl.masks import unstructured
from refimpl.measure import compare, pinned_threads, speedup
from refimpl.saliency import random

WIDTHS = (784, 300, 100, 10)
BATCH = 100
SIZE = 1024
SETTINGS = (
    *({"measured": "step", "sparsity": s} for s in (0.5, 0.8, 0.9, 0.95, 0.98)),
    *(
        {"measured": "gradient", "batch": batch, "sparsity": sparsity}
        for batch in (64, 256, 512)
        for sparsity in (0.5, 0.8, 0.9, 0.95, 0.98)
    ),
)
SEEDS = (0, 1, 2)
REPEATS = 25

Contenders = Mapping[str, Callable[[], Any]]


def run_once(setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Time one setting in every implementation, on one thread.

    Parameters
    ----------
    setting : dict
        ``measured`` and ``sparsity``; for ``"gradient"`` also ``batch``. Smaller ``widths``, a
        smaller ``size`` and fewer ``repeats`` make a quick trial.
    seed : int
        Draws weights, masks and data.

    Returns
    -------
    dict of str to float
        For each contender ``<name>_seconds``, the median of a call, and ``<name>_speedup`` over
        its dense counterpart, the median of the ratios round by round. A step has ``masked`` and
        ``sparse``, and ``<product>_dense`` and ``<product>_sparse`` for the products ``forward``,
        ``dx`` and ``dw`` of the first layer. A gradient has ``dense``, ``masked`` (the dense one
        times the mask), ``sddmm``, ``sddmm_with_copies`` (laying out dy and x included) and each
        kernel by its name.

    Raises
    ------
    ValueError
        If a result is wrong.
    """
    rng = np.random.default_rng(seed)
    with pinned_threads(1):
        if setting["measured"] == "step":
            return _time_step(setting, rng)
        return _time_gradient(setting, rng)


def _time_step(setting: dict[str, Any], rng: np.random.Generator) -> dict[str, float]:
    widths, repeats = setting.get("widths", WIDTHS), setting.get("repeats", REPEATS)
    networks = _networks(widths, setting["sparsity"], rng)
    images = rng.random((BATCH, widths[0]), np.float32)
    labels = rng.integers(0, widths[-1], BATCH)
    steps = {name: _stepper(network, images, labels) for name, network in networks.items()}
    for step in steps.values():
        step()
    check_same_weights(networks["masked"], networks["sparse"])
    times = _timed(steps, "dense", repeats)
    w, dy = networks["sparse"].layers["fc1"].weight, rng.random((BATCH, widths[1]), np.float32)
    products = _products(w, images, dy)
    check_products(products, w.to_dense(), images, dy)
    for name, contenders in products.items():
        times |= _timed(contenders, f"{name}_dense", repeats)
    return times


def _time_gradient(setting: dict[str, Any], rng: np.random.Generator) -> dict[str, float]:
    size, batch = setting.get("size", SIZE), setting["batch"]
    mask = unstructured(random((size, size), rng), setting["sparsity"])
    pattern = CSR.from_dense(mask.astype(np.float32))
    dy, x = (rng.standard_normal((batch, size)).astype(np.float32) for _ in range(2))
    contenders = _gradients(dy, x, pattern, mask)
    for name, contender in contenders.items():
        _check_gradient(name, contender(), mask, dy, x)
    return _timed(contenders, "dense", setting.get("repeats", REPEATS))


def check_same_weights(masked: nn.Network, sparse: nn.Network) -> None:
    """Refuse two networks that differ by more than rounding after a step, before it is timed.

    Parameters
    ----------
    masked, sparse : Network
        With layers of the same names.

    Raises
    ------
    ValueError
        If a weight differs by more than 1e-5; they are about 0.1.
    """
    for name, layer in sparse.layers.items():
        if isinstance(layer, nn.SparseLinear):
            difference = np.abs(layer.weight.to_dense() - masked.layers[name].weight.value).max()
            if not difference <= 1e-5:
                requirement = "be the masked network's after a step"
                advice = "correct a product before timing it"
                raise bad_argument("sparse_step", name, requirement, difference, advice)


def check_products(
    products: Mapping[str, Contenders], w: np.ndarray, x: np.ndarray, dy: np.ndarray
) -> None:
    """Refuse a sparse product of a step that is off by more than rounding.

    Parameters
    ----------
    products : mapping of str to contenders
        As they are timed.
    w, x, dy : ndarray of float
        The weight with its zeros, the layer's input, the gradient at its output.

    Raises
    ------
    ValueError
        As `refimpl.experiments.kernel_first_look.check_product`.
    """
    y, dx, dw = (products[name][f"{name}_sparse"]() for name in ("forward", "dx", "dw"))
    check_product("forward", y[:, : len(x)], w, x.T)
    check_product("dx", dx[:, : len(x)], w.T, dy.T)
    _check_gradient("dw", dw, w != 0, dy, x)


def _check_gradient(
    name: str, dw: np.ndarray, mask: np.ndarray, dy: np.ndarray, x: np.ndarray
) -> None:
    """Check what the mask keeps of a gradient, given there only or everywhere."""
    dense = dy.T @ x
    dense[mask] = dw[mask] if dw.ndim == 2 else dw
    check_product(name, dense, dy.T, x)


def _networks(
    widths: tuple[int, ...], sparsity: float, rng: np.random.Generator
) -> dict[str, nn.Network]:
    """The same network dense, with a mask on every weight, and sparse where the masks keep."""
    dense = nn.mlp(widths, rng=rng)
    masked = copy.deepcopy(dense)
    for weight in masked.weights().values():
        weight.mask = unstructured(random(weight.shape, rng), sparsity)
    return {"dense": dense, "masked": masked, "sparse": sparsify(masked)}


def _stepper(network: nn.Network, images: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    """One step of plain SGD, again and again on the same batch."""
    optimizer = nn.SGD(network.parameters(), lr=0.01)

    def step() -> None:
        _, dlogits = nn.softmax_cross_entropy(network.forward(images, training=True), labels)
        network.backward(dlogits)
        optimizer.step()

    return step


def _products(w: CSR, x: np.ndarray, dy: np.ndarray) -> dict[str, Contenders]:
    """The three products of a step, on inputs that are laid out as each of them wants."""
    dense, x_rows, dy_rows = w.to_dense(), feature_rows(x), feature_rows(dy)
    return {
        "forward": {
            "forward_dense": lambda: x @ dense.T,
            "forward_sparse": lambda: matmul(w, x_rows),
        },
        "dx": {
            "dx_dense": lambda: dy @ dense,
            "dx_sparse": lambda: matmul_transposed(w, dy_rows),
        },
        "dw": {
            "dw_dense": lambda: dy.T @ x,
            "dw_sparse": lambda: sddmm(dy_rows.T, x_rows.T, w),
        },
    }


def _gradients(dy: np.ndarray, x: np.ndarray, pattern: CSR, mask: np.ndarray) -> Contenders:
    rows = feature_rows(dy).T, feature_rows(x).T
    kernels = {
        kernel.name: lambda kernel=kernel: _run(kernel, *rows, pattern)
        for kernel in SDDMM_KERNELS
        if kernel.format is CSR
    }
    return {
        "dense": lambda: dy.T @ x,
        "masked": lambda: (dy.T @ x) * mask,
        "sddmm": lambda: sddmm(*rows, pattern),
        "sddmm_with_copies": lambda: sddmm(dy, x, pattern),
        **kernels,
    }


def _run(kernel: SDDMMKernel, dy: np.ndarray, x: np.ndarray, pattern: CSR) -> np.ndarray:
    out = np.empty(pattern.nnz, np.float32)
    kernel.run(dy, x, pattern, out)
    return out


def _timed(contenders: Contenders, baseline: str, repeats: int) -> dict[str, float]:
    times = compare(contenders, repeats=repeats)
    seconds = {f"{name}_seconds": measured.median for name, measured in times.items()}
    ratios = {
        f"{name}_speedup": speedup(times[baseline], measured).median
        for name, measured in times.items()
    }
    return seconds | ratios
