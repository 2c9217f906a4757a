"""Every way to convolve is timed on one thread, and nothing wrong is."""

from __future__ import annotations

import numba
import pytest

from refimpl.experiments import sparse_convolution
from refimpl.experiments.sparse_convolution import LAYERS, SETTINGS, run_once

SMALL = {"layer": "lenet5 conv1", "sparsity": 0.5, "batch": 2, "repeats": 2}


def test_record_times_every_contender():
    result = run_once(SMALL, seed=0)
    names = {"dense", "patches", "direct"}
    assert {f"{name}_{kind}" for name in names for kind in ("seconds", "speedup")} <= set(result)
    assert result["dense_speedup"] == 1.0


def test_record_counts_weights_and_flops_exactly():
    result = run_once(SMALL | {"sparsity": 0.0}, seed=1)
    assert (result["nnz"], result["flops"]) == (20 * 25, 2 * 20 * 25 * 2 * 24 * 24)


def test_everything_is_timed_on_one_thread(monkeypatch):
    threads, compare = [], sparse_convolution.compare

    def spy(functions, **options):
        threads.append(numba.get_num_threads())
        return compare(functions, **options)

    monkeypatch.setattr(sparse_convolution, "compare", spy)
    run_once(SMALL, seed=0)
    assert threads == [1]


@pytest.mark.parametrize("name", ["dense", "patches", "direct"])
def test_wrong_convolution_is_never_timed(monkeypatch, name):
    contenders = sparse_convolution._contenders

    def one_wrong(*arrays):
        right = contenders(*arrays)
        return right | {name: lambda: 1.001 * right[name]()}

    monkeypatch.setattr(sparse_convolution, "_contenders", one_wrong)
    monkeypatch.setattr(
        sparse_convolution, "compare", lambda *_, **__: pytest.fail("a wrong one is timed")
    )
    with pytest.raises(ValueError, match=f"{name} must equal the dense product to rounding"):
        run_once(SMALL, seed=0)


def test_settings_cover_every_layer_and_sparsity():
    cases = {(setting["layer"], setting["sparsity"]) for setting in SETTINGS}
    assert len(cases) == len(SETTINGS) == len(LAYERS) * 6
