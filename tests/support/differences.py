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


def second_differences(
    f: Callable[[], float], arrays: list[np.ndarray], *, step: float = 1e-4
) -> np.ndarray:
    """Hessian of `f` at the entries of `arrays`, end to end, from nothing but values of `f`."""
    places = [(array, place) for array in arrays for place in np.ndindex(array.shape)]
    hessian = np.empty((len(places), len(places)))
    for i, a in enumerate(places):
        for j, b in enumerate(places[: i + 1]):
            corners = [_moved(f, (a, s * step), (b, t * step)) for s in (1, -1) for t in (1, -1)]
            value = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * step**2)
            hessian[i, j] = hessian[j, i] = value
    return hessian


def diagonal_differences(
    f: Callable[[], float], arrays: list[np.ndarray], *, step: float = 2e-4
) -> np.ndarray:
    """Diagonal of `second_differences`, from three values for each entry."""
    places = [(array, place) for array in arrays for place in np.ndindex(array.shape)]
    sides = [_moved(f, (place, step)) + _moved(f, (place, -step)) for place in places]
    return (np.array(sides) - 2 * f()) / step**2


def assert_hessian_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Compare with second differences of functions whose values and derivatives are about 1.

    A step of 1e-4 leaves an error of about h**2 = 1e-8 from truncation, and of
    eps / h**2 = 2e-8 from rounding.
    """
    assert actual.dtype == expected.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=5e-7)


_Place = tuple[np.ndarray, tuple[int, ...]]


def _moved(f: Callable[[], float], *moves: tuple[_Place, float]) -> float:
    """`f` with entries moved, perhaps the same one twice; they are put back."""
    before = [array[place] for (array, place), _ in moves]
    for (array, place), step in moves:
        array[place] += step
    value = f()
    for ((array, place), _), here in zip(moves, before, strict=True):
        array[place] = here
    return value
