"""Formats and products on the masks of pruned networks, bit for bit and within rounding of SciPy.

A file of the collection holds no values: they are drawn from a normal distribution.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numba
import numpy as np
import pytest
import scipy.sparse

from refimpl.data import read_smtx
from refimpl.formats import COO
from refimpl.kernels import matmul, matmul_transposed
from support.dlmc import every_pattern
from support.formats import FORMATS, arrays_of
from support.tolerance import product_bound

IN_SCIPY = [fmt for fmt in FORMATS if fmt.in_scipy]
each_format = pytest.mark.parametrize("fmt", IN_SCIPY, ids=lambda fmt: fmt.kind.__name__)
SCIPY_NAME = {"rows": "row", "cols": "col"}  # the others have ours


@cache
def scipy_matrix(path: Path) -> scipy.sparse.csr_array:
    """The matrix of a file, read without `refimpl`."""
    head, *lines = path.read_text().splitlines()
    rows, columns, nnz = (int(number) for number in head.split(","))
    indptr, indices = (np.array(line.split(), np.int32) for line in lines)
    values = np.random.default_rng(0).standard_normal(nnz, np.float32)
    theirs = scipy.sparse.csr_array((values, indices, indptr), shape=(rows, columns))
    theirs.check_format(full_check=True)
    return theirs


def scipy_arrays(fmt, path: Path) -> dict[str, np.ndarray]:
    """SciPy's arrays for a format, under our names."""
    name = fmt.kind.__name__.lower()
    options = {"blocksize": fmt.options["block_shape"]} if name == "bsr" else {}
    theirs = getattr(scipy_matrix(path), f"to{name}")(**options)
    if name == "bsr":
        theirs.sort_indices()
    stored = (array.name for array in fmt.kind.arrays)
    return {name: getattr(theirs, SCIPY_NAME.get(name, name)) for name in stored}


@every_pattern
def test_dlmc_reader_agrees_with_scipy(path):
    csr, theirs = read_smtx(path, np.random.default_rng(0)), scipy_matrix(path)
    np.testing.assert_array_equal(csr.to_dense(), theirs.toarray(), strict=True)


@each_format
@every_pattern
def test_dlmc_arrays_are_those_of_scipy_bit_for_bit(path, fmt):
    ours = arrays_of(fmt.from_dense(scipy_matrix(path).toarray()))
    for name, theirs in scipy_arrays(fmt, path).items():
        np.testing.assert_array_equal(ours[name], theirs, strict=True)


@each_format
@every_pattern
def test_dlmc_pattern_survives_conversion(path, fmt):
    csr = read_smtx(path, np.random.default_rng(0))
    there = fmt.from_coo(csr.to_coo())
    back = fmt.from_scipy(there.to_scipy()).to_coo()
    np.testing.assert_array_equal(back.to_dense(), csr.to_dense(), strict=True)


PRODUCTS = [
    pytest.param(fmt, rest, id=f"{fmt.kind.__name__}-{len(rest) + 1}D")
    for fmt in IN_SCIPY
    for rest in ([()] if fmt.kind is COO else [(), (170,)])  # COO: a Python loop, here of minutes
]
MULTIPLY = {
    "forward": (matmul, lambda a: a),
    "transposed": (matmul_transposed, np.transpose),
}


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="half a million values: minutes of Python")
@every_pattern
@pytest.mark.parametrize("way", MULTIPLY)
@pytest.mark.parametrize(("fmt", "rest"), PRODUCTS)
def test_dlmc_products_agree_with_scipy(path, fmt, way, rest):
    multiply, turned = MULTIPLY[way]
    theirs = turned(scipy_matrix(path))
    x = np.random.default_rng(1).standard_normal((theirs.shape[1], *rest), np.float32)
    y = multiply(fmt.from_scipy(scipy_matrix(path)), x)
    # Each of the two may be off by the bound.
    bound = 2 * product_bound(theirs.toarray(), x, y.dtype)
    assert (np.abs(y - theirs @ x) <= bound).all()
