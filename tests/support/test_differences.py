"""Central differences find derivatives, and their comparison rejects wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

from support.differences import (
    assert_gradient_close,
    assert_hessian_close,
    central_differences,
    diagonal_differences,
    second_differences,
)


def sine(x: np.ndarray):
    return lambda: float(np.sin(x).sum())


def test_central_differences_find_the_derivative_of_the_sine():
    x = np.linspace(-2, 2, 6).reshape(2, 3)
    assert_gradient_close(np.cos(x), central_differences(sine(x), x))


def test_central_differences_leave_their_input_as_it_was():
    x = np.linspace(-2, 2, 6)
    before = x.copy()
    central_differences(sine(x), x)
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0, 0.0])
def test_gradient_comparison_rejects_a_wrong_factor(factor):
    x = np.linspace(-2, 2, 6)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_gradient_close(factor * np.cos(x), central_differences(sine(x), x))


def test_gradient_comparison_rejects_one_wrong_entry():
    x = np.linspace(-2, 2, 6)
    wrong = np.cos(x)
    wrong[3] += 1e-4
    with pytest.raises(AssertionError, match="Mismatched elements: 1 / 6"):
        assert_gradient_close(wrong, central_differences(sine(x), x))


def test_gradient_comparison_rejects_single_precision():
    x = np.ones(2)
    with pytest.raises(AssertionError):
        assert_gradient_close(np.cos(x).astype(np.float32), central_differences(sine(x), x))


def wave(x: np.ndarray, y: np.ndarray):
    """The sine of the sum of all entries: minus that sine is every second derivative."""
    return lambda: float(np.sin(x.sum() + y.sum()))


def wave_hessian(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.full((x.size + y.size,) * 2, -np.sin(x.sum() + y.sum()))


def test_second_differences_find_the_hessian_of_a_wave():
    x, y = np.array([[0.1, 0.3]]), np.array([0.5])
    assert_hessian_close(wave_hessian(x, y), second_differences(wave(x, y), [x, y]))


def test_diagonal_differences_find_the_diagonal_of_the_hessian():
    x, y = np.array([[0.1, 0.3]]), np.array([0.5])
    found = diagonal_differences(wave(x, y), [x, y])
    assert_hessian_close(wave_hessian(x, y).diagonal().copy(), found)


def test_second_differences_leave_their_input_as_it_was():
    x, y = np.array([[0.1, 0.3]]), np.array([0.5])
    second_differences(wave(x, y), [x, y])
    assert (x.tolist(), y.tolist()) == ([[0.1, 0.3]], [0.5])


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0, 0.0])
def test_hessian_comparison_rejects_a_wrong_factor(factor):
    x, y = np.array([[0.1, 0.3]]), np.array([0.5])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_hessian_close(factor * wave_hessian(x, y), second_differences(wave(x, y), [x, y]))
