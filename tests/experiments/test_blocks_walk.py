"""Every BSR kernel is timed beside the peers, and nothing wrong is."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.experiments import blocks_walk
from refimpl.experiments.blocks_walk import SETTINGS, one_sum_at_a_time, run_once
from refimpl.formats import BSR
from refimpl.kernels import KERNELS

SMALL = {"block": 4, "batch": 5, "offset": 16, "size": 40, "repeats": 2}
OWN = {row.name for row in KERNELS if row.format is BSR and row.x_ndim == 2 and not row.transposed}


def test_record_times_every_kernel_of_the_table_beside_the_others():
    result = run_once(SMALL, seed=0)
    names = {"dense", "scipy", "scipy_csr", "csr", "one_sum_at_a_time", *OWN}
    assert {f"{name}_{kind}" for name in names for kind in ("seconds", "speedup")} <= set(result)


def test_record_counts_weights_and_flops_exactly():
    result = run_once(SMALL, seed=1)
    assert (result["nnz"], result["flops"]) == (20 * 16, 2 * 20 * 16 * 5)  # 20 of 100 blocks


def test_dense_is_its_own_yardstick():
    assert run_once(SMALL, seed=0)["dense_speedup"] == 1.0


def test_everything_is_timed_on_one_thread(monkeypatch):
    threads, compare = [], blocks_walk.compare

    def spy(functions, **options):
        threads.append(numba.get_num_threads())
        return compare(functions, **options)

    monkeypatch.setattr(blocks_walk, "compare", spy)
    run_once(SMALL, seed=0)
    assert threads == [1]


@pytest.mark.parametrize("name", ["dense", "scipy", "bsr_matmul", "one_sum_at_a_time"])
def test_wrong_product_is_never_timed(monkeypatch, name):
    contenders = blocks_walk._contenders

    def one_wrong(*factors):
        right = contenders(*factors)
        return right | {name: lambda: 1.001 * right[name]()}

    monkeypatch.setattr(blocks_walk, "_contenders", one_wrong)
    monkeypatch.setattr(
        blocks_walk, "compare", lambda *_, **__: pytest.fail("a wrong one is timed")
    )
    with pytest.raises(ValueError, match=f"{name} must equal the dense product to rounding"):
        run_once(SMALL, seed=0)


def test_one_sum_at_a_time_is_a_product():
    dense = np.kron([[1, 0, 2], [0, 0, 0], [3, 4, 0]], np.arange(1, 7).reshape(2, 3)).astype(float)
    a, x, out = (
        BSR.from_dense(dense, block_shape=(2, 3)),
        np.arange(36.0).reshape(9, 4),
        np.ones((6, 4)),
    )
    one_sum_at_a_time(a.data, a.indices, a.indptr, x, out)
    np.testing.assert_array_equal(out, dense @ x)


def test_settings_cover_every_block_batch_and_offset():
    cases = {(s["block"], s["batch"], s["offset"]) for s in SETTINGS}
    assert len(cases) == len(SETTINGS) == 8
