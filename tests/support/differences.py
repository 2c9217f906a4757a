"""The derivative of a function, entry by entry, from nothing but its values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def central_differences(f: Callable[[], float], x: np.ndarray, *, step: float = 1e-5) -> np.ndarray:
    """Gradient of `f` at `x`, which `f` reads and this moves: one entry at a time, and back."""
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        here = x[place]
        x[place] = here + step
        above = f()
        x[place] = here - step
        below = f()
        x[place] = here
        gradient[place] = (above - below) / (2 * step)
    return gradient


def assert_gradient_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Compare with central differences of functions whose values and derivatives are about 1.

    A step of 1e-5 leaves an error of about h**2 = 1e-10 from truncation, and of
    eps / h = 2e-11 from rounding.
    """
    assert actual.dtype == expected.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-8)
