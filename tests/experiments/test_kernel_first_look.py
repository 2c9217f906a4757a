"""Nothing wrong is timed, and the record says what was timed."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.experiments import kernel_first_look
from refimpl.experiments.kernel_first_look import SETTINGS, check_product, run_once
from refimpl.formats import CSR
from refimpl.kernels import KERNELS
from refimpl.measure import compare

W = np.array([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def small(batch, sparsity=0.9):
    return {"batch": batch, "sparsity": sparsity, "size": 32, "repeats": 2}


EVERY = {"dense", "masked", "scipy", "refimpl", "plan"}
BATCH_ONLY = {"aligned_x", "sorted_rows"}


def kernels_of(x_ndim):
    return {
        row.name for row in KERNELS if row[1:4] == (CSR, "numpy", x_ndim) and not row.transposed
    }


@pytest.mark.parametrize(
    ("batch", "names"),
    [(1, EVERY | kernels_of(1)), (5, EVERY | kernels_of(2) | BATCH_ONLY)],
)
def test_record_holds_three_numbers_for_each_contender(batch, names):
    kinds = ("seconds", "spread", "speedup")
    wanted = {"nnz", "flops", "plan_seconds_once"} | {
        f"{name}_{kind}" for name in names for kind in kinds
    }
    assert set(run_once(small(batch), seed=0)) == wanted


@pytest.mark.parametrize(("sparsity", "nnz"), [(0.5, 512), (0.9, 102), (0.98, 20)])
def test_record_counts_weights_and_flops_exactly(sparsity, nnz):
    result = run_once(small(7, sparsity), seed=3)
    assert (result["nnz"], result["flops"]) == (nnz, 2 * nnz * 7)


@pytest.mark.parametrize("batch", [1, 5])
def test_input_does_not_begin_on_a_cache_line(batch):
    _, _, x = kernel_first_look._factors(32, batch, 0.9, np.random.default_rng(0))
    assert x.ctypes.data % 64 == 16


def test_dense_is_its_own_yardstick():
    result = run_once(small(2), seed=0)
    assert result["dense_speedup"] == 1.0
    assert result["dense_seconds"] > 0


def test_everything_is_timed_on_one_thread(monkeypatch):
    threads = []

    def spy(functions, **settings):
        threads.append(numba.get_num_threads())
        return compare(functions, **settings)

    monkeypatch.setattr(kernel_first_look, "compare", spy)
    run_once(small(1), seed=0)
    assert threads == [1]


@pytest.mark.parametrize("name", sorted(EVERY | kernels_of(2) | BATCH_ONLY))
def test_wrong_product_is_never_timed(monkeypatch, name):
    def never(*_, **__):
        pytest.fail("a wrong product was timed")

    contenders = kernel_first_look._contenders
    monkeypatch.setattr(
        kernel_first_look,
        "_contenders",
        lambda *factors: (
            contenders(*factors) | {name: lambda: 1.001 * contenders(*factors)[name]()}
        ),
    )
    monkeypatch.setattr(kernel_first_look, "compare", never)
    with pytest.raises(ValueError, match=f"kernel_first_look: {name} must equal the dense product"):
        run_once(small(4), seed=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_check_passes_a_product_with_rounding(dtype):
    check_product("rounded", ((W @ X) * (1 + np.finfo(dtype).eps)).astype(dtype), W, X)


@pytest.mark.parametrize(
    "wrong",
    [W @ X + 1e-9, (W @ X)[:2], (W @ X)[::-1].copy(), np.full((3, 3), np.nan)],
    ids=["shifted", "a row short", "rows reversed", "nan"],
)
def test_check_refuses_a_wrong_product(wrong):
    with pytest.raises(ValueError, match="wrong must equal the dense product to rounding"):
        check_product("wrong", wrong, W, X)


def test_settings_cover_every_batch_at_every_sparsity():
    pairs = {(setting["batch"], setting["sparsity"]) for setting in SETTINGS}
    assert len(pairs) == len(SETTINGS) == 18
    assert {batch for batch, _ in pairs} == {1, 64, 256}
