"""Clipping: one norm over everything that moves, no overflow, and the direction stays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import Parameter, clip_gradients
from support.strategies import layouts

DTYPES = (np.float32, np.float64)
MOST_SCALES = st.integers(-30, 30)


@st.composite
def gradients(draw, *, log_scale=MOST_SCALES) -> list[Parameter]:
    """One to three parameters of one dtype with gradients of one scale, some of them zero."""
    dtype, scale = draw(st.sampled_from(DTYPES)), 10.0 ** draw(log_scale)
    rng, found = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), []
    for shape in draw(st.lists(st.sampled_from([(3,), (2, 4), (1, 2, 3, 2), (0,)]), min_size=1)):
        parameter = Parameter(np.zeros(shape, dtype))
        kept = rng.random(shape) < draw(st.sampled_from([0.0, 0.7, 1.0]))
        parameter.grad = draw(layouts((scale * kept * rng.normal(size=shape)).astype(dtype)))
        found.append(parameter)
    return found


def of(*grads, dtype=np.float64, masks=None) -> list[Parameter]:
    found = []
    for grad, mask in zip(grads, masks or [None] * len(grads), strict=True):
        parameter = Parameter(np.ones(len(grad), dtype))
        parameter.grad = np.array(grad, dtype)
        parameter.mask = None if mask is None else np.array(mask, bool)
        found.append(parameter)
    return found


def norm_by_hand(parameters: list[Parameter]) -> float:
    """`math.hypot` guards against overflow in its own way."""
    return math.hypot(*(float(g) for p in parameters for g in p.grad.ravel()))


def eps(parameters: list[Parameter]) -> float:
    return float(np.finfo(parameters[0].dtype).eps)


# --- the norm --------------------------------------------------------------------------------


@given(gradients())
def test_clip_gradients_returns_the_norm_of_all_together(parameters):
    expected = norm_by_hand(parameters)
    assert clip_gradients(parameters, 1.0) == pytest.approx(
        expected, rel=4 * eps(parameters), abs=0
    )


@given(gradients(log_scale=st.sampled_from([-44, -38, -20, 19, 20, 37])))
def test_norm_of_float32_neither_overflows_nor_vanishes(parameters):
    expected = norm_by_hand(parameters)
    tiny = 1e-44  # where numbers are subnormal, they have no more relative precision
    assert clip_gradients(parameters, 1.0) == pytest.approx(expected, rel=1e-6, abs=tiny)


@pytest.mark.parametrize(
    ("dtype", "big"), [(np.float32, 3e38), (np.float32, 2e-45), (np.float64, 1e308)]
)
def test_norm_of_two_equal_entries_is_root_two_of_one(dtype, big):
    [one] = of([big], dtype=dtype)[0].grad
    norm = clip_gradients(of([big, big], dtype=dtype), 1.0)
    assert norm == pytest.approx(float(one) * math.sqrt(2), rel=1e-6, abs=0)


def test_norm_matches_the_numbers_by_hand():
    assert clip_gradients(of([2.0, 3.0], [6.0]), 100.0) == 7.0  # 4 + 9 + 36 = 49


# --- the clipping ----------------------------------------------------------------------------


@given(gradients(), st.sampled_from([1e-3, 1.0, 50.0]))
def test_clipped_gradients_have_the_norm_asked_for(parameters, max_norm):
    before = clip_gradients(parameters, max_norm)
    expected = min(before, max_norm)
    assert norm_by_hand(parameters) == pytest.approx(expected, rel=8 * eps(parameters), abs=0)


@given(gradients(log_scale=st.integers(0, 30)))
def test_clipping_keeps_the_direction(parameters):
    before = [p.grad.astype(np.float64) for p in parameters]
    norm = clip_gradients(parameters, 1e-3)
    for parameter, old in zip(parameters, before, strict=True):
        expected = old * min(1.0, 1e-3 / max(norm, 1e-300))
        np.testing.assert_allclose(parameter.grad, expected, rtol=8 * eps(parameters), atol=1e-44)


@given(gradients(log_scale=st.just(0)))
def test_gradients_that_are_short_enough_are_not_touched(parameters):
    before = [p.grad for p in parameters]
    clip_gradients(parameters, 1e6)
    assert all(p.grad is old for p, old in zip(parameters, before, strict=True))


def test_gradients_exactly_as_long_as_allowed_are_not_touched():
    parameters = of([2.0, 3.0], [6.0])
    old = parameters[0].grad
    clip_gradients(parameters, 7.0)
    assert parameters[0].grad is old


@given(gradients(log_scale=st.just(5)))
def test_clipping_writes_into_no_array_that_it_was_given(parameters):
    before = [(p.grad, p.grad.tobytes()) for p in parameters]
    clip_gradients(parameters, 1.0)
    assert all(old.tobytes() == bits for old, bits in before)


@given(gradients())
def test_clipping_keeps_the_dtype(parameters):
    dtype = parameters[0].dtype
    norm = clip_gradients(parameters, np.float64(1e-3))
    assert (type(norm), {p.grad.dtype for p in parameters}) == (float, {dtype})


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_of_a_huge_gradient_loses_no_precision(dtype):
    big = 0.9 * float(np.finfo(dtype).max)
    [parameter] = of([big, -big], dtype=dtype)
    clip_gradients([parameter], math.sqrt(2))
    np.testing.assert_allclose(parameter.grad, [1, -1], rtol=4 * float(np.finfo(dtype).eps))


def test_norm_of_zero_gradients_is_zero():
    parameters = of([0.0, -0.0])
    assert clip_gradients(parameters, 1e-300) == 0


# --- pruned weights --------------------------------------------------------------------------


@pytest.mark.parametrize("wild", [0.0, 1e30, np.inf, -np.inf, np.nan])
def test_gradient_of_a_pruned_weight_does_not_count(wild):
    parameters = of([3.0, wild, 4.0], masks=[[1, 0, 1]])
    assert clip_gradients(parameters, 1.0) == 5.0
    np.testing.assert_allclose(parameters[0].grad[[0, 2]], [0.6, 0.8], rtol=1e-15)


def test_gradient_of_a_pruned_weight_is_scaled_like_the_others():
    parameters = of([3.0, 10.0, 4.0], masks=[[1, 0, 1]])
    clip_gradients(parameters, 1.0)
    np.testing.assert_allclose(parameters[0].grad, [0.6, 2.0, 0.8], rtol=1e-15)


def test_norm_of_nothing_but_pruned_weights_is_zero():
    parameters = of([3.0, np.nan], masks=[[0, 0]])
    assert clip_gradients(parameters, 1.0) == 0


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("wild", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 1])
def test_a_gradient_that_is_not_finite_is_refused_and_nothing_changes(wild, place):
    parameters = of([30.0, 40.0], [50.0])
    parameters[place].grad[0] = wild
    before = [p.grad for p in parameters]
    with pytest.raises(FloatingPointError, match="clip_gradients: gradients must be finite, got "):
        clip_gradients(parameters, 1.0)
    assert all(p.grad is old for p, old in zip(parameters, before, strict=True))


def test_a_missing_gradient_is_refused_before_anything_changes():
    parameters = [*of([30.0, 40.0]), Parameter(np.ones(1))]
    old = parameters[0].grad
    with pytest.raises(ValueError, match="clip_gradients: every parameter must have a gradient, "):
        clip_gradients(parameters, 1.0)
    assert parameters[0].grad is old


@pytest.mark.parametrize("max_norm", [0, -1.0, math.inf, math.nan])
def test_max_norm_out_of_range_is_refused(max_norm):
    with pytest.raises(ValueError, match="clip_gradients: max_norm must be finite and above 0, g"):
        clip_gradients(of([1.0]), max_norm)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ([], ValueError, "parameters must be at least one, each once, got 0 with 0 distinct"),
        (of([1.0]) * 2, ValueError, "parameters must be at least one, each once, got 2 with 1"),
        (of([1.0])[0], TypeError, "parameters must be a list of Parameter, got Parameter; pass"),
        ([np.ones(2)], TypeError, "parameters must be a list of Parameter, got ndarray; pass"),
    ],
)
def test_clip_gradients_rejects_what_is_no_list_of_parameters(parameters, error, message):
    with pytest.raises(error, match=f"clip_gradients: {message}"):
        clip_gradients(parameters, 1.0)


# --- PyTorch's -------------------------------------------------------------------------------


def test_clipping_is_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=n) for n in (5, 7)]
    theirs = [torch.zeros(len(g), dtype=torch.float64, requires_grad=True) for g in grads]
    for tensor, grad in zip(theirs, grads, strict=True):
        tensor.grad = torch.tensor(grad)
    ours = of(*grads)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5).item()
    assert clip_gradients(ours, 0.5) == pytest.approx(norm, rel=1e-14)
    for mine, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad, tensor.grad.numpy(), rtol=1e-5)  # they add 1e-6
