"""Every shape of pruning leaves LeNet-5 with as many weights as it says, and counts its bytes."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.data import Dataset
from refimpl.experiments import granularity
from refimpl.experiments.granularity import (
    SETTINGS,
    n_weights,
    pruned,
    run_once,
    shipped,
    shipped_bytes,
)
from refimpl.nn import SparseLayer, lenet5

SHAPES = {"unstructured": 0.9, "2:4": 0.5, "blocks": 0.9, "filters": 0.9}


@pytest.fixture(scope="module")
def dense():
    return lenet5(rng=np.random.default_rng(0))


@pytest.fixture
def few_digits(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.random((40, 1, 8, 8), np.float32)
    labels = np.arange(40) % 10
    data = Dataset(images, labels, images[:20], labels[:20])
    monkeypatch.setattr(granularity, "load_digits", lambda rng: data)  # noqa: ARG005
    granularity._trained.cache_clear()
    yield
    granularity._trained.cache_clear()


@pytest.mark.parametrize("shape", ["unstructured", "blocks"])
def test_masks_keep_their_share_of_every_weight(dense, shape):
    network = pruned(dense, shape, 0.9)
    shares = [float(weight.mask.mean()) for weight in network.weights().values()]
    assert shares == pytest.approx([0.1] * 4)


def test_two_of_four_spares_the_first_convolution(dense):
    network = pruned(dense, "2:4", 0.5)
    masks = [weight.mask for weight in network.weights().values()]
    assert masks[0] is None
    assert [float(mask.mean()) for mask in masks[1:]] == [0.5] * 3


@pytest.mark.parametrize("sparsity", granularity.SPARSITIES)
def test_filters_leave_at_most_that_many_weights_and_hardly_fewer(dense, sparsity):
    left = n_weights(pruned(dense, "filters", sparsity)) / 430_500
    assert 0.95 * (1 - sparsity) < left <= 1 - sparsity


@pytest.mark.parametrize("shape", SHAPES)
def test_the_network_before_the_cut_stays_as_it_is(dense, shape):
    before = {name: value.tobytes() for name, value in dense.state().items()}
    pruned(dense, shape, SHAPES[shape])
    assert {name: value.tobytes() for name, value in dense.state().items()} == before


@pytest.mark.parametrize("shape", SHAPES)
def test_shipped_network_computes_what_the_pruned_one_does(dense, shape):
    network = pruned(dense, shape, SHAPES[shape])
    images = np.random.default_rng(1).standard_normal((3, 1, 28, 28), np.float32)
    expected = network.forward(images)
    np.testing.assert_allclose(shipped(network, shape).forward(images), expected, atol=1e-4)


def test_bytes_of_unstructured_are_four_of_value_and_the_rest_of_indices(dense):
    network = shipped(pruned(dense, "unstructured", 0.9), "unstructured")
    rows = 20 + 50 + 500 + 10
    assert shipped_bytes(network) == (8 * 43_050 + 4 * (rows + 4), 4 * 43_050)
    sparse = [layer for layer in network.layers.values() if isinstance(layer, SparseLayer)]
    assert len(sparse) == 4


def test_bytes_of_filters_are_all_values(dense):
    network = shipped(pruned(dense, "filters", 0.9), "filters")
    assert shipped_bytes(network) == (4 * n_weights(network),) * 2


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("shape", SHAPES)
def test_run_reports_accuracies_and_exact_counts(shape):
    result = run_once({"shape": shape, "sparsity": SHAPES[shape], "epochs": 1}, seed=0)
    assert set(result) == {"dense", "one_shot", "fine_tuned", "kept", "bytes", "index_bytes"}
    assert result["kept"] <= 430_500 * (1 - SHAPES[shape]) + 250  # conv1 whole in 2:4
    assert 4 * result["kept"] <= result["bytes"]


@pytest.mark.usefixtures("few_digits")
def test_every_setting_of_a_seed_starts_from_the_same_network():
    runs = [run_once({"shape": s, "sparsity": 0.5, "epochs": 1}, seed=1) for s in ("2:4", "blocks")]
    assert runs[0]["dense"] == runs[1]["dense"]


def test_unknown_shape_is_refused(dense):
    with pytest.raises(KeyError, match="rows"):
        pruned(dense, "rows", 0.5)


def test_settings_are_all_different():
    assert len({tuple(setting.values()) for setting in SETTINGS}) == len(SETTINGS) == 13


def test_enlarged_digits_show_each_pixel_nine_times_within_a_frame():
    images = np.arange(128.0).reshape(2, 1, 8, 8)
    large = granularity.enlarged(images)
    assert large.shape == (2, 1, 28, 28)
    np.testing.assert_array_equal(large[:, :, 3:-2:3, 3:-2:3], images)
    assert large.sum() == 9 * images.sum()
    assert not large[:, :, :2].any()
    assert not large[:, :, -2:].any()
