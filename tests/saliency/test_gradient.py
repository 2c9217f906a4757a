"""First-order criteria against finite differences of a loss, its gates and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from refimpl import nn
from refimpl.nn import softmax_cross_entropy
from refimpl.prune import snip_masks
from refimpl.saliency import grasp, snip, taylor, taylor_squared
from support.differences import assert_gradient_close, central_differences
from support.strategies import values, whole_numbers

PAIRS = (taylor, snip, grasp)  # functions of a weight and a slope of its shape


def as_floats(array):
    return [float(value) for value in np.asarray(array).ravel()]


class Bowl:
    """The loss of a small tanh network, with its gradient written out once more for the tests."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.x, self.y = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
        self.w = rng.standard_normal((2, 3))

    def loss(self, w):
        return 0.5 * np.mean((np.tanh(self.x @ w.T) - self.y) ** 2)

    def gradient(self, w):
        a = np.tanh(self.x @ w.T)
        return ((a - self.y) * (1 - a**2)).T @ self.x / a.size

    def hessian_gradient(self, w, step=1e-5):
        g = self.gradient(w)
        return (self.gradient(w + step * g) - self.gradient(w - step * g)) / (2 * step)


def test_gradient_of_the_test_loss_is_right():
    bowl = Bowl()
    assert_gradient_close(
        bowl.gradient(bowl.w), central_differences(lambda: bowl.loss(bowl.w), bowl.w)
    )


@given(whole_numbers())
def test_taylor_is_the_size_of_the_product(arrays):
    w, dw = arrays
    expected = [abs(a * b) for a, b in zip(as_floats(w), as_floats(dw), strict=True)]
    assert as_floats(taylor(w, dw)) == expected


@given(whole_numbers())
def test_grasp_is_the_product_with_its_sign(arrays):
    w, hg = arrays
    expected = [a * b for a, b in zip(as_floats(w), as_floats(hg), strict=True)]
    assert as_floats(grasp(w, hg)) == expected


@pytest.mark.parametrize("criterion", PAIRS)
@given(arrays=whole_numbers())
def test_criteria_return_new_float64_of_the_shape(criterion, arrays):
    w, slope = arrays
    saliency = criterion(w, slope)
    assert isinstance(saliency, np.ndarray)
    assert (saliency.dtype, saliency.shape) == (np.float64, w.shape)
    assert not np.shares_memory(saliency, w)


@pytest.mark.parametrize("criterion", PAIRS)
def test_criteria_of_a_single_weight_return_an_array(criterion):
    saliency = criterion(np.array(2.0), np.array(3.0))
    assert isinstance(saliency, np.ndarray)
    assert saliency.shape == ()


@pytest.mark.parametrize("criterion", PAIRS)
def test_products_of_small_float16_do_not_underflow(criterion):
    small = np.array([1e-5, 2e-5], np.float16)
    assert np.count_nonzero(criterion(small, small)) == 2
    assert np.count_nonzero(small * small) == 0


@pytest.mark.parametrize("criterion", PAIRS)
def test_criteria_pass_nan_on_for_masks_to_refuse(criterion):
    assert np.isnan(criterion(np.array([1.0, np.inf]), np.array([1.0, 0.0]))).any()


def test_taylor_is_the_true_change_of_a_linear_loss():
    rng = np.random.default_rng(0)
    w, slope = rng.standard_normal((2, 3, 4))
    without = np.array(
        [np.sum(slope * np.where(np.arange(12).reshape(3, 4) == i, 0, w)) for i in range(12)]
    ).reshape(3, 4)
    np.testing.assert_allclose(taylor(w, slope), np.abs(without - np.sum(slope * w)), rtol=1e-12)


def test_taylor_is_the_slope_of_the_loss_as_a_weight_shrinks():
    bowl = Bowl()
    shrink = np.zeros_like(bowl.w)
    slopes = central_differences(lambda: bowl.loss(bowl.w * (1 - shrink)), shrink)
    assert_gradient_close(taylor(bowl.w, bowl.gradient(bowl.w)), np.abs(slopes))


def least_squares(seed=0):
    """Examples, targets and the weights that fit them best."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 6))
    y = rng.standard_normal(40)
    return x, y, np.linalg.lstsq(x, y, rcond=None)[0]


def test_taylor_vanishes_at_a_stationary_point():
    x, y, w = least_squares()
    residual = x @ w - y
    changes = [np.mean((residual - x[:, i] * w[i]) ** 2) - np.mean(residual**2) for i in range(6)]
    assert taylor(w, 2 * x.T @ residual / 40).max() < 1e-13
    assert min(changes) > 1e-4
    obd = w**2 * np.mean(x**2, axis=0)  # w^2 h / 2 with h = 2 mean(x^2): exact here
    np.testing.assert_allclose(obd, changes, rtol=1e-9)


def test_taylor_squared_does_not_vanish_at_a_stationary_point():
    x, y, w = least_squares()
    gradients = 2 * (x @ w - y)[:, None] * x  # of each example
    saliency = taylor_squared(w, gradients)
    assert saliency.min() > 1e-4
    np.testing.assert_allclose(saliency, w**2 * np.mean(gradients**2, axis=0), rtol=1e-12)


@given(whole_numbers(4))
def test_taylor_squared_is_the_mean_square_of_taylor(arrays):
    w, *dws = arrays
    expected = sum(taylor(w, dw) ** 2 for dw in dws) / len(dws)
    stacked = np.stack([dw.astype(np.float64) for dw in dws])
    np.testing.assert_allclose(taylor_squared(w, stacked), expected, rtol=1e-14)


def test_taylor_squared_of_a_single_weight_returns_an_array():
    saliency = taylor_squared(np.array(2.0), np.array([1.0, -3.0]))
    assert isinstance(saliency, np.ndarray)
    assert (saliency.shape, saliency.item()) == ((), 20)


@pytest.mark.parametrize("normalised", [True, False])
def test_snip_is_the_slope_of_the_loss_by_a_gate(normalised):
    bowl = Bowl()
    gates = np.ones_like(bowl.w)
    slopes = np.abs(central_differences(lambda: bowl.loss(gates * bowl.w), gates))
    expected = slopes / slopes.sum() if normalised else slopes
    total = None if normalised else 1.0
    assert_gradient_close(snip(bowl.w, bowl.gradient(bowl.w), total=total), expected)


def snip_with_the_gradient_alone(dw):
    """Wrong: the slope of the loss by a weight, which no gate scales."""
    return np.abs(dw) / np.abs(dw).sum()


def snip_with_the_weights_alone(w):
    """Wrong: magnitude in disguise."""
    return np.abs(w) / np.abs(w).sum()


def test_gates_expose_snip_without_weights_or_without_gradients():
    bowl = Bowl()
    gates, dw = np.ones_like(bowl.w), bowl.gradient(bowl.w)
    slopes = np.abs(central_differences(lambda: bowl.loss(gates * bowl.w), gates))
    right = np.argsort(slopes.ravel()).tolist()
    assert np.argsort(snip(bowl.w, dw).ravel()).tolist() == right
    assert np.argsort(snip_with_the_gradient_alone(dw).ravel()).tolist() != right
    assert np.argsort(snip_with_the_weights_alone(bowl.w).ravel()).tolist() != right


@given(hnp.arrays(np.float64, (2, 3, 2), elements=values(np.float64)))
def test_snip_sums_to_one_unless_nothing_flows(pair):
    w, dw = pair
    np.testing.assert_allclose(snip(w, dw).sum(), 1.0 if (w * dw).any() else 0.0, rtol=1e-12)


def test_snip_with_the_total_of_all_layers_sums_to_one_over_them():
    rng = np.random.default_rng(0)
    layers = [(rng.standard_normal(shape), rng.standard_normal(shape)) for shape in ((4, 3), (2,))]
    total = sum(float(np.abs(w * dw).sum()) for w, dw in layers)
    scores = [snip(w, dw, total=total) for w, dw in layers]
    np.testing.assert_allclose(sum(score.sum() for score in scores), 1, rtol=1e-12)
    first, second = (taylor(w, dw).max() for w, dw in layers)
    np.testing.assert_allclose(scores[0].max() / scores[1].max(), first / second, rtol=1e-12)


def test_grasp_is_half_the_slope_at_which_the_gradient_shrinks_as_a_weight_goes():
    bowl = Bowl()
    shrink = np.zeros_like(bowl.w)

    def squared_norm():
        return np.sum(bowl.gradient(bowl.w * (1 - shrink)) ** 2)

    growth = central_differences(squared_norm, shrink)
    assert_gradient_close(grasp(bowl.w, bowl.hessian_gradient(bowl.w)), -growth / 2)


def test_grasp_keeps_the_weight_whose_removal_shrinks_the_gradient_most():
    a, b = np.diag([2.0, 0.1, 0.1]), np.array([0.0, 1.0, -1.0])
    w = np.ones(3)  # loss w^T a w / 2 - b^T w
    g = a @ w - b
    norms = [np.sum((a @ (w * (np.arange(3) != i)) - b) ** 2) for i in range(3)]
    scores = grasp(w, a @ g)
    assert np.argmax(scores) == np.argmin(norms) == 0
    assert np.argmin(scores) == np.argmax(norms) == 1


@pytest.mark.parametrize("criterion", PAIRS)
def test_criteria_refuse_a_slope_of_another_shape(criterion):
    with pytest.raises(ValueError, match=rf"^{criterion.__name__}: .+ must have shape \(2, 3\),"):
        criterion(np.ones((2, 3)), np.ones((3, 2)))


@pytest.mark.parametrize("criterion", PAIRS)
def test_criteria_refuse_what_is_no_float_array(criterion):
    with pytest.raises(TypeError, match=f"^{criterion.__name__}: w must be float16 or"):
        criterion(np.ones(3, int), np.ones(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: taylor_squared(np.ones(2), np.ones(2)), r"dws must have shape \(any, 2\)"),
        (lambda: taylor_squared(np.ones(2), np.ones((0, 2))), "dws must hold a batch or more"),
        (lambda: snip(np.ones(2), np.ones(2), total=0.0), "total must be finite and above 0"),
    ],
)
def test_criteria_refuse_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def network_and_batch():
    rng = np.random.default_rng(0)
    network = nn.mlp((6, 5, 3), rng=rng)
    return network, rng.standard_normal((8, 6)).astype(np.float32), rng.integers(0, 3, 8)


def test_snip_uses_one_batch_at_initialisation(monkeypatch):
    network, x, labels = network_and_batch()
    seen = []
    forward = nn.Network.forward

    def watch(self, images, **options):
        seen.append(images.shape)
        return forward(self, images, **options)

    monkeypatch.setattr(nn.Network, "forward", watch)
    masks = snip_masks(network, x, labels, 0.5)
    assert seen == [(8, 6)]
    monkeypatch.undo()
    network.backward(softmax_cross_entropy(network.forward(x), labels)[1])
    effects = {name: np.abs(w.value * w.grad) for name, w in network.weights().items()}
    kept = np.concatenate([effects[name][mask] for name, mask in masks.items()])
    gone = np.concatenate([effects[name][~mask] for name, mask in masks.items()])
    assert kept.min() >= gone.max()
