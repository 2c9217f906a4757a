"""Arrays between guards: who reads past their ends reads nonsense, and who writes there is seen."""

from __future__ import annotations

import numpy as np

GUARD = 256  # entries on either side of an array; four panels of registers


def guarded(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same entries between guards, and all of that memory."""
    room = np.full(array.size + 2 * GUARD, nonsense(array.dtype), array.dtype)
    between = room[GUARD : GUARD + array.size].reshape(array.shape)
    between[...] = array
    return between, room


def nonsense(dtype: np.dtype) -> float | int | bool:
    """What no result can be made of unseen: NaN, the largest integer, True."""
    return np.nan if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


def assert_guards_hold(room: np.ndarray) -> None:
    """Nothing was written on either side."""
    expected = np.full(GUARD, nonsense(room.dtype), room.dtype)
    np.testing.assert_array_equal(room[:GUARD], expected, "written before the array")
    np.testing.assert_array_equal(room[-GUARD:], expected, "written behind the array")
