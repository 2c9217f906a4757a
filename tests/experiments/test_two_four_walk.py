"""Nothing wrong is timed, and the record names every 2:4 kernel."""

from __future__ import annotations

import numba
import pytest

from refimpl.experiments import two_four_walk
from refimpl.experiments.two_four_walk import SETTINGS, run_once
from refimpl.formats import TwoFour
from refimpl.kernels import KERNELS
from refimpl.measure import compare

PEERS = {"dense", "csr", "csr_plan", "dense_transposed", "csr_transposed"}


def small(batch):
    return {"size": 32, "batch": batch, "repeats": 2}


@pytest.mark.parametrize(("batch", "ndim"), [(1, 1), (5, 2)])
def test_record_holds_two_numbers_for_each_contender(batch, ndim):
    own = {row.name for row in KERNELS if row.format is TwoFour and row.x_ndim == ndim}
    wanted = {f"{name}_{kind}" for name in PEERS | own for kind in ("seconds", "speedup")}
    assert set(run_once(small(batch), seed=0)) == wanted | {"flops"}


def test_flops_are_half_of_the_dense_ones():
    assert run_once(small(7), seed=0)["flops"] == 32 * 32 * 7


def test_dense_is_the_yardstick_of_each_product():
    result = run_once(small(2), seed=0)
    assert (result["dense_speedup"], result["dense_transposed_speedup"]) == (1.0, 1.0)


def test_everything_is_timed_on_one_thread(monkeypatch):
    threads = []

    def spy(functions, **settings):
        threads.append(numba.get_num_threads())
        return compare(functions, **settings)

    monkeypatch.setattr(two_four_walk, "compare", spy)
    run_once(small(1), seed=0)
    assert threads == [1, 1]


@pytest.mark.parametrize("name", sorted({row.name for row in KERNELS if row.format is TwoFour}))
def test_wrong_product_is_never_timed(monkeypatch, name):
    run = two_four_walk._run

    def wrong(kernel, a, x):
        return (1.001 if kernel.name == name else 1) * run(kernel, a, x)

    monkeypatch.setattr(two_four_walk, "_run", wrong)
    batch = 1 if "matvec" in name else 4
    with pytest.raises(ValueError, match=f"{name} must equal the dense product to rounding"):
        run_once(small(batch), seed=0)


def test_settings_cover_every_size_at_every_batch():
    pairs = {(setting["size"], setting["batch"]) for setting in SETTINGS}
    assert len(pairs) == len(SETTINGS) == 12
    assert {batch for _, batch in pairs} == {1, 16, 64, 256}
