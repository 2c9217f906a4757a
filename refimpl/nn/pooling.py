"""Pooling: one number for each small window of an image, its largest or its mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, check_array, check_count, xp_of
from refimpl.kernels import layer_kernels, numba_pooling
from refimpl.nn.layer import Layer, check_dy, check_forward_ran
from refimpl.nn.lowering import as_kernel_shape, patch_grid, pixels_of_patches


def max_pool(
    images: np.ndarray, kernel_shape: tuple[int, int], stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take the largest pixel of each window, and remember which it was.

    Parameters
    ----------
    images : ndarray of float, shape (batch, channels, height, width)
        NumPy or CuPy.
    kernel_shape : tuple of int
        ``(kh, kw)``, height and width of a window.
    stride : int
        Pixels from one window to the next, in both directions.

    Returns
    -------
    largest : ndarray, shape (batch, channels, h_out, w_out)
        New. A window that holds NaN gives NaN.
    chosen : ndarray of int32, same shape
        ``i * kw + j`` of the pixel (i, j) that was taken: the first of the largest, row by row,
        or the first NaN.
    """
    grid = patch_grid(images.shape[2:], kernel_shape, stride=stride)
    xp = xp_of(images)
    largest = images[:, :, : grid[0] * stride : stride, : grid[1] * stride : stride].copy()
    chosen = xp.zeros(largest.shape, np.int32)
    for i, j, pixels in pixels_of_patches(images, kernel_shape, grid, stride):
        better = (pixels > largest) | (xp.isnan(pixels) & ~xp.isnan(largest))
        xp.copyto(largest, pixels, where=better)
        xp.copyto(chosen, np.int32(i * kernel_shape[1] + j), where=better)
    return largest, chosen


def max_pool_gradient(
    dy: np.ndarray,
    chosen: np.ndarray,
    image_shape: tuple[int, int, int, int],
    kernel_shape: tuple[int, int],
    stride: int,
) -> np.ndarray:
    """Send each window's gradient to the pixel that was its largest.

    Parameters
    ----------
    dy : ndarray of float, shape (batch, channels, h_out, w_out)
        Gradient at the first result of `max_pool`.
    chosen : ndarray of int32, same shape
        The second result of `max_pool`.
    image_shape : tuple of int
        ``(batch, channels, height, width)``.
    kernel_shape, stride
        As for `max_pool`.

    Returns
    -------
    ndarray, shape `image_shape`
        New; a pixel that won several windows gets the sum.
    """
    dx = xp_of(dy).zeros(image_shape, dy.dtype)
    for i, j, pixels in pixels_of_patches(dx, kernel_shape, dy.shape[2:], stride):
        pixels += xp_of(dy).where(chosen == i * kernel_shape[1] + j, dy, dy.dtype.type(0))
    return dx


def average_pool(images: np.ndarray, kernel_shape: tuple[int, int], stride: int) -> np.ndarray:
    """Take the mean of each window.

    Parameters
    ----------
    images, kernel_shape, stride
        As for `max_pool`.

    Returns
    -------
    ndarray, shape (batch, channels, h_out, w_out)
        New.
    """
    grid = patch_grid(images.shape[2:], kernel_shape, stride=stride)
    total = xp_of(images).zeros((*images.shape[:2], *grid), images.dtype)
    for _, _, pixels in pixels_of_patches(images, kernel_shape, grid, stride):
        total += pixels
    total /= kernel_shape[0] * kernel_shape[1]
    return total


def average_pool_gradient(
    dy: np.ndarray,
    image_shape: tuple[int, int, int, int],
    kernel_shape: tuple[int, int],
    stride: int,
) -> np.ndarray:
    """Share each window's gradient out among its pixels.

    Parameters
    ----------
    dy : ndarray of float, shape (batch, channels, h_out, w_out)
        Gradient at the result of `average_pool`.
    image_shape, kernel_shape, stride
        As for `max_pool_gradient`.

    Returns
    -------
    ndarray, shape `image_shape`
        New; a pixel of several windows gets the sum.
    """
    dx = xp_of(dy).zeros(image_shape, dy.dtype)
    share = dy / (kernel_shape[0] * kernel_shape[1])
    for _, _, pixels in pixels_of_patches(dx, kernel_shape, dy.shape[2:], stride):
        pixels += share
    return dx


class _Pooled(NamedTuple):
    """What a forward pass of `MaxPool2d` did: one piece, so that backward never mixes two."""

    image_shape: tuple[int, ...]
    kernel_shape: tuple[int, int]
    stride: int
    chosen: np.ndarray


class MaxPool2d(Layer):
    """Keep the largest pixel of each window.

    Parameters
    ----------
    kernel_shape : int or tuple of int
        ``(kh, kw)`` of a window, or one number for both.
    stride : int, optional
        Pixels from one window to the next; by default the windows' height, so that square
        windows tile the image. Rows and columns that fill no window are left out.

    Notes
    -----
    The gradient of a window goes to its largest pixel, on a tie to the first, row by row.

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaxPool2d(2)
    >>> layer.forward(np.array([[[[1.0, 4.0], [3.0, 2.0]]]]))
    array([[[[4.]]]])
    >>> layer.backward(np.array([[[[5.0]]]]))
    array([[[[0., 5.],
             [0., 0.]]]])
    """

    def __init__(self, kernel_shape: int | tuple[int, int], *, stride: int | None = None) -> None:
        self.kernel_shape, self.stride = _window("MaxPool2d", kernel_shape, stride)
        self._seen: _Pooled | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Pool; `x` has shape (batch, channels, height, width)."""
        check_array("MaxPool2d.forward", "x", x, ndim=4, dtypes=FLOAT_DTYPES)
        window = self.kernel_shape, self.stride
        if layer_kernels.compiled_for(x):
            grid = patch_grid(x.shape[2:], self.kernel_shape, stride=self.stride)
            y = np.empty((*x.shape[:2], *grid), x.dtype)
            chosen = np.empty(y.shape, np.int32)
            numba_pooling.max_pool(np.ascontiguousarray(x), *window, y, chosen)
        else:
            y, chosen = max_pool(x, *window)
        self._seen = _Pooled(x.shape, *window, chosen)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Send each window's gradient to the pixel that was its largest."""
        check_forward_ran("MaxPool2d", self._seen)
        image_shape, kernel_shape, stride, chosen = self._seen
        check_dy("MaxPool2d", dy, chosen.shape)
        if not layer_kernels.compiled_for(dy):
            return max_pool_gradient(dy, chosen, image_shape, kernel_shape, stride)
        dx = np.empty(image_shape, dy.dtype)
        dy = np.ascontiguousarray(dy)
        numba_pooling.max_pool_gradient(dy, chosen, kernel_shape, stride, dx)
        return dx


class AvgPool2d(Layer):
    """Average each window.

    Parameters
    ----------
    kernel_shape : int or tuple of int
        ``(kh, kw)`` of a window, or one number for both.
    stride : int, optional
        As for `MaxPool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(2).forward(np.array([[[[1.0, 4.0], [3.0, 2.0]]]]))
    array([[[[2.5]]]])
    """

    def __init__(self, kernel_shape: int | tuple[int, int], *, stride: int | None = None) -> None:
        self.kernel_shape, self.stride = _window("AvgPool2d", kernel_shape, stride)
        self._image_shape: tuple[int, ...] | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Pool; `x` has shape (batch, channels, height, width)."""
        check_array("AvgPool2d.forward", "x", x, ndim=4, dtypes=FLOAT_DTYPES)
        self._image_shape = x.shape
        return average_pool(x, self.kernel_shape, self.stride)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Share each window's gradient out among its pixels."""
        check_forward_ran("AvgPool2d", self._image_shape)
        grid = patch_grid(self._image_shape[2:], self.kernel_shape, stride=self.stride)
        check_dy("AvgPool2d", dy, (*self._image_shape[:2], *grid))
        return average_pool_gradient(dy, self._image_shape, self.kernel_shape, self.stride)


class GlobalAvgPool2d(Layer):
    """Average each channel over the whole image, to an output of shape ``(batch, channels)``.

    What follows may then be a linear layer whose width does not depend on the image's size.

    Examples
    --------
    >>> import numpy as np
    >>> GlobalAvgPool2d().forward(np.array([[[[1.0, 4.0], [3.0, 2.0]]]]))
    array([[2.5]])
    """

    def __init__(self) -> None:
        self._image_shape: tuple[int, ...] | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Average; `x` has shape (batch, channels, height, width)."""
        check_array("GlobalAvgPool2d.forward", "x", x, ndim=4, dtypes=FLOAT_DTYPES)
        self._image_shape = x.shape
        return x.mean(axis=(2, 3))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Share each channel's gradient out among its pixels."""
        check_forward_ran("GlobalAvgPool2d", self._image_shape)
        check_dy("GlobalAvgPool2d", dy, self._image_shape[:2])
        height, width = self._image_shape[2:]
        share = dy[:, :, None, None] / (height * width)
        return xp_of(dy).broadcast_to(share, self._image_shape).copy()


def _window(where: str, kernel_shape: Any, stride: Any) -> tuple[tuple[int, int], int]:
    kernel_shape = as_kernel_shape(where, kernel_shape)
    if stride is None:
        return kernel_shape, kernel_shape[0]
    check_count(where, "stride", stride, 1)
    return kernel_shape, int(stride)
