"""Networks pruned by every method: what they are measured with, and what is left alone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import load_digits
from refimpl.experiments.layer_sensitivity import small_lenet
from refimpl.experiments.reconstruction_digits import (
    SEEDS,
    SETTINGS,
    compare,
    layers_of,
    mean_gradients,
    run_once,
)
from refimpl.measure import pinned_threads
from refimpl.nn import evaluate, mlp, softmax_cross_entropy

RECORD = Path(__file__).parents[2] / "book" / "results" / "reconstruction_digits.json"


@cache
def short_run():
    with pinned_threads(1):
        return run_once({"network": "equal", "sparsity": 0.8, "epochs": 6}, 0)


def test_run_once_learns_the_digits():
    assert short_run()["dense, accuracy"] >= 0.9


def test_run_once_measures_every_version_in_four_ways():
    keys = short_run().keys() - {"dense, accuracy", "dense, loss"}
    measures = {key.rpartition(", ")[2] for key in keys}
    assert measures == {"accuracy", "loss", "seen", "new"}
    assert len(keys) == 4 * len({key.rpartition(", ")[0] for key in keys})


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__() == short_run()


def test_run_once_rejects_another_network():
    with pytest.raises(KeyError, match="lenet5"):
        run_once({"network": "lenet5", "sparsity": 0.5}, 0)


def test_exact_obs_keeps_more_accuracy_than_magnitude_and_wanda():
    found = short_run()
    unrepaired = [found[f"{name}: mask, accuracy"] for name in ("magnitude", "Wanda")]
    assert found["exact OBS: own, accuracy"] > max(unrepaired) + 0.1


def small_case():
    digits = load_digits(rng=np.random.default_rng(0))
    return digits, mlp((64, 12, 10), rng=np.random.default_rng(1))


def test_compare_at_sparsity_zero_is_the_dense_network():
    digits, network = small_case()
    found = compare(network, digits, 0.0, np.random.default_rng(0), n_calibration=100)
    accuracies = {value for key, value in found.items() if key.endswith("accuracy")}
    assert accuracies == {evaluate(network, digits.test_images, digits.test_labels).accuracy}
    assert max(value for key, value in found.items() if key.endswith("seen")) == 0


def test_an_input_that_is_dead_in_calibration_may_live_later():
    digits, network = small_case()
    found = compare(network, digits, 0.0, np.random.default_rng(0), n_calibration=50)
    assert found["exact OBS: own, seen"] == 0 < found["exact OBS: own, new"]


def test_compare_leaves_the_network_as_it_was():
    digits, network = small_case()
    before = network.state()
    compare(network, digits, 0.5, np.random.default_rng(0), n_calibration=50)
    assert all((before[name] == value).all() for name, value in network.state().items())
    assert all(weight.mask is None for weight in network.weights().values())


def test_mean_gradients_are_those_of_the_whole_batch():
    digits, network = small_case()
    x, labels = digits.train_images[:100], digits.train_labels[:100]
    mean, _ = mean_gradients(network, x, labels)
    network.backward(softmax_cross_entropy(network.forward(x), labels)[1])
    for name, weight in network.weights().items():
        np.testing.assert_allclose(mean[name], weight.grad, atol=1e-6)


def test_mean_squared_gradients_are_those_of_single_examples():
    digits, network = small_case()
    x, labels = digits.train_images[:50], digits.train_labels[:50]
    squares = 0
    for i in range(50):
        outputs = network.forward(x[i : i + 1])
        network.backward(softmax_cross_entropy(outputs, labels[i : i + 1])[1])
        squares = squares + network.weights()["fc2.weight"].grad ** 2
    found = mean_gradients(network, x, labels)[1]["fc2.weight"]
    np.testing.assert_allclose(found, squares / 50, rtol=1e-4, atol=1e-9)


def test_layers_of_a_convolution_are_matrices_of_its_patches():
    digits, network = load_digits(), small_lenet(rng=np.random.default_rng(0))
    layers = layers_of(network, digits.train_images[:50], digits.train_labels[:50])
    assert {name: layer.w.shape for name, layer in layers.items()} == {
        "conv1.weight": (8, 9),
        "conv2.weight": (16, 72),
        "fc1.weight": (50, 64),
        "fc2.weight": (10, 50),
    }
    assert all(layer.hessian.shape == 2 * layer.w.shape[1:] for layer in layers.values())
    assert all(a.shape == layer.w.shape for layer in layers.values() for a in layer[2:])


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_networks_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_networks_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
