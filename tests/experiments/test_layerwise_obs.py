"""All ways cut to the same counts, exact OBS keeps most of the accuracy, and the record says so."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl.experiments import layerwise_obs
from refimpl.experiments.layerwise_obs import (
    OUTPUT_SPARSITY,
    SEEDS,
    SETTINGS,
    SPARSITIES,
    WAYS,
    layer_by_layer,
    magnitude_mask,
    run_once,
    with_biases,
)
from refimpl.masks import count_kept
from refimpl.measure import pinned_threads
from refimpl.nn import mlp

RECORD = Path(__file__).parents[2] / "book" / "results" / "layerwise_obs.json"
IMAGES = [np.random.default_rng(1).standard_normal((40, 12)).astype(np.float32)]
every_way = pytest.mark.parametrize("way", WAYS)


def small_network():
    network = mlp((12, 8, 6, 4), rng=np.random.default_rng(0))
    for name, parameter in network.named_parameters().items():
        if name.endswith("bias"):
            parameter.value = np.linspace(1, 2, parameter.size, dtype=np.float32)
    return network


def counts(network):
    return [int(weight.mask.sum()) for weight in network.weights().values()]


@every_way
def test_every_way_leaves_as_much(way):
    network = small_network()
    WAYS[way](network, IMAGES, 0.8)
    kept = [count_kept(96, 0.8), count_kept(48, 0.8), count_kept(24, OUTPUT_SPARSITY)]
    biases = [p for name, p in network.named_parameters().items() if name.endswith("bias")]
    if way == "layerwise_obs_biases":
        of_biases = [int(bias.mask.sum()) for bias in biases]
        assert np.add(counts(network), of_biases).tolist() == np.add(kept, [8, 6, 4]).tolist()
    else:
        assert counts(network) == kept
        assert all(bias.mask is None for bias in biases)


def test_the_last_layer_loses_no_more_than_the_others():
    network = small_network()
    layer_by_layer(network, IMAGES, 0.5, compress=magnitude_mask)
    assert counts(network) == [48, 24, 12]


@pytest.mark.parametrize("way", ["layerwise_obs", "layerwise_obs_biases", "layerwise_obs_refit"])
def test_weights_of_dead_inputs_go_first(way):
    network, images = small_network(), IMAGES[0].copy()
    images[:, :6] = 0
    network.layers["fc1"].weight.value[:, :6] = 1000
    WAYS[way](network, [images], 0.5)
    assert not network.layers["fc1"].weight.mask[:, :6].any()


def test_biases_are_moved_when_they_are_ranked_with_the_weights():
    network, before = small_network(), small_network()
    with_biases(network, IMAGES, 0.5)
    assert (network.layers["fc1"].bias.value != before.layers["fc1"].bias.value).any()


@cache
def short_run():
    with pinned_threads(1):
        return run_once({"epochs": 10}, 0)


def test_run_once_learns_the_digits_and_leaves_the_network_whole():
    assert short_run()["dense"] >= 0.9


@every_way
def test_run_once_tells_each_stage_of(way):
    result = short_run()
    stages = [result[f"{way}_{stage}"] for stage in ("cut", "tuned", "kept")]
    assert [len(stage) for stage in stages] == [len(SPARSITIES)] * 3


def test_run_once_finds_exact_obs_far_above_magnitude():
    assert short_run()["exact_obs_cut"][-1] > short_run()["magnitude_cut"][-1] + 0.1


def test_ways_start_from_the_same_network(monkeypatch):
    seen = []

    def spy(network, *_):
        seen.append(copy.deepcopy(network.state()))

    monkeypatch.setattr(layerwise_obs, "WAYS", {"one": spy, "other": spy})
    with pinned_threads(1):
        run_once({"epochs": 1}, 0)
    first, *others = ({key: value.tobytes() for key, value in state.items()} for state in seen)
    assert others == [first] * 5


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_ways_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_ways_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
