"""The digits networks are cut to the same widths in three ways, and the record says so."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl import nn
from refimpl.experiments.channel_pruning import (
    NETWORKS,
    SEEDS,
    SETTINGS,
    new_weights,
    run_once,
)
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "channel_pruning.json"
ACCURACIES = ("dense", "cut", "fine_tuned", "random_fine_tuned", "new_weights")


@cache
def short_run(network="small_vgg", flops=0.5):
    with pinned_threads(1):
        return run_once({"network": network, "flops": flops, "epochs": 2}, 0)


@pytest.mark.parametrize("network", NETWORKS)
def test_run_once_keeps_within_the_flops(network):
    result = short_run(network)
    assert 0 < result["flops"] <= 0.5
    assert 0 < result["parameters"] < 1


def test_run_once_starts_every_fraction_from_the_same_network():
    assert short_run(flops=0.1)["dense"] == short_run()["dense"]


def test_run_once_learns_and_fine_tuning_repairs():
    result = short_run()
    assert result["dense"] >= 0.9
    assert result["fine_tuned"] > result["cut"]


def test_run_once_takes_accuracies_of_every_way():
    assert all(0 <= short_run()[name] <= 1 for name in ACCURACIES)


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__() == short_run()


def test_run_once_rejects_another_network():
    with pytest.raises(KeyError, match="lenet5"):
        run_once({"network": "lenet5", "flops": 0.5}, 0)


def test_new_weights_are_those_of_new_layers():
    network = nn.small_resnet(rng=np.random.default_rng(0), widths=(40, 80))
    for item in (network.named_parameters() | network.named_buffers()).values():
        item.value = item.value + 7
    fresh = new_weights(network, np.random.default_rng(1))
    for name, item in (fresh.named_parameters() | fresh.named_buffers()).items():
        mean, variance = item.value.mean(), item.value.var()
        if name.endswith("weight"):
            noise = 1 / np.sqrt(item.value.size)
            he = 2 / np.prod(item.shape[1:])
            assert abs(mean) < 5 * noise * np.sqrt(he)
            assert abs(variance / he - 1) < 5 * noise * np.sqrt(2)
        else:
            assert (mean, variance) == (float(name.endswith(("gamma", "running_var"))), 0)


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_pruning_has_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_pruning_comes_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
