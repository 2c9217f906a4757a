"""Wanda zeros an exact count of each row by weights and inputs, and moves nothing else."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl import nn, saliency
from refimpl.masks import count_kept, n_of_m, row_wise
from refimpl.prune import apply_masks, input_hessian, prune_layers, wanda, wanda_masks

HALF = partial(row_wise, sparsity=0.5)


@st.composite
def layers(draw):
    """A weight with many ties, and the Hessian of a few inputs, some of them dead."""
    n_out, n_in = draw(st.integers(1, 4)), draw(st.integers(2, 8))
    whole = st.integers(-3, 3).map(float)
    w = draw(hnp.arrays(np.float64, (n_out, n_in), elements=whole))
    x = draw(hnp.arrays(np.float64, (draw(st.integers(1, 5)), n_in), elements=whole))
    return w, x, 2 / len(x) * x.T @ x


def layer(seed: int, n_out: int = 6, n_in: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, n_in)) @ rng.normal(size=(n_in, n_in))
    return rng.normal(size=(n_out, n_in)), x


@given(layers(), st.sampled_from([0.0, 0.1, 0.29, 0.5]))
def test_wanda_removes_exactly_the_count_of_every_row(case, sparsity):
    w, _, hessian = case
    w = w + 10  # no weight is 0 by itself
    n_keep = count_kept(w.shape[1], sparsity)
    assert set(np.count_nonzero(wanda(w, hessian, sparsity=sparsity), axis=1)) == {n_keep}


@given(layers(), st.sampled_from([0.0, 0.1, 0.29, 0.5]))
def test_wanda_keeps_the_largest_errors_of_every_row(case, sparsity):
    w, x, hessian = case
    errors = w**2 * (x**2).sum(axis=0)  # whole numbers: exact, as are their sums
    largest = np.sort(errors, axis=1)[:, w.shape[1] - count_kept(w.shape[1], sparsity) :]
    pruned = wanda(w, hessian, sparsity=sparsity)
    np.testing.assert_array_equal((errors * (pruned != 0)).sum(axis=1), largest.sum(axis=1))


def test_wanda_leaves_what_it_keeps_as_it_was():
    w, x = layer(0)
    pruned = wanda(w, input_hessian([x]), sparsity=0.5)
    np.testing.assert_array_equal(pruned, np.where(pruned != 0, w, 0))
    assert not np.shares_memory(pruned, w)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wanda_keeps_the_dtype_of_the_weight(dtype):
    w, x = layer(0)
    assert wanda(w.astype(dtype), input_hessian([x]), n=2, m=4).dtype == dtype


def test_wanda_two_four_keeps_two_of_every_four():
    w, x = layer(0)
    pruned = wanda(w, input_hessian([x]), n=2, m=4)
    assert (np.count_nonzero(pruned.reshape(6, 2, 4), axis=2) == 2).all()


@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {"n": 2, "m": 4}])
def test_wanda_by_the_hessian_is_wanda_by_the_norms(options):
    w, x = layer(1)
    rule = HALF if "sparsity" in options else partial(n_of_m, **options)
    mask = rule(saliency.wanda(w, saliency.input_norms([x])))
    np.testing.assert_array_equal(wanda(w, input_hessian([x]), **options), np.where(mask, w, 0))


@pytest.mark.parametrize("scale", [4.0**-20, 4.0**20])
def test_wanda_does_not_depend_on_the_unit_of_the_inputs(scale):
    w, x = layer(2)
    hessian = input_hessian([x])
    np.testing.assert_array_equal(
        wanda(w, scale * hessian, sparsity=0.5), wanda(w, hessian, sparsity=0.5)
    )


def least_error(row: np.ndarray, x: np.ndarray, n_keep: int) -> float:
    """Oracle: smallest squared output error of any `n_keep` weights of a row, as they are."""
    errors = []
    for kept in combinations(range(len(row)), n_keep):
        removed = row.copy()
        removed[list(kept)] = 0
        errors.append(((x @ removed) ** 2).sum())
    return min(errors)


@pytest.mark.parametrize("seed", range(3))
def test_wanda_is_the_best_mask_when_inputs_are_uncorrelated(seed):
    w, x = layer(seed)
    x = np.linalg.qr(x)[0] * np.arange(1, 9)  # orthogonal columns of norms 1 to 8
    pruned = wanda(w, input_hessian([x]), sparsity=0.5)
    errors = ((x @ (w - pruned).T) ** 2).sum(axis=0)
    np.testing.assert_allclose(errors, [least_error(row, x, 4) for row in w], rtol=1e-10)


def test_wanda_is_not_the_best_mask_when_inputs_are_correlated():
    w, x = layer(0)
    pruned = wanda(w, input_hessian([x]), sparsity=0.5)
    errors = ((x @ (w - pruned).T) ** 2).sum(axis=0)
    assert errors.sum() > 1.1 * sum(least_error(row, x, 4) for row in w)


def test_wanda_removes_the_weights_of_dead_inputs_first():
    w, x = layer(0)
    x[:, [1, 4, 6]] = 0
    w[:, [1, 4, 6]] = 1e6
    pruned = wanda(w, input_hessian([x]), sparsity=3 / 8)
    assert not pruned[:, [1, 4, 6]].any()
    assert np.count_nonzero(pruned) == 6 * 5


def test_wanda_of_dead_inputs_only_still_keeps_the_count():
    pruned = wanda(np.ones((2, 4)), np.zeros((4, 4)), sparsity=0.5)
    np.testing.assert_array_equal(pruned, [[1, 1, 0, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the pattern must be a sparsity or an n and an m, got sparsity=None, n=None, m=None"),
        ({"sparsity": 0.5, "n": 2, "m": 4}, "the pattern must be a sparsity or an n and an m"),
        ({"n": 2}, "the pattern must be a sparsity or an n and an m, got sparsity=None, n=2"),
        ({"sparsity": 0.95}, "sparsity must leave a weight in a row of 8, got 0.95; take a lower"),
        ({"n": 2, "m": 3}, "wanda: the number of inputs must be a multiple of 3, got 8"),
        ({"n": 0, "m": 4}, r"n must be in \[1, 4\], got 0"),
    ],
)
def test_wanda_refuses_a_pattern_with_a_sentence(options, message):
    w, x = layer(0)
    with pytest.raises(ValueError, match=message):
        wanda(w, input_hessian([x]), **options)


def test_wanda_refuses_a_hessian_of_another_width():
    with pytest.raises(ValueError, match=r"wanda: w must have shape \(any, 8\), got \(6, 7\)"):
        wanda(np.ones((6, 7)), np.eye(8), sparsity=0.5)


def cnn(seed: int = 0):
    rng = np.random.default_rng(seed)
    layers = {
        "conv1": nn.Conv2d(4, 6, 3, rng=rng, dtype=np.float64),
        "relu1": nn.ReLU(),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(6 * 12, 8, rng=rng, dtype=np.float64),
    }
    return nn.Network(layers), rng.standard_normal((5, 4, 6, 5))


def features(network, x):
    """What the linear layer of `cnn` sees."""
    for name in ("conv1", "relu1", "flatten"):
        x = network.layers[name].forward(x)
    return x


def test_wanda_masks_use_the_inputs_of_each_layer():
    network, x = cnn()
    masks = wanda_masks(network, [x[:2], x[2:]], rule=HALF)
    norms = np.linalg.norm(features(network, x), axis=0)
    expected = HALF(np.abs(network.weights()["fc1.weight"].value) * norms)
    np.testing.assert_array_equal(masks["fc1.weight"], expected)


def test_wanda_masks_score_a_convolution_by_its_patches():
    network, x = cnn()
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    norms = np.sqrt((patches**2).sum(axis=(0, 2, 3)))  # (c_in, kh, kw)
    expected = HALF(np.abs(network.weights()["conv1.weight"].value) * norms)
    np.testing.assert_array_equal(wanda_masks(network, [x], rule=HALF)["conv1.weight"], expected)


def test_wanda_masks_change_nothing_by_themselves():
    network, x = cnn()
    before = network.state()
    wanda_masks(network, [x], rule=HALF)
    assert all(weight.mask is None for weight in network.weights().values())
    assert all((before[key] == value).all() for key, value in network.state().items())


def test_wanda_masks_never_bring_a_pruned_weight_back():
    network, x = cnn()
    pruned = np.random.default_rng(1).random((8, 72)) < 0.3
    apply_masks(network, {"fc1.weight": ~pruned})
    assert not (wanda_masks(network, [x], rule=HALF)["fc1.weight"] & pruned).any()


def test_wanda_masks_leave_ignored_weights_out():
    network, x = cnn()
    assert list(wanda_masks(network, [x], rule=HALF, ignore=["conv1.weight"])) == ["fc1.weight"]


def test_pruned_layers_before_change_the_inputs_of_the_next():
    network, x = cnn()
    masks = wanda_masks(network, [x], rule=HALF)
    prune_layers(network, [x], partial(wanda, sparsity=0.5))
    np.testing.assert_array_equal(network.weights()["conv1.weight"].mask, masks["conv1.weight"])
    assert (network.weights()["fc1.weight"].mask ^ masks["fc1.weight"]).any()


@pytest.mark.parametrize(
    ("batches", "kind", "message"),
    [
        ([], ValueError, "batches must hold an example, got none; run calibration inputs through"),
        (np.ones((2, 4, 6, 5)), TypeError, "batches must be an iterable of batches, got ndarray"),
        (None, TypeError, "batches must be an iterable of batches, got NoneType"),
    ],
)
def test_wanda_masks_refuse_no_calibration_data_with_a_sentence(batches, kind, message):
    with pytest.raises(kind, match=message):
        wanda_masks(cnn()[0], batches, rule=HALF)


def test_wanda_masks_refuse_a_rule_that_returns_no_mask():
    network, x = cnn()
    with pytest.raises(TypeError, match=r"wanda_masks: mask of conv1.weight must be bool, got fl"):
        wanda_masks(network, [x], rule=np.sqrt)
