"""Updates in one pass by hand; that they are the definition is `test_layer_kernels`."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.kernels.numba_update import adam_update, sgd_update

KEPT = np.array([True, False, True])


def read_only(*arrays):
    for array in arrays:
        array.flags.writeable = False
    return arrays


def ones(dtype=np.float64):
    return np.ones(3, dtype)


def test_sgd_steps_down_the_gradient():
    value = ones()
    sgd_update(np.array([1.0, 2.0, -4.0]), None, 0.5, 0.0, 0.0, value)
    assert value.tolist() == [0.5, 0.0, 3.0]


def test_sgd_with_momentum_and_decay_by_hand():
    value, velocity = np.array([2.0]), np.array([4.0])
    sgd_update(np.array([1.0]), None, 0.25, 0.5, 0.5, value, velocity)
    assert velocity.tolist() == [0.5 * 4 + 1 + 0.5 * 2]
    assert value.tolist() == [2 - 0.25 * 4]


def test_adam_moves_by_the_learning_rate_at_first():
    value, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    adam_update(np.array([-8.0]), None, 0.25, 0.5, 0.75, 1e-30, 0.0, 1, value, m, v)
    assert (value.tolist(), m.tolist(), v.tolist()) == ([1.25], [-4.0], [16.0])


def test_adam_divides_by_zero_without_an_exception():
    value, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    with np.errstate(all="ignore"):
        adam_update(np.zeros(1), None, 0.25, 0.5, 0.75, 0.0, 0.0, 1, value, m, v)
    assert np.isnan(value).all()


def is_positive_zero(number):
    return number == 0 and not np.signbit(number)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -2.0])
def test_a_pruned_weight_and_its_memory_are_positive_zero(dtype, poison):
    grad, value, velocity = ones(dtype), -ones(dtype), -ones(dtype)
    grad[1] = velocity[1] = poison
    sgd_update(grad, KEPT, 0.1, 0.9, 0.1, value, velocity)
    assert all(is_positive_zero(array[1]) for array in (value, velocity))
    assert np.isfinite([value, velocity]).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -2.0])
def test_a_pruned_weight_and_both_its_means_are_positive_zero(poison):
    grad, value, m, v = ones(), -ones(), -ones(), ones()
    grad[1] = m[1] = poison
    with np.errstate(invalid="ignore"):
        adam_update(grad, KEPT, 0.1, 0.9, 0.999, 1e-8, 0.1, 3, value, m, v)
    assert all(is_positive_zero(array[1]) for array in (value, m, v))
    assert np.isfinite([value, m, v]).all()


def test_keeping_every_weight_is_having_no_mask():
    rng = np.random.default_rng(0)
    grad, *start = rng.standard_normal((3, 1000)).astype(np.float32)
    found = []
    for mask in (None, np.ones(1000, bool)):
        state = [array.copy() for array in start]
        sgd_update(grad, mask, 0.1, 0.9, 0.01, *state)
        found.append([array.tobytes() for array in state])
    assert found[0] == found[1]


def test_gradient_and_mask_may_be_read_only():
    grad, mask = read_only(ones(), KEPT.copy())
    value = ones()
    sgd_update(grad, mask, 1.0, 0.0, 0.0, value)
    assert value.tolist() == [0.0, 0.0, 0.0]
