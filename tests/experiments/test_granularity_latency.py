"""Every shape is timed on one thread beside the dense network, and nothing wrong is."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.experiments import granularity_latency
from refimpl.experiments.granularity_latency import SETTINGS, check_outputs, run_once

SMALL = {"sparsity": 0.5, "batch": 2, "repeats": 2}


@pytest.fixture(scope="module")
def result():
    return run_once(SMALL, seed=0)


def test_record_times_and_counts_every_shape(result):
    names = {"dense", "masked", "unstructured", "blocks", "filters", "2:4"}
    kinds = ("seconds", "speedup", "bytes", "index_bytes")
    assert {f"{name}_{kind}" for name in names for kind in kinds} <= set(result)
    assert result["dense_speedup"] == 1.0


def test_masked_network_takes_the_bytes_of_the_dense_one(result):
    assert result["masked_bytes"] == result["dense_bytes"] == 4 * 430_500


def test_everything_is_timed_on_one_thread(monkeypatch):
    threads, compare = [], granularity_latency.compare

    def spy(functions, **options):
        threads.append(numba.get_num_threads())
        return compare(functions, **options)

    monkeypatch.setattr(granularity_latency, "compare", spy)
    run_once(SMALL | {"sparsity": 0.9}, seed=0)
    assert threads == [1]


def test_wrong_network_is_never_timed(monkeypatch):
    ship = granularity_latency.shipped

    def wrong(network, shape):
        shipped = ship(network, shape)
        if shape == "blocks":
            shipped.layers["fc2"].bias.value += 1
        return shipped

    monkeypatch.setattr(granularity_latency, "shipped", wrong)
    monkeypatch.setattr(
        granularity_latency, "compare", lambda *_, **__: pytest.fail("a wrong one is timed")
    )
    with pytest.raises(ValueError, match="blocks must compute what the masked network does"):
        run_once(SMALL, seed=0)


def test_outputs_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="x must compute"):
        check_outputs("x", np.full((1, 2), np.nan), np.ones((1, 2)))


def test_settings_cover_every_sparsity_and_batch():
    assert len({tuple(setting.values()) for setting in SETTINGS}) == len(SETTINGS) == 8
