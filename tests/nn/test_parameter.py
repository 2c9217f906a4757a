"""A parameter owns its mask: a pruned value is +0.0, whatever happens."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import Buffer, Parameter
from support.strategies import FLOATS, layouts

ANY_SHAPE = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def any_array(dtype: type, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Every float there is: NaN, infinities, -0.0 and subnormals too."""
    return hnp.arrays(dtype, shape, elements=st.floats(width=8 * np.dtype(dtype).itemsize))


@st.composite
def values_and_masks(draw, *, n_values: int = 1) -> tuple[np.ndarray, ...]:
    dtype, shape = draw(st.sampled_from(FLOATS)), draw(ANY_SHAPE)
    arrays = [draw(layouts(draw(any_array(dtype, shape)))) for _ in range(n_values)]
    return *arrays, draw(layouts(draw(hnp.arrays(np.bool_, shape))))


def assert_pruned_exactly(value: np.ndarray, original: np.ndarray, mask: np.ndarray) -> None:
    """Kept places hold the original's bits, the others +0.0."""
    assert not value[~mask].any()
    assert not np.signbit(value[~mask]).any()
    assert value[mask].tobytes() == original[mask].tobytes()


def masked_parameter() -> Parameter:
    parameter = Parameter(np.array([1.0, -2.0, 3.0]))
    parameter.mask = np.array([True, False, True])
    return parameter


# --- the checker -----------------------------------------------------------------------------


@pytest.mark.parametrize("planted", [[1.0, -0.0], [1.0, np.nan], [1.5, 0.0], [1.0, 2.0]])
def test_pruning_checker_rejects_a_planted_error(planted):
    original, mask = np.array([1.0, 2.0]), np.array([True, False])
    with pytest.raises(AssertionError):
        assert_pruned_exactly(np.array(planted), original, mask)


# --- the mask --------------------------------------------------------------------------------


@given(values_and_masks())
def test_parameter_mask_zeroes_pruned_values_at_once(case):
    value, mask = case
    parameter = Parameter(value)
    parameter.mask = mask
    assert_pruned_exactly(parameter.value, value, mask)


@given(values_and_masks(n_values=2))
def test_parameter_assignment_applies_the_mask(case):
    value, new, mask = case
    parameter = Parameter(value)
    parameter.mask = mask
    parameter.value = new
    assert_pruned_exactly(parameter.value, new, mask)


@given(values_and_masks(n_values=2))
def test_parameter_enforce_mask_undoes_a_write_into_the_array(case):
    value, new, mask = case
    parameter = Parameter(value)
    parameter.mask = mask
    parameter.value[...] = new
    parameter.enforce_mask()
    assert_pruned_exactly(parameter.value, new, mask)


def test_parameter_update_in_place_applies_the_mask():
    parameter = masked_parameter()
    parameter.value -= 0.5
    np.testing.assert_array_equal(parameter.value, [0.5, 0.0, 2.5])


@pytest.mark.parametrize("pruned", [-2.0, -0.0, np.nan, np.inf, -np.inf])
def test_parameter_pruned_value_is_positive_zero(pruned):
    parameter = Parameter(np.array([pruned]))
    parameter.mask = np.array([False])
    assert parameter.value.tobytes() == np.array([0.0]).tobytes()


def test_parameter_keeps_negative_zero_where_the_mask_keeps():
    parameter = Parameter(np.array([-0.0]))
    parameter.mask = np.array([True])
    assert np.signbit(parameter.value[0])


def test_parameter_starts_without_mask():
    assert Parameter(np.ones(2)).mask is None


def test_parameter_mask_is_copied():
    mask = np.array([True, False])
    parameter = Parameter(np.ones(2))
    parameter.mask = mask
    mask[:] = False
    np.testing.assert_array_equal(parameter.mask, [True, False])


def test_parameter_mask_cannot_be_written_into():
    with pytest.raises(ValueError, match="read-only"):
        masked_parameter().mask[1] = True


def test_parameter_lifting_the_mask_leaves_the_values():
    parameter = masked_parameter()
    parameter.mask = None
    assert parameter.mask is None
    np.testing.assert_array_equal(parameter.value, [1.0, 0.0, 3.0])


def test_parameter_without_its_mask_may_take_any_value():
    parameter = masked_parameter()
    parameter.mask = None
    parameter.value = np.array([4.0, 5.0, 6.0])
    np.testing.assert_array_equal(parameter.value, [4.0, 5.0, 6.0])


def test_parameter_regrown_weight_starts_at_zero():
    parameter = masked_parameter()
    parameter.mask = np.array([False, True, True])
    np.testing.assert_array_equal(parameter.value, [0.0, 0.0, 3.0])


# --- the value -------------------------------------------------------------------------------


def test_parameter_copies_its_first_value():
    value = np.ones(3)
    parameter = Parameter(value)
    value[:] = 7
    np.testing.assert_array_equal(parameter.value, [1, 1, 1])


def test_parameter_copies_an_assigned_value():
    parameter, value = Parameter(np.zeros(3)), np.ones(3)
    parameter.value = value
    value[:] = 7
    np.testing.assert_array_equal(parameter.value, [1, 1, 1])


def test_parameter_assignment_keeps_the_same_array():
    parameter = Parameter(np.zeros(3))
    held = parameter.value
    parameter.value = np.ones(3)
    assert parameter.value is held


def test_parameter_accepts_its_own_value_reversed():
    parameter = Parameter(np.array([1.0, 2.0, 3.0]))
    parameter.value = parameter.value[::-1]
    np.testing.assert_array_equal(parameter.value, [3.0, 2.0, 1.0])


@given(values_and_masks())
def test_parameter_says_shape_dtype_and_size_of_its_value(case):
    value, _ = case
    parameter = Parameter(value)
    described = parameter.shape, parameter.dtype, parameter.size
    assert described == (value.shape, value.dtype, value.size)


def test_parameter_may_hold_a_single_number():
    parameter = Parameter(np.array(-2.0))
    parameter.mask = np.array(False)
    parameter.value -= 1
    assert parameter.value.tobytes() == np.array(0.0).tobytes()


def test_parameter_deep_copy_is_independent_and_still_masked():
    parameter = masked_parameter()
    twin = copy.deepcopy(parameter)
    twin.value = np.array([7.0, 8.0, 9.0])
    np.testing.assert_array_equal(twin.value, [7.0, 0.0, 9.0])
    np.testing.assert_array_equal(parameter.value, [1.0, 0.0, 3.0])


# --- the gradient ----------------------------------------------------------------------------


def test_parameter_starts_without_gradient():
    assert Parameter(np.ones(2)).grad is None


def test_parameter_gradient_is_dense_under_a_mask():
    parameter = masked_parameter()
    parameter.grad = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(parameter.grad, [1.0, 2.0, 3.0])


def test_parameter_gradient_is_kept_without_a_copy():
    parameter, grad = Parameter(np.ones(2)), np.ones(2)
    parameter.grad = grad
    assert parameter.grad is grad


def test_parameter_gradient_can_be_taken_away():
    parameter = Parameter(np.ones(2))
    parameter.grad = np.ones(2)
    parameter.grad = None
    assert parameter.grad is None


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, 2.0], "Parameter: value must be an array, got list"),
        (1.0, "Parameter: value must be an array, got float"),
        (np.arange(3), "value must be float16 or float32 or float64, got int64"),
        (np.array([True]), "value must be .* got bool; convert it with .astype"),
    ],
    ids=["list", "number", "int", "bool"],
)
def test_parameter_rejects_what_is_no_float_array(value, message):
    with pytest.raises(TypeError, match=message):
        Parameter(value)


WRONG_ARRAYS = pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.ones(2), ValueError, r"must have shape \(3,\), got \(2,\)"),
        (np.ones((1, 3)), ValueError, r"must have shape \(3,\), got \(1, 3\)"),
        (np.float64(1.0), TypeError, "must be an array, got float64"),
        (np.ones(3, np.float32), TypeError, "must be float64, got float32"),
        (np.ones(3, int), TypeError, "must be float64, got int64"),
    ],
    ids=["short", "broadcastable", "scalar", "float32", "int"],
)


@WRONG_ARRAYS
def test_parameter_rejects_a_value_that_does_not_fit(array, error, message):
    parameter = masked_parameter()
    with pytest.raises(error, match=f"Parameter.value: value {message}"):
        parameter.value = array
    np.testing.assert_array_equal(parameter.value, [1.0, 0.0, 3.0])


@WRONG_ARRAYS
def test_parameter_rejects_a_gradient_that_does_not_fit(array, error, message):
    with pytest.raises(error, match=f"Parameter.grad: grad {message}"):
        masked_parameter().grad = array


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.array([True, False]), ValueError, r"must have shape \(3,\), got \(2,\)"),
        (np.array([1, 0, 1]), TypeError, "must be bool, got int64; convert it with .astype"),
        (np.ones(3), TypeError, "must be bool, got float64"),
        ([True, False, True], TypeError, "must be an array, got list"),
    ],
    ids=["shape", "int", "float", "list"],
)
def test_parameter_rejects_a_mask_that_does_not_fit(mask, error, message):
    parameter = masked_parameter()
    with pytest.raises(error, match=f"Parameter.mask: mask {message}"):
        parameter.mask = mask
    np.testing.assert_array_equal(parameter.mask, [True, False, True])


def test_parameter_shape_cannot_be_assigned():
    with pytest.raises(AttributeError, match="shape"):
        Parameter(np.ones(2)).shape = (1, 2)


# --- what it prints --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (Parameter(np.ones((2, 3), np.float32)), "Parameter(shape=(2, 3), dtype=float32)"),
        (masked_parameter(), "Parameter(shape=(3,), dtype=float64, kept=2 of 3)"),
    ],
    ids=["dense", "masked"],
)
def test_parameter_repr_says_how_much_is_kept(parameter, text):
    assert repr(parameter) == text


# --- buffers ---------------------------------------------------------------------------------


def test_buffer_copies_its_first_value():
    value = np.ones(3)
    buffer = Buffer(value)
    value[0] = 7
    np.testing.assert_array_equal(buffer.value, [1, 1, 1])


def test_buffer_assignment_copies_into_the_same_array():
    buffer, new = Buffer(np.ones(3)), np.arange(3.0)
    held = buffer.value
    buffer.value = new
    new[0] = 7
    assert buffer.value is held
    np.testing.assert_array_equal(held, [0, 1, 2])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(4), ValueError, r"value must have shape \(3,\), got \(4,\)"),
        (np.ones(3, np.float32), TypeError, "value must be float64, got float32"),
        (1.0, TypeError, "value must be an array, got float"),
    ],
)
def test_buffer_rejects_a_value_that_does_not_fit(value, error, message):
    buffer = Buffer(np.zeros(3))
    with pytest.raises(error, match=f"Buffer.value: {message}"):
        buffer.value = value
    assert not buffer.value.any()


def test_buffer_rejects_integers():
    with pytest.raises(TypeError, match="Buffer: value must be float16 or float32 or float64, got"):
        Buffer(np.ones(3, int))


def test_buffer_repr_says_shape_and_dtype():
    assert repr(Buffer(np.zeros((2, 3), np.float32))) == "Buffer(shape=(2, 3), dtype=float32)"
