"""Convolutions and pooling as loops over windows, and images to try them on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st


@st.composite
def geometries(draw, *, most_padding: int = 2):
    """An image shape, and a kernel, stride and padding that fit it."""
    padding, stride = draw(st.integers(0, most_padding)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    batch, channels = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    least = [max(k - 2 * padding, 1) for k in kernel]
    sides = (draw(st.integers(low, low + 4)) for low in least)
    options = {"kernel_shape": kernel, "stride": stride, "padding": padding}
    return (batch, channels, *sides), options


def whole_numbers(shape: tuple[int, ...], dtype: type, rng: np.random.Generator) -> np.ndarray:
    """Floats from -9 to 9 without fractions: sums of their products are exact in any order."""
    return rng.integers(-9, 10, shape).astype(dtype)


def windows(
    shape: tuple[int, int], kernel_shape: tuple[int, int], stride: int
) -> Iterator[tuple[int, int, slice, slice]]:
    """Where each window is: its place in the output, and its rows and columns in the input."""
    (height, width), (kh, kw) = shape, kernel_shape
    for p, top in enumerate(range(0, height - kh + 1, stride)):
        for q, left in enumerate(range(0, width - kw + 1, stride)):
            yield p, q, slice(top, top + kh), slice(left, left + kw)


def padded(images: np.ndarray, padding: int) -> np.ndarray:
    """The images in a frame of zeros."""
    batch, channels, height, width = images.shape
    room = np.zeros((batch, channels, height + 2 * padding, width + 2 * padding), images.dtype)
    room[:, :, padding : padding + height, padding : padding + width] = images
    return room


def convolve_by_loops(
    images: np.ndarray, weight: np.ndarray, *, stride: int = 1, padding: int = 0
) -> np.ndarray:
    """The dot product of each kernel with each patch of each image, one by one."""
    room = padded(images, padding)
    places = list(windows(room.shape[2:], weight.shape[2:], stride))
    p, q = places[-1][:2]
    out = np.empty((len(images), len(weight), p + 1, q + 1), images.dtype)
    for b, o in np.ndindex(out.shape[:2]):
        for p, q, rows, columns in places:
            out[b, o, p, q] = (weight[o] * room[b, :, rows, columns]).sum()
    return out
