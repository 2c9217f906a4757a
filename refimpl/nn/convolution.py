"""Convolution: the same small weights at every place of an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count, check_rng, xp_of
from refimpl.kernels import layer_kernels, numba_convolution
from refimpl.nn.depthwise import (
    depthwise_convolve,
    depthwise_image_gradient,
    depthwise_weight_gradient,
)
from refimpl.nn.layer import WeightedLayer, check_dy, check_forward_ran, check_training_dtype
from refimpl.nn.lowering import as_kernel_shape, col2im, im2col, patch_grid
from refimpl.nn.parameter import Parameter


def convolve(
    images: np.ndarray,
    weight: np.ndarray,
    stride: int,
    padding: int,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """Slide kernels over images: one matrix product of the kernels with every patch.

    Parameters
    ----------
    images : ndarray of float, shape (batch, c_in, height, width)
        NumPy or CuPy.
    weight : ndarray of the same dtype, shape (c_out, c_in, kh, kw)
        One kernel for each output channel.
    stride, padding : int
        As for `im2col`.
    bias : ndarray, shape (c_out,), optional
        One number for each output channel, which is added.

    Returns
    -------
    ndarray, shape (batch, c_out, h_out, w_out)
        New: ``y[b, o, p, q] = sum_cij w[o, c, i, j] x[b, c, p * stride + i, q * stride + j]``
        with the padded images x; what the signal processors call a cross-correlation.

    Notes
    -----
    ``2 * c_out * c_in * kh * kw`` FLOPs for each of the ``batch * h_out * w_out`` patches.
    """
    c_out, _, kh, kw = weight.shape
    columns = im2col(images, (kh, kw), stride=stride, padding=padding)
    grid = patch_grid(images.shape[2:], (kh, kw), stride=stride, padding=padding)
    y = weight.reshape(c_out, -1) @ columns  # (c_out, batch * h_out * w_out)
    if bias is not None:
        y += bias[:, None]
    return xp_of(y).ascontiguousarray(y.reshape(c_out, len(images), *grid).swapaxes(0, 1))


def convolution_weight_gradient(
    dy: np.ndarray, images: np.ndarray, kernel_shape: tuple[int, int], stride: int, padding: int
) -> np.ndarray:
    """Sum what every patch adds to the gradient of the kernels.

    Parameters
    ----------
    dy : ndarray of float, shape (batch, c_out, h_out, w_out)
        Gradient at the result of `convolve`.
    images : ndarray, shape (batch, c_in, height, width)
        What was convolved.
    kernel_shape : tuple of int
        ``(kh, kw)``.
    stride, padding : int
        As for `convolve`.

    Returns
    -------
    ndarray, shape (c_out, c_in, kh, kw)
        New: with all of `dy` as a matrix of (c_out, patches), that matrix times the transposed
        columns of `im2col`.
    """
    columns = im2col(images, kernel_shape, stride=stride, padding=padding)
    gradient = _by_channel(dy) @ columns.T  # (c_out, c_in * kh * kw)
    return gradient.reshape(dy.shape[1], images.shape[1], *kernel_shape)


def convolution_image_gradient(
    dy: np.ndarray,
    weight: np.ndarray,
    image_shape: tuple[int, int, int, int],
    stride: int,
    padding: int,
) -> np.ndarray:
    """Send the gradient of every patch back to the pixels that it was copied from.

    Parameters
    ----------
    dy : ndarray of float, shape (batch, c_out, h_out, w_out)
        Gradient at the result of `convolve`.
    weight : ndarray, shape (c_out, c_in, kh, kw)
        The kernels.
    image_shape : tuple of int
        ``(batch, c_in, height, width)``.
    stride, padding : int
        As for `convolve`.

    Returns
    -------
    ndarray, shape `image_shape`
        New: the transposed kernels times `dy`, summed by `col2im`.
    """
    kernel_shape = weight.shape[2:]
    columns = weight.reshape(len(weight), -1).T @ _by_channel(dy)
    return col2im(columns, image_shape, kernel_shape, stride=stride, padding=padding)


class Conv2d(WeightedLayer):
    """Slide kernels over images and add a bias to each output channel.

    Parameters
    ----------
    c_in, c_out : int
        Channels that come in and go out, at least 1.
    kernel_shape : int or tuple of int
        ``(kh, kw)``, or one number for both.
    stride : int
        Pixels from one patch to the next, in both directions, at least 1.
    padding : int
        Rows and columns of zeros on every side of an image, at least 0.
    groups : int
        1, or `c_in` for a depthwise convolution: kernel o then sees input channel o only, and
        `c_out` must be `c_in`.
    rng : numpy.random.Generator
        Draws the weight, in float64, rounded to `dtype`.
    dtype : dtype
        float32, or float64 for gradient checks.
    bias : bool
        Whether there is a bias.

    Attributes
    ----------
    weight : Parameter, shape (c_out, c_in / groups, kh, kw)
        He-normal: mean 0, variance ``2 / (c_in / groups * kh * kw)``.
    bias : Parameter of shape (c_out,), or None
        Zeros.
    stride, padding, groups : int
        As given.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or `groups` is neither 1 nor `c_in`.

    Notes
    -----
    `convolve` and its neighbours define the three products of a training step. On NumPy arrays
    the layer runs their compiled twins in `refimpl.kernels.numba_convolution`.

    Cost: ``2 * weight.size * h_out * w_out`` FLOPs for each image forward, twice that backward.

    References
    ----------
    Initialisation: He et al., 2015, "Delving Deep into Rectifiers", equation 10.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Conv2d(1, 1, (1, 2), rng=np.random.default_rng(0))
    >>> layer.weight.value = np.array([[[[-1.0, 1.0]]]], dtype=np.float32)
    >>> layer.forward(np.array([[[[0.0, 0.0, 5.0, 5.0]]]], dtype=np.float32))
    array([[[[0., 5., 0.]]]], dtype=float32)
    >>> layer.backward(np.ones((1, 1, 1, 3), dtype=np.float32))
    array([[[[-1.,  0.,  0.,  1.]]]], dtype=float32)
    >>> layer.weight.grad
    array([[[[ 5., 10.]]]], dtype=float32)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_shape: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        rng: np.random.Generator,
        dtype: type = np.float32,
        bias: bool = True,
    ) -> None:
        check_count("Conv2d", "c_in", c_in, 1)
        check_count("Conv2d", "c_out", c_out, 1)
        kh, kw = as_kernel_shape("Conv2d", kernel_shape)
        check_count("Conv2d", "stride", stride, 1)
        check_count("Conv2d", "padding", padding, 0)
        _check_groups(groups, c_in, c_out)
        check_rng("Conv2d", rng)
        check_training_dtype("Conv2d", dtype)
        fan_in = c_in // groups * kh * kw
        weight = rng.standard_normal((c_out, c_in // groups, kh, kw)) * math.sqrt(2 / fan_in)
        self.weight = Parameter(weight.astype(dtype))
        self.bias = Parameter(np.zeros(c_out, dtype)) if bias else None
        self.stride, self.padding, self.groups = int(stride), int(padding), int(groups)
        self._x: np.ndarray | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Convolve; `x` has shape (batch, c_in, height, width) and the weight's dtype."""
        weight = self.weight.value
        shape = (-1, weight.shape[1] * self.groups, -1, -1)
        dtypes = (weight.dtype.type,)
        check_array("Conv2d.forward", "x", x, ndim=4, shape=shape, dtypes=dtypes)
        grid = self._grid(x)
        bias = None if self.bias is None else self.bias.value
        self._x = x = xp_of(x, weight).ascontiguousarray(x, dtype=weight.dtype)
        if self.groups > 1:
            y = depthwise_convolve(x, weight, self.stride, self.padding)
            return y if bias is None else y + bias[:, None, None]
        if not layer_kernels.compiled_for(x):
            return convolve(x, weight, self.stride, self.padding, bias)
        y = np.empty((len(x), len(weight), *grid), x.dtype)
        numba_convolution.convolve(x, weight, self.stride, self.padding, bias, y)
        return y

    def input_rows(self) -> np.ndarray:
        """What the weight met in the last `forward`: a new row for each patch of the input.

        Returns
        -------
        ndarray, shape (batch * h_out * w_out, c_in * kh * kw)
            In the order of ``weight.reshape(c_out, -1)``: the layer is the linear layer of that
            matrix, on these rows.

        Raises
        ------
        ValueError
            If the convolution is depthwise: each of its kernels meets rows of its own.
        """
        check_forward_ran("Conv2d", self._x)
        if self.groups > 1:
            advice = "leave this layer out"
            actual = f"groups={self.groups}"
            raise bad_argument("Conv2d.input_rows", "groups", "be 1", actual, advice)
        kernel_shape = self.weight.shape[2:]
        columns = im2col(self._x, kernel_shape, stride=self.stride, padding=self.padding)
        return columns.T

    def backward_parameters(self, dy: np.ndarray) -> None:
        """Leave the gradients of weight and bias."""
        check_forward_ran("Conv2d", self._x)
        x, weight = self._x, self.weight.value
        seen = (-1, weight.shape[1] * self.groups, -1, -1)
        check_array("Conv2d.backward", "x of the last forward", x, shape=seen)
        check_dy("Conv2d", dy, (len(x), len(weight), *self._grid(x)), weight.dtype)
        dy = xp_of(dy, x).ascontiguousarray(dy, dtype=weight.dtype)
        kernel_shape = weight.shape[2:]
        if self.groups > 1:
            dw = depthwise_weight_gradient(dy, x, kernel_shape, self.stride, self.padding)
        elif layer_kernels.compiled_for(dy):
            dw = np.empty_like(weight)
            numba_convolution.convolution_weight_gradient(dy, x, self.stride, self.padding, dw)
        else:
            dw = convolution_weight_gradient(dy, x, kernel_shape, self.stride, self.padding)
        self.weight.grad = dw
        if self.bias is not None:
            self.bias.grad = dy.sum(axis=(0, 2, 3))

    def _input_gradient(self, dy: np.ndarray) -> np.ndarray:
        x, weight = self._x, self.weight.value
        dy = xp_of(dy, x).ascontiguousarray(dy, dtype=weight.dtype)
        if self.groups > 1:
            return depthwise_image_gradient(dy, weight, x.shape, self.stride, self.padding)
        if not layer_kernels.compiled_for(dy):
            return convolution_image_gradient(dy, weight, x.shape, self.stride, self.padding)
        dx = np.empty_like(x)
        numba_convolution.convolution_image_gradient(dy, weight, self.stride, self.padding, dx)
        return dx

    def _grid(self, x: np.ndarray) -> tuple[int, int]:
        kernel_shape = self.weight.shape[2:]
        return patch_grid(x.shape[2:], kernel_shape, stride=self.stride, padding=self.padding)


def _by_channel(dy: np.ndarray) -> np.ndarray:
    """Gradients as a matrix: (batch, c_out, h_out, w_out) to (c_out, batch * h_out * w_out)."""
    return dy.swapaxes(0, 1).reshape(dy.shape[1], -1)


def _check_groups(groups: Any, c_in: int, c_out: int) -> None:
    check_count("Conv2d", "groups", groups, 1)
    if groups not in (1, c_in) or (groups > 1 and c_out != c_in):
        requirement = f"be 1, or c_in = c_out for a depthwise convolution (c_in={c_in})"
        actual, advice = f"groups={groups} with c_out={c_out}", "use groups=1"
        raise bad_argument("Conv2d", "groups", requirement, actual, advice)
