"""The linear layer: products, their gradients, the mask, the initial weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import Linear
from support.differences import assert_gradient_close, central_differences
from support.strategies import layouts
from support.tolerance import assert_product_close

SEEDS = st.integers(0, 2**32 - 1)


def linear(n_in: int, n_out: int, *, seed: int = 0, **options) -> Linear:
    return Linear(n_in, n_out, rng=np.random.default_rng(seed), **options)


@st.composite
def linear_cases(draw) -> tuple[Linear, np.ndarray, np.ndarray]:
    """A layer, an input and an output gradient: sides and batches of 1, batches of 0."""
    n_in, n_out = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    batch, seed = draw(st.integers(0, 5)), draw(SEEDS)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    layer = linear(n_in, n_out, seed=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    layer.bias.value = rng.standard_normal(n_out).astype(dtype)
    x = rng.standard_normal((batch, n_in)).astype(dtype)
    dy = rng.standard_normal((batch, n_out)).astype(dtype)
    return layer, draw(layouts(x)), draw(layouts(dy))


@given(linear_cases())
def test_linear_forward_is_the_product_plus_bias(case):
    layer, x, _ = case
    ones = np.ones((len(x), 1), x.dtype)
    with_bias = np.vstack([layer.weight.value.T, layer.bias.value])
    assert_product_close(layer.forward(x), np.hstack([x, ones]), with_bias)


@given(linear_cases())
def test_linear_backward_matches_the_sums_of_the_chain_rule(case):
    layer, x, dy = case
    layer.forward(x)
    dx = layer.backward(dy)
    assert_product_close(dx, dy, layer.weight.value)
    assert_product_close(layer.weight.grad, dy.T, x)
    assert_product_close(layer.bias.grad, dy.T, np.ones(len(x), x.dtype))


@given(linear_cases())
def test_linear_keeps_the_dtype(case):
    layer, x, dy = case
    arrays = [layer.forward(x), layer.backward(dy), layer.weight.grad, layer.bias.grad]
    assert {array.dtype for array in arrays} == {x.dtype}


@pytest.mark.parametrize(("batch", "n_in", "n_out"), [(1, 1, 1), (1, 3, 2), (4, 1, 3), (5, 3, 1)])
def test_linear_gradients_match_central_differences(batch, n_in, n_out):
    layer, rng = linear(n_in, n_out, dtype=np.float64), np.random.default_rng(1)
    x, v = rng.standard_normal((batch, n_in)), rng.standard_normal((batch, n_out))

    def f() -> float:
        return float(np.vdot(v, layer.forward(x)))

    layer.forward(x)
    assert_gradient_close(layer.backward(v), central_differences(f, x))
    weight, bias = layer.weight, layer.bias
    assert_gradient_close(weight.grad, central_differences(f, weight.value))
    assert_gradient_close(bias.grad, central_differences(f, bias.value))


def test_linear_matches_the_numbers_by_hand():
    layer = linear(2, 2, dtype=np.float64)
    layer.weight.value = np.array([[1.0, 2.0], [-3.0, 4.0]])
    layer.bias.value = np.array([0.5, -0.5])
    np.testing.assert_array_equal(layer.forward(np.array([[10.0, 1.0]])), [[12.5, -26.5]])
    np.testing.assert_array_equal(layer.backward(np.array([[1.0, -1.0]])), [[4.0, -2.0]])
    np.testing.assert_array_equal(layer.weight.grad, [[10.0, 1.0], [-10.0, -1.0]])
    np.testing.assert_array_equal(layer.bias.grad, [1.0, -1.0])


def test_linear_without_bias_is_the_bare_product():
    layer = linear(3, 2, bias=False)
    x = np.ones((4, 3), np.float32)
    assert layer.bias is None
    assert layer.parameters() == [layer.weight]
    assert_product_close(layer.forward(x), x, layer.weight.value.T)
    dy = np.ones((4, 2), np.float32)
    assert_product_close(layer.backward(dy), dy, layer.weight.value)


def test_linear_gradient_is_dense_under_a_mask():
    layer, twin = linear(3, 2), linear(3, 2)
    layer.weight.mask = np.array([[True, False, True], [False, False, True]])
    x, dy = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    for one in (layer, twin):
        one.forward(x)
        one.backward(dy)
    np.testing.assert_array_equal(layer.weight.grad, twin.weight.grad)
    assert layer.weight.grad.all()


def test_linear_computes_with_kept_weights_only():
    layer = linear(3, 2)
    mask = np.array([[True, False, True], [False, False, True]])
    kept = np.where(mask, layer.weight.value, np.float32(0))
    layer.weight.mask = mask
    x, dy = np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)
    assert_product_close(layer.forward(x), x, kept.T)
    assert_product_close(layer.backward(dy), dy, kept)


def test_linear_backward_overwrites_the_gradient():
    layer = linear(3, 2)
    layer.forward(np.ones((4, 3), np.float32))
    layer.backward(np.ones((4, 2), np.float32))
    layer.backward(np.zeros((4, 2), np.float32))
    assert not layer.weight.grad.any()
    assert not layer.bias.grad.any()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((5, 7)), ValueError, r"shape \(any, 6\), got \(5, 7\); check which axis"),
        (np.ones(6), ValueError, r"have 2 axes, got shape \(6,\)"),
        (np.ones((5, 1, 6)), ValueError, r"have 2 axes, got shape \(5, 1, 6\)"),
        (np.ones((5, 6), np.float32), TypeError, "be float64, got float32; convert it"),
    ],
    ids=["features", "one axis", "three axes", "float32"],
)
def test_linear_rejects_an_input_that_does_not_fit(x, error, message):
    with pytest.raises(error, match=f"Linear.forward: x must .*{message}"):
        linear(6, 4, dtype=np.float64).forward(x)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_in": 0}, ValueError, "n_in must be at least 1, got 0"),
        ({"n_out": -1}, ValueError, "n_out must be at least 1, got -1"),
        ({"n_in": 2.0}, TypeError, "n_in must be an integer, got 2.0"),
        ({"rng": 0}, TypeError, "rng must be a numpy.random.Generator, got int"),
        ({"dtype": np.float16}, TypeError, "dtype must be float32 or float64, got float16"),
        ({"dtype": "half"}, TypeError, "dtype must be float32 or float64, got half"),
        ({"dtype": int}, TypeError, "dtype must be float32 or float64, got int"),
    ],
)
def test_linear_rejects_bad_options(options, error, message):
    options = {"n_in": 3, "n_out": 2, "rng": np.random.default_rng(0)} | options
    with pytest.raises(error, match=f"Linear: {message}"):
        Linear(options.pop("n_in"), options.pop("n_out"), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.dtype("float32"), "float64"])
def test_linear_has_the_dtype_that_was_asked_for(dtype):
    layer = linear(3, 2, dtype=dtype)
    assert layer.weight.dtype == layer.bias.dtype == np.dtype(dtype)


# --- initialisation --------------------------------------------------------------------------
# A right initialisation fails each bound with probability below 1e-6.

N_WEIGHTS = 500 * 400
INITS = pytest.mark.parametrize(
    ("n_in", "n_out", "seed"), [(500, 400, 0), (500, 400, 1), (400, 500, 2), (20, 10_000, 3)]
)


@INITS
def test_linear_initial_weights_have_mean_zero(n_in, n_out, seed):
    weight = linear(n_in, n_out, seed=seed, dtype=np.float64).weight.value
    # The mean is normal with variance 2 / n_in / n; five standard deviations: p = 6e-7.
    assert abs(weight.mean()) < 5 * math.sqrt(2 / n_in / N_WEIGHTS)


@INITS
def test_linear_initial_weights_have_variance_two_over_n_in(n_in, n_out, seed):
    weight = linear(n_in, n_out, seed=seed, dtype=np.float64).weight.value
    # Laurent and Massart 2000, lemma 1: a chi-square of n degrees of freedom is off its mean by
    # 2 sqrt(n t) + 2 t or more with p <= 2 exp(-t); t = 15 gives 6e-7.
    off = 2 * math.sqrt(15 / N_WEIGHTS) + 2 * 15 / N_WEIGHTS
    assert abs(np.square(weight).mean() * n_in / 2 - 1) < off


@INITS
def test_linear_initial_weights_are_normal(n_in, n_out, seed):
    weight = linear(n_in, n_out, seed=seed, dtype=np.float64).weight.value
    within = np.mean(np.abs(weight) < math.sqrt(2 / n_in))
    # 68.3 % lie within one standard deviation, 57.7 % if uniform of the same variance.
    # Hoeffding: off by d or more with p <= 2 exp(-2 n d**2); 1e-6 gives d = 0.6 %.
    d = math.sqrt(math.log(2e6) / 2 / N_WEIGHTS)
    assert abs(within - math.erf(math.sqrt(0.5))) < d


def test_linear_initial_bias_is_zero():
    assert not linear(5, 4).bias.value.any()


def test_linear_initial_weights_repeat_with_the_seed():
    one, other = linear(5, 4, seed=3).weight.value, linear(5, 4, seed=3).weight.value
    assert one.tobytes() == other.tobytes()


def test_linear_initial_weights_differ_between_seeds():
    one, other = linear(5, 4, seed=3).weight.value, linear(5, 4, seed=4).weight.value
    assert one.tobytes() != other.tobytes()


def test_linear_initial_weights_agree_between_dtypes():
    double = linear(5, 4, dtype=np.float64).weight.value
    assert linear(5, 4).weight.value.tobytes() == double.astype(np.float32).tobytes()
