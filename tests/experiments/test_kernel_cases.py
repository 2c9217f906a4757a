"""Every kind of setting makes a case whose products are right; a wrong product is refused."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl import kernels
from refimpl.experiments import kernel_cases, kernel_inputs
from refimpl.experiments.kernel_cases import CASES, Case

SMALL = {"rows": 32, "columns": 16, "sparsity": 0.75, "batch": 5, "threads": 1}
BLOCKS = {**SMALL, "block": 4}
VARIANT = {**BLOCKS, "transposed": False}
SETTINGS = {
    "csr": SMALL,
    "csr, a vector": {**SMALL, "batch": 1},
    "denser": {**SMALL, "sparsity": 0.3},
    "offset": {**SMALL, "offset": 16},
    "bsr": BLOCKS,
    "two_four": SMALL,
    "transposed": SMALL,
    "sddmm": SMALL,
    "variants, CSR": {**VARIANT, "format": "CSR"},
    "variants, CSR transposed": {**VARIANT, "format": "CSR", "transposed": True},
    "variants, CSC": {**VARIANT, "format": "CSC"},
    "variants, BSR": {**VARIANT, "format": "BSR"},
    "variants, TwoFour": {**VARIANT, "format": "TwoFour"},
    "variants, a vector": {**VARIANT, "format": "CSR", "batch": 1},
}


def case_of(name):
    return CASES[name.partition(",")[0]](SETTINGS[name], np.random.default_rng(0))


@pytest.mark.parametrize("name", SETTINGS)
def test_products_of_a_case_are_right(name):
    case_of(name).check()


@pytest.mark.parametrize("name", SETTINGS)
def test_case_begins_with_the_dense_product(name):
    assert next(iter(case_of(name).products)) == "dense"


@pytest.mark.parametrize(
    ("name", "nnz"), [("csr", 128), ("bsr", 128), ("two_four", 256), ("sddmm", 128)]
)
def test_case_counts_its_weights(name, nnz):
    case = case_of(name)
    assert (case.shape, case.nnz) == ((32, 16), nnz)


def test_variants_are_all_kernels_that_fit():
    names = [k.name for k in kernels.KERNELS if k.format.__name__ == "CSR" and k.x_ndim == 2]
    fitting = case_of("variants, CSR").products
    assert list(fitting) == ["dense", *dict.fromkeys(n for n in names if n in fitting)]
    assert {"csr_matmul", "csr_matmul_four_values"} <= set(fitting)


def test_dlmc_case_multiplies_the_pattern_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "layer.smtx"
    path.write_text("2, 4, 3\n0 2 3\n1 3 0\n")
    monkeypatch.setattr(kernel_cases, "find_pattern", lambda _: path)
    case = CASES["dlmc"]({"file": "layer.smtx", "batch": 3}, np.random.default_rng(0))
    case.check()
    assert (case.shape, case.nnz) == ((2, 4), 3)


def test_dlmc_case_without_the_file_is_none(monkeypatch):
    monkeypatch.setattr(kernel_inputs, "dlmc_files", list)
    assert CASES["dlmc"]({"file": "layer.smtx"}, np.random.default_rng(0)) is None


EXACT = np.arange(1.0, 7.0).reshape(2, 3)
PLACES = (np.array([0, 1]), np.array([2, 0]))


def planted(y):
    return Case({"planted": lambda: y}, EXACT, 1e-6 * EXACT, (2, 4), 3, PLACES)


@pytest.mark.parametrize("y", [EXACT, EXACT * (1 + 9e-7), np.array([3.0, 4.0])])
def test_check_passes(y):
    planted(y).check()


@pytest.mark.parametrize(
    "y",
    [EXACT * (1 + 2e-6), EXACT.T, EXACT[:1], np.full((2, 3), np.nan), np.array([3.0, 5.0])],
    ids=["off", "transposed", "a row short", "nan", "another place"],
)
def test_check_refuses_a_product_that_is(y):
    with pytest.raises(ValueError, match="bench: planted must equal the exact result to rounding"):
        planted(y).check()
