"""A convolution as one matrix product: lay out every patch of the images as a column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, check_count, xp_of
from refimpl.kernels.vectors import aligned_rows


def im2col(
    images: np.ndarray, kernel_shape: tuple[int, int], *, stride: int = 1, padding: int = 0
) -> np.ndarray:
    """Copy each patch that a convolution's kernel meets into a column of its own.

    Parameters
    ----------
    images : ndarray of float, shape (batch, channels, height, width)
        Any memory layout.
    kernel_shape : tuple of int
        ``(kh, kw)``, height and width of a patch, each at least 1.
    stride : int
        Pixels from one patch to the next, in both directions, at least 1.
    padding : int
        Rows and columns of zeros around each image, on every side, at least 0.

    Returns
    -------
    ndarray, shape (channels * kh * kw, batch * h_out * w_out)
        New and C-contiguous, beginning on a cache line. ``h_out, w_out`` are those of
        `patch_grid`; row ``(c * kh + i) * kw + j`` holds pixel (i, j) of channel c of every
        patch, column ``(b * h_out + p) * w_out + q`` the patch at (p, q) of image b.

    Raises
    ------
    TypeError, ValueError
        If `images` is no batch of images, a number is out of range, or the kernel is larger
        than a padded image.

    Notes
    -----
    A convolution, in the sense of neural networks a cross-correlation,

    ``y[b, o, p, q] = sum_cij w[o, c, i, j] * x[b, c, p * stride + i, q * stride + j]``,

    is then the product of the weight as (c_out, channels * kh * kw) with these columns. It
    costs memory: at stride 1 each pixel is stored about ``kh * kw`` times.

    References
    ----------
    Chellapilla, Puri and Simard, "High performance convolutional neural networks for document
    processing", IWFHR 2006: "unrolling convolution".

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> im2col(image, (2, 2))
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    check_array("im2col", "images", images, ndim=4, dtypes=FLOAT_DTYPES)
    h_out, w_out = patch_grid(images.shape[2:], kernel_shape, stride=stride, padding=padding)
    batch, channels = images.shape[:2]
    kh, kw = kernel_shape
    columns = _room(channels * kh * kw, batch * h_out * w_out, images)
    patches = columns.reshape(channels, kh, kw, batch, h_out, w_out)
    for i, j, pixels in pixels_of_patches(
        framed(images, padding), (kh, kw), (h_out, w_out), stride
    ):
        patches[:, i, j] = pixels.swapaxes(0, 1)
    return columns


def col2im(
    columns: np.ndarray,
    image_shape: tuple[int, int, int, int],
    kernel_shape: tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
) -> np.ndarray:
    """Add every patch back to the pixels that it was copied from: the adjoint of `im2col`.

    Parameters
    ----------
    columns : ndarray of float, shape (channels * kh * kw, batch * h_out * w_out)
        As `im2col` orders them; in a backward pass, the gradient at its result.
    image_shape : tuple of int
        ``(batch, channels, height, width)`` of the images.
    kernel_shape, stride, padding
        As for `im2col`.

    Returns
    -------
    ndarray, shape `image_shape`
        New. A pixel that several patches share gets the sum; what fell on the padding is gone.

    Raises
    ------
    TypeError, ValueError
        As for `im2col`, or if `columns` has another shape.

    Notes
    -----
    `im2col` is linear, and this is its transpose: ``<im2col(x), y> == <x, col2im(y)>`` for all
    x and y. It is not the inverse, unless patches neither overlap nor leave gaps.

    Examples
    --------
    >>> import numpy as np
    >>> columns = np.ones((4, 4))
    >>> col2im(columns, (1, 1, 3, 3), (2, 2))  # how many patches hold each pixel
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    batch, channels, height, width = _checked_image_shape(image_shape)
    kh, kw = _checked_kernel_shape("col2im", kernel_shape)
    h_out, w_out = patch_grid((height, width), (kh, kw), stride=stride, padding=padding)
    shape = (channels * kh * kw, batch * h_out * w_out)
    check_array("col2im", "columns", columns, shape=shape, dtypes=FLOAT_DTYPES)
    patches = columns.reshape(channels, kh, kw, batch, h_out, w_out)
    room = (batch, channels, height + 2 * padding, width + 2 * padding)
    padded = xp_of(columns).zeros(room, columns.dtype)
    for i, j, pixels in pixels_of_patches(padded, (kh, kw), (h_out, w_out), stride):
        pixels += patches[:, i, j].swapaxes(0, 1)  # no two of these are the same pixel
    images = padded[:, :, padding : padding + height, padding : padding + width]
    return xp_of(images).ascontiguousarray(images)


def pixels_of_patches(
    images: np.ndarray, kernel_shape: tuple[int, int], grid: tuple[int, int], stride: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Go through the pixels of a patch; show each of them in all patches at once.

    Parameters
    ----------
    images : ndarray, shape (batch, channels, height, width)
        Padded already.
    kernel_shape : tuple of int
        ``(kh, kw)``.
    grid : tuple of int
        ``(h_out, w_out)``, from `patch_grid`.
    stride : int
        As for `im2col`.

    Yields
    ------
    i, j : int
        Which pixel of a patch, row by row.
    pixels : ndarray, shape (batch, channels, h_out, w_out)
        That pixel of every patch: a view, in which no pixel of an image appears twice.
    """
    for i in range(kernel_shape[0]):
        for j in range(kernel_shape[1]):
            rows = slice(i, i + grid[0] * stride, stride)
            columns = slice(j, j + grid[1] * stride, stride)
            yield i, j, images[:, :, rows, columns]


def framed(images: np.ndarray, padding: int) -> np.ndarray:
    """Put rows and columns of zeros around each image.

    Parameters
    ----------
    images : ndarray, shape (batch, channels, height, width)
        NumPy or CuPy.
    padding : int
        How many, on every side.

    Returns
    -------
    ndarray, shape (batch, channels, height + 2 * padding, width + 2 * padding)
        New, or `images` itself if there is no padding.
    """
    if not padding:
        return images
    frame = (padding, padding)
    return xp_of(images).pad(images, ((0, 0), (0, 0), frame, frame))


def patch_grid(
    image_shape: tuple[int, int],
    kernel_shape: tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
) -> tuple[int, int]:
    """Count the patches that fit below each other and side by side.

    Parameters
    ----------
    image_shape : tuple of int
        ``(height, width)``.
    kernel_shape, stride, padding
        As for `im2col`.

    Returns
    -------
    tuple of int
        ``(h_out, w_out)``: ``(height + 2 * padding - kh) // stride + 1``, and so for the width.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or the kernel is larger than the padded image.

    Examples
    --------
    >>> patch_grid((28, 28), (5, 5)), patch_grid((7, 7), (3, 3), stride=2, padding=1)
    ((24, 24), (4, 4))
    """
    where = "patch_grid"
    kernel_shape = _checked_kernel_shape(where, kernel_shape)
    check_count(where, "stride", stride, 1)
    check_count(where, "padding", padding, 0)
    spare = [size + 2 * padding - k for size, k in zip(image_shape, kernel_shape, strict=True)]
    if min(spare) < 0:
        requirement = f"fit into images of {image_shape} with a padding of {padding}"
        advice = "pad the images or take a smaller kernel"
        raise bad_argument(where, "kernel_shape", requirement, kernel_shape, advice)
    return spare[0] // stride + 1, spare[1] // stride + 1


def as_kernel_shape(where: str, kernel_shape: Any) -> tuple[int, int]:
    """Give a kernel's height and width, where one number may stand for both.

    Parameters
    ----------
    where : str
        Named in the error.
    kernel_shape : int or tuple of int
        At least 1 each.

    Returns
    -------
    tuple of int
        ``(kh, kw)``.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    if isinstance(kernel_shape, int | np.integer) and not isinstance(kernel_shape, bool):
        kernel_shape = (kernel_shape, kernel_shape)
    return _checked_kernel_shape(where, kernel_shape)


def _room(n_rows: int, n_columns: int, like: np.ndarray) -> np.ndarray:
    """An array to write to; on the CPU it begins on a cache line."""
    if isinstance(like, np.ndarray):
        return aligned_rows(n_rows, n_columns, like)
    return xp_of(like).empty((n_rows, n_columns), like.dtype)


def _checked_kernel_shape(where: str, kernel_shape: Any) -> tuple[int, int]:
    """Give the shape as two Python integers."""
    if not isinstance(kernel_shape, tuple) or len(kernel_shape) != 2:
        actual, advice = repr(kernel_shape), "give (height, width)"
        raise bad_argument(
            where, "kernel_shape", "be a tuple of two", actual, advice, kind=TypeError
        )
    for size in kernel_shape:
        check_count(where, "kernel_shape", size, 1)
    return int(kernel_shape[0]), int(kernel_shape[1])


def _checked_image_shape(image_shape: Any) -> tuple[int, int, int, int]:
    if not isinstance(image_shape, tuple) or len(image_shape) != 4:
        actual, advice = repr(image_shape), "give (batch, channels, height, width)"
        raise bad_argument(
            "col2im", "image_shape", "be a tuple of four", actual, advice, kind=TypeError
        )
    for size in image_shape:
        check_count("col2im", "image_shape", size, 0)
    return image_shape
