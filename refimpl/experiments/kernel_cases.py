"""What is timed: one product, computed by everybody, and the exact result that each must reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from refimpl import kernels
from refimpl.arrays import bad_argument
from refimpl.data import read_smtx
from refimpl.experiments.kernel_inputs import (
    find_pattern,
    random_blocks,
    random_two_four,
    random_weight,
    right_factor,
)
from refimpl.experiments.peer_products import (
    Product,
    dense_products,
    products,
    sampled_products,
    transposed_products,
)
from refimpl.formats import BSR, CSC, CSR, SparseMatrix, TwoFour

Setting = dict[str, Any]


class Case(NamedTuple):
    """A product that is ready to be checked and timed.

    Attributes
    ----------
    products : dict of str to callable
        Everybody's, into new memory. The first is the one to be faster than.
    exact : ndarray of float64
        The result.
    allowed : ndarray of float64
        How far off each entry may be.
    shape : tuple of int
        Rows and columns of the weight.
    nnz : int
        Its weights that are not zero.
    places : tuple of ndarray
        Rows and columns of the entries of `exact` that a product of fewer axes consists of.
    """

    products: dict[str, Product]
    exact: np.ndarray
    allowed: np.ndarray
    shape: tuple[int, int]
    nnz: int
    places: tuple[np.ndarray, ...] = ()

    def check(self) -> None:
        """Refuse a wrong product, so that nothing wrong is timed.

        Raises
        ------
        ValueError
            If a result has another shape, or is off by more than rounding.
        """
        for name, product in self.products.items():
            y = np.asarray(product())
            at = () if y.ndim == self.exact.ndim else self.places
            exact, allowed = self.exact[at], self.allowed[at]
            if y.shape != exact.shape or not (abs(y - exact) <= allowed).all():
                requirement = "equal the exact result to rounding"
                advice = "correct it first"
                raise bad_argument("bench", name, requirement, "another result", advice)


def csr_case(setting: Setting, rng: np.random.Generator) -> Case:
    """Multiply CSR with a random mask by a vector or a batch."""
    return _csr_case(random_weight(setting, rng), setting, rng)


def dlmc_case(setting: Setting, rng: np.random.Generator) -> Case | None:
    """Multiply CSR with the mask of a pruned network; None where its file is missing."""
    path = find_pattern(setting["file"])
    return None if path is None else _csr_case(read_smtx(path, rng).to_dense(), setting, rng)


def _csr_case(w: np.ndarray, setting: Setting, rng: np.random.Generator) -> Case:
    x = right_factor(w.shape[1], setting, rng)
    found = dense_products(w, x) | products(scipy.sparse.csr_array(w), x)
    return _product_case(found | _own_products(CSR.from_dense(w), x), w, x)


def bsr_case(setting: Setting, rng: np.random.Generator) -> Case:
    """Multiply BSR with random blocks by a batch; ``_csr`` is the same matrix as CSR."""
    w, block_shape = random_blocks(setting, rng), (setting["block"], setting["block"])
    x = right_factor(w.shape[1], setting, rng)
    found = (
        dense_products(w, x)
        | products(scipy.sparse.bsr_array(w, blocksize=block_shape), x)
        | _as_csr(w, x)
        | _own_products(BSR.from_dense(w, block_shape=block_shape), x)
    )
    return _product_case(found, w, x)


def two_four_case(setting: Setting, rng: np.random.Generator) -> Case:
    """Multiply 2:4, which no peer has, by a batch; ``_csr`` is the same matrix as CSR."""
    w = random_two_four(setting, rng)
    x = right_factor(w.shape[1], setting, rng)
    own = _own_products(TwoFour.from_dense(w), x)
    return _product_case(dense_products(w, x) | _as_csr(w, x) | own, w, x)


def transposed_case(setting: Setting, rng: np.random.Generator) -> Case:
    """Multiply the transpose of a CSR weight by a batch, as backpropagation does."""
    w = random_weight(setting, rng)
    a, x = CSR.from_dense(w), right_factor(len(w), setting, rng)
    found = (
        {"dense": lambda: w.T @ x}
        | transposed_products(scipy.sparse.csr_array(w), x)
        | {"matmul_transposed": lambda: kernels.matmul_transposed(a, x)}
    )
    return _product_case(found, w.T, x)


def sddmm_case(setting: Setting, rng: np.random.Generator) -> Case:
    """Compute the gradient of the stored weights only; ``dense`` is that of all of them."""
    w = random_weight(setting, rng)
    dy, x = (rng.standard_normal((setting["batch"], n), np.float32) for n in w.shape)
    pattern, places = CSR.from_dense(w), np.nonzero(w)
    found = (
        {"dense": lambda: dy.T @ x}
        | sampled_products(dy, x, scipy.sparse.csr_array(w))
        | {"sddmm": lambda: kernels.sddmm(dy, x, pattern)}
        | {row.name: partial(_sample, row, dy, x, pattern) for row in _sddmm_kernels(pattern)}
    )
    return _product_case(found, dy.T, x)._replace(shape=w.shape, nnz=pattern.nnz, places=places)


def variants_case(setting: Setting, rng: np.random.Generator) -> Case:
    """Multiply by every kernel of the table that fits, those that are never chosen too."""
    a, w = _stored(setting, rng)
    w = w.T if setting["transposed"] else w
    x = right_factor(w.shape[1], setting, rng)
    wanted = (type(a), "numpy", x.ndim, setting["transposed"])
    fitting = (row for row in kernels.KERNELS if (*row[1:4], row.transposed) == wanted)
    found = {row.name: partial(_run, row, a, x, len(w)) for row in fitting}
    return _product_case({"dense": lambda: w @ x} | found, w, x)


# Whom and what each kind of setting compares.
CASES: dict[str, Callable[[Setting, np.random.Generator], Case | None]] = {
    "cores": csr_case,
    "csr": csr_case,
    "denser": csr_case,
    "offset": csr_case,
    "dlmc": dlmc_case,
    "bsr": bsr_case,
    "two_four": two_four_case,
    "transposed": transposed_case,
    "sddmm": sddmm_case,
    "variants": variants_case,
}


def _own_products(a: SparseMatrix, x: np.ndarray) -> dict[str, Product]:
    """The product by `refimpl`: planned once for many, and at a single call."""
    plan = kernels.plan(a, batch=1 if x.ndim == 1 else x.shape[1])
    return {"plan": lambda: plan(x), "matmul": lambda: kernels.matmul(a, x)}


def _as_csr(w: np.ndarray, x: np.ndarray) -> dict[str, Product]:
    """The product by those whose CSR is worth comparing with a format of blocks or groups."""
    found = products(scipy.sparse.csr_array(w), x) | _own_products(CSR.from_dense(w), x)
    chosen = ("scipy", "mkl", "plan", "matmul")
    return {f"{name}_csr": found[name] for name in chosen if name in found}


def _product_case(found: dict[str, Product], w: np.ndarray, x: np.ndarray) -> Case:
    """Work out ``w @ x`` in float64, and how far a float32 sum of as many terms may be off."""
    exact = w.astype(np.float64) @ x.astype(np.float64)
    size = np.abs(w).astype(np.float64) @ np.abs(x).astype(np.float64)
    allowed = 4 * (w.shape[1] + 1) * float(np.finfo(np.float32).eps) * size
    return Case(found, exact, allowed, w.shape, int(np.count_nonzero(w)))


def _stored(setting: Setting, rng: np.random.Generator) -> tuple[SparseMatrix, np.ndarray]:
    """A weight in the format that the setting names, and the same dense."""
    if setting["format"] == "BSR":
        w, side = random_blocks(setting, rng), setting["block"]
        return BSR.from_dense(w, block_shape=(side, side)), w
    if setting["format"] == "TwoFour":
        w = random_two_four(setting, rng)
        return TwoFour.from_dense(w), w
    w = random_weight(setting, rng)
    return {"CSR": CSR, "CSC": CSC}[setting["format"]].from_dense(w), w


def _sddmm_kernels(pattern: SparseMatrix) -> list[kernels.SDDMMKernel]:
    return [row for row in kernels.SDDMM_KERNELS if row.format is type(pattern)]


def _sample(
    kernel: kernels.SDDMMKernel, dy: np.ndarray, x: np.ndarray, pattern: SparseMatrix
) -> np.ndarray:
    out = np.empty_like(pattern.stored_values)
    kernel.run(dy, x, pattern, out)
    return out


def _run(kernel: kernels.Kernel, a: SparseMatrix, x: np.ndarray, n_rows: int) -> np.ndarray:
    out = np.empty((n_rows, *x.shape[1:]), np.float32)
    kernel.run(a, x, out)
    return out
