"""SynFlow against sums over paths, finite differences and its conservation law."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.saliency import synflow, total_flow
from support.differences import central_differences
from support.strategies import FLOATS, layouts


@st.composite
def chains(draw, *, kernels=True, dtypes=FLOATS):
    """Weights of one to four layers: convolutions, perhaps a flattening, linear layers."""
    widths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    n_convs = draw(st.integers(0, len(widths) - 1)) if kernels else 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        pixels = draw(st.integers(1, 4)) if i == n_convs > 0 else 1
        kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if i < n_convs else ()
        w = rng.integers(-9, 10, (n_out, n_in * pixels, *kernel)) / 8
        weights.append(draw(layouts(w.astype(draw(st.sampled_from(dtypes))))))
    return weights


def flow_by_paths(weights):
    """Oracle: the product of the absolute weights, path by path."""
    layers = [np.abs(w.astype(float)) for w in weights]
    ends = product(*[range(len(w)) for w in layers], range(layers[0].shape[1]))
    total = 0.0
    for *units, first in ends:
        flow = 1.0
        for w, unit, below in zip(layers, units, [first, *units[:-1]], strict=True):
            flow *= w[unit, below]
        total += flow
    return total


@given(chains(kernels=False))
def test_flow_is_the_sum_over_all_paths(weights):
    np.testing.assert_allclose(total_flow(weights), flow_by_paths(weights), rtol=1e-12)


def circular(images, w):
    """Convolve images without border: (c_in, height, width) to (c_out, height, width)."""
    out = np.zeros((len(w), *images.shape[1:]))
    for i, j in np.ndindex(w.shape[2:]):
        shifted = np.roll(images, (-i, -j), axis=(1, 2))
        out += np.einsum("oc,chw->ohw", w[:, :, i, j], shifted)
    return out


@given(chains())
def test_flow_is_that_of_images_without_border(weights):
    layers = [np.abs(w.astype(float)) for w in weights]
    n_pixels = next((w.shape[1] // len(b) for b, w in pairwise(layers) if w.ndim < b.ndim), 1)
    flow = np.ones((layers[0].shape[1], 1, n_pixels))
    for w in layers:
        linear = w.ndim == 2
        flow = (w @ flow.ravel()).reshape(-1, 1, 1) if linear else circular(flow, w)
    expected = flow.sum() if layers[-1].ndim == 2 else flow[:, 0, 0].sum()  # of one pixel
    np.testing.assert_allclose(total_flow(weights), expected, rtol=1e-12)


@given(chains())
def test_synflow_conserves_the_flow_layer_by_layer(weights):
    total = total_flow(weights)
    for scores in synflow(weights):
        np.testing.assert_allclose(scores.sum(), total, rtol=1e-12)


@given(chains())
def test_synflow_conserves_the_flow_unit_by_unit(weights):
    for before, after in pairwise(synflow(weights)):
        n_units = len(before)
        incoming = before.reshape(n_units, -1).sum(axis=1)
        pixels = np.moveaxis(after, 1, 0).reshape(n_units, -1)  # those of a channel side by side
        np.testing.assert_allclose(incoming, pixels.sum(axis=1), rtol=1e-12, atol=1e-12)


@given(chains(dtypes=(np.float64,)))
def test_synflow_is_the_weight_times_the_slope_of_the_flow(weights):
    scale = max(1.0, total_flow(weights))
    weights = [np.where(w == 0, 0.5, w) for w in weights]  # |w| has no slope at 0
    for w, scores in zip(weights, synflow(weights), strict=True):
        slope = central_differences(lambda: total_flow(weights) / scale, w)
        np.testing.assert_allclose(scores / scale, np.abs(w * slope), rtol=1e-6, atol=1e-7)


def synflow_of_signed_weights(weights):
    """Wrong: without absolute values, paths of opposite sign cancel."""
    first, second = weights
    return [second.sum(axis=0)[:, None] * first, second * first.sum(axis=1)]


def test_paths_of_opposite_sign_expose_synflow_of_signed_weights():
    weights = [np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1.0, 1.0]])]
    assert [s.sum() for s in synflow(weights)] == [4, 4]
    assert [abs(s).min() for s in synflow_of_signed_weights(weights)] == [1, 0]
    assert min(s.min() for s in synflow(weights)) == 1  # every path carries as much


@given(chains(), st.data())
def test_a_factor_on_a_layer_changes_all_scores_alike(weights, data):
    layer = data.draw(st.integers(0, len(weights) - 1))
    doubled = [w * w.dtype.type(2 if i == layer else 1) for i, w in enumerate(weights)]
    for once, twice in zip(synflow(weights), synflow(doubled), strict=True):
        np.testing.assert_array_equal(twice, 2 * once)


@given(chains())
def test_synflow_scores_have_the_shape_of_their_weight_and_float64(weights):
    for w, scores in zip(weights, synflow(weights), strict=True):
        assert (scores.shape, scores.dtype) == (w.shape, np.float64)
        assert (scores >= 0).all()
        assert not scores[w == 0].any()


@pytest.mark.parametrize("function", [synflow, total_flow])
def test_flow_beyond_floats_is_refused_with_a_sentence(function):
    with pytest.raises(ValueError, match=r"the flow must be finite, got .+; divide all weights"):
        function([np.full((10, 10), 1e200)] * 3)


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        ([], ValueError, "weights must hold a layer or more, got none;"),
        ([np.ones((2, 3, 1))], ValueError, r"weights\[0\] must have 2 or 4 axes"),
        ([np.ones((0, 3))], ValueError, r"weights\[0\] must hold a weight"),
        ([np.ones((2, 3), int)], TypeError, r"weights\[0\] must be float16"),
        (
            [np.ones((2, 3)), np.ones((4, 3))],
            ValueError,
            r"weights\[1\] must have inputs for 2 outputs, got 3;",
        ),
        (
            [np.ones((2, 3)), np.ones((4, 4))],  # no image was flattened between the two
            ValueError,
            r"weights\[1\] must have inputs for 2 outputs, got 4;",
        ),
        (
            [np.ones((2, 3, 1, 1)), np.ones((4, 3))],
            ValueError,
            r"weights\[1\] must have inputs for 2 outputs, or a multiple of it, got 3;",
        ),
    ],
)
def test_synflow_refuses_with_a_sentence(weights, kind, message):
    with pytest.raises(kind, match=f"^synflow: {message}"):
        synflow(weights)
