"""A sparse convolution is SciPy's correlation, and its gradients are those of the differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate2d

from refimpl.formats import BSR, COO, CSC, CSR, TwoFour
from refimpl.nn import Parameter, SparseConv2d, SparseLinear, check_gradients

B = np.array([0.5, 0.0, -1.0])
KERNELS = np.random.default_rng(1).standard_normal((3, 2, 2, 3))
KERNELS[np.indices((3, 12)).sum(axis=0).reshape(KERNELS.shape) % 4 > 1] = 0  # 2 of 4 stay
IMAGES = np.random.default_rng(2).standard_normal((4, 2, 5, 6))


FORMS = {
    "COO": COO.from_dense,
    "CSR": CSR.from_dense,
    "CSC": CSC.from_dense,
    "BSR": lambda w: BSR.from_dense(w, block_shape=(3, 2)),
    "TwoFour": TwoFour.from_dense,
}


def conv_of(form=CSR.from_dense, b=B, dtype=np.float64, **geometry):
    weight = form(KERNELS.reshape(3, 12).astype(dtype))
    bias = None if b is None else Parameter(b.astype(dtype))
    return SparseConv2d(weight, bias, kernel_shape=(2, 3), **geometry)


def correlated(images, stride=1, padding=0):
    """The convolution by SciPy, one pair of planes at a time."""
    p = padding
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (p, p), (p, p)))
    planes = [
        sum(correlate2d(image[c], kernel[c], mode="valid") for c in range(2)) + b
        for image in padded
        for kernel, b in zip(KERNELS, B, strict=True)
    ]
    y = np.array(planes).reshape(len(images), 3, *planes[0].shape)
    return y[:, :, ::stride, ::stride]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_convolution_matches_scipy(form, stride, padding):
    y = conv_of(form, stride=stride, padding=padding).forward(IMAGES)
    np.testing.assert_allclose(y, correlated(IMAGES, stride, padding), rtol=0, atol=1e-13)


def test_convolution_in_float32_is_float32():
    y = conv_of(dtype=np.float32).forward(IMAGES.astype(np.float32))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, correlated(IMAGES), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "geometry", [{}, {"stride": 2}, {"padding": 1}, {"stride": 3, "padding": 2}]
)
@pytest.mark.parametrize("bias", [B, None])
def test_convolution_gradients_match_finite_differences(geometry, bias):
    rng = np.random.default_rng(3)
    errors = check_gradients(conv_of(b=bias, **geometry), IMAGES, rng=rng)
    assert set(errors) == ({"x", "values"} if bias is None else {"x", "values", "bias"})


@pytest.mark.parametrize("batch", [0, 1])
def test_convolution_of_small_batches_keeps_its_shapes(batch):
    layer = conv_of()
    assert layer.forward(IMAGES[:batch]).shape == (batch, 3, 4, 4)
    assert layer.backward(np.ones((batch, 3, 4, 4))).shape == (batch, 2, 5, 6)


def test_convolution_of_one_pixel_is_a_linear_layer():
    x = np.random.default_rng(4).standard_normal((6, 12))
    weight = CSR.from_dense(KERNELS.reshape(3, 12))
    y = SparseConv2d(weight, Parameter(B), kernel_shape=(1, 1)).forward(x[:, :, None, None])
    linear = SparseLinear(weight, Parameter(B)).forward(x)
    np.testing.assert_allclose(y[:, :, 0, 0], linear, rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_convolution_with_channels_last_is_the_same_convolution(form):
    swapped = KERNELS.transpose(0, 2, 3, 1).reshape(3, 12)
    weight = form(np.where(np.arange(12) % 4 < 2, swapped, 0))
    last = SparseConv2d(weight, Parameter(B), kernel_shape=(2, 3), channels_last=True)
    first_places = weight.to_dense().reshape(3, 2, 3, 2).transpose(0, 3, 1, 2).reshape(3, 12)
    first = SparseConv2d(CSR.from_dense(first_places), Parameter(B), kernel_shape=(2, 3))
    y = last.forward(IMAGES)
    np.testing.assert_allclose(y, first.forward(IMAGES), rtol=0, atol=1e-13)
    dy = np.random.default_rng(5).standard_normal(y.shape)
    np.testing.assert_allclose(last.backward(dy), first.backward(dy), rtol=0, atol=1e-12)


def test_convolution_with_channels_last_has_the_gradients_of_the_differences():
    rng = np.random.default_rng(3)
    weight = CSR.from_dense(KERNELS.reshape(3, 12))
    layer = SparseConv2d(weight, Parameter(B), kernel_shape=(2, 3), channels_last=True)
    assert set(check_gradients(layer, IMAGES, rng=rng)) == {"x", "values", "bias"}


def test_convolution_gradient_after_training_pass_is_that_after_any_pass():
    layer, dy = conv_of(), np.ones((4, 3, 4, 4))
    layer.forward(IMAGES, training=True)
    dx, dw = layer.backward(dy), layer.values.grad
    layer.forward(IMAGES)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.values.grad, dw)


def test_convolution_says_what_it_is():
    nnz = np.count_nonzero(KERNELS)
    expected = f"SparseConv2d(c_in=2, c_out=3, kernel_shape=(2, 3), nnz={nnz})"
    assert repr(conv_of()) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"kernel_shape": (5, 1)},
            ValueError,
            "SparseConv2d: weight must have a multiple of 5 columns, .*, got 12; reshape",
        ),
        ({"kernel_shape": 3}, TypeError, "kernel_shape must be a tuple of two, got 3"),
        ({"kernel_shape": (2, 3), "stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"kernel_shape": (2, 3), "padding": -1}, ValueError, "padding must be at least 0, got"),
        ({"kernel_shape": (2, 3), "weight": KERNELS}, TypeError, "weight must be a SparseMatrix"),
    ],
)
def test_convolution_refuses_what_does_not_fit(arguments, error, message):
    weight = CSR.from_dense(KERNELS.reshape(3, 12))
    with pytest.raises(error, match=message):
        SparseConv2d(**{"weight": weight, "bias": None, **arguments})


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (IMAGES[0], ValueError, r"forward: x must have 4 axes, got shape \(2, 5, 6\)"),
        (IMAGES[:, :1], ValueError, r"forward: x must have shape \(any, 2, any, any\), got"),
        (IMAGES.astype(np.float32), TypeError, "forward: x must be float64, got float32"),
        (IMAGES[:, :, :1], ValueError, r"kernel_shape must fit into images of \(1, 6\)"),
    ],
)
def test_convolution_refuses_images_that_do_not_fit(images, error, message):
    with pytest.raises(error, match=message):
        conv_of().forward(images)


def test_convolution_refuses_a_gradient_of_another_shape():
    layer = conv_of()
    layer.forward(IMAGES)
    with pytest.raises(
        ValueError, match=r"SparseConv2d\.backward: dy must have shape \(4, 3, 4, 4\)"
    ):
        layer.backward(IMAGES)


def test_convolution_backward_before_forward_is_refused():
    with pytest.raises(RuntimeError, match=r"SparseConv2d\.backward: forward\(x\) must run first"):
        conv_of().backward(IMAGES)
