"""A sparse linear layer is the dense one, with the zeros left out."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.formats import COO, CSR
from refimpl.kernels import dispatch
from refimpl.nn import SGD, Network, Parameter, ReLU, SparseLinear, check_gradients
from support.tolerance import assert_product_close

W = np.array([[3, 0, 0, -1], [0, 0, 2, 0], [0, 0, 0, 0]], np.float64)
B = np.array([0.5, 0.0, -1.0])
X = np.array([[1, 2, 3, 4], [-1, 0, 1, 0]], np.float64)
DY = np.array([[10, 1, 7], [0, -1, 7]], np.float64)


def layer_of(w=W, b=B):
    return SparseLinear(CSR.from_dense(w), None if b is None else Parameter(b))


def random_layer(rng, n_in=11, n_out=7, dtype=np.float64):
    w = np.where(rng.random((n_out, n_in)) < 0.3, rng.standard_normal((n_out, n_in)), 0)
    return w.astype(dtype), layer_of(w.astype(dtype), rng.standard_normal(n_out).astype(dtype))


def test_forward_by_hand():
    np.testing.assert_array_equal(layer_of().forward(X), [[-0.5, 6, -1], [-2.5, 2, -1]])


def test_backward_by_hand():
    layer = layer_of()
    layer.forward(X)
    np.testing.assert_array_equal(layer.backward(DY), [[30, 0, 2, -10], [0, 0, -2, 0]])
    np.testing.assert_array_equal(layer.bias.grad, [10, 0, 14])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_forward_and_backward_match_the_dense_products(dtype, batch):
    rng = np.random.default_rng(batch)
    w, layer = random_layer(rng, dtype=dtype)
    layer.bias.value = np.zeros(7, dtype)
    x, dy = (rng.standard_normal((batch, n)).astype(dtype) for n in (11, 7))
    y = layer.forward(x)
    assert y.dtype == dtype
    assert_product_close(y.T, w, x.T)
    assert_product_close(layer.backward(dy).T, w.T, dy.T)


@pytest.mark.parametrize("bias", [B, None])
def test_gradients_match_finite_differences(bias):
    rng = np.random.default_rng(0)
    errors = check_gradients(layer_of(b=bias), rng.standard_normal((5, 4)), rng=rng)
    assert set(errors) == ({"x"} if bias is None else {"x", "bias"})


def central_difference(f, x, step=1e-6):
    """Slope of the scalar f along each entry of x."""
    slopes = np.empty_like(x)
    for index in np.ndindex(x.shape):
        bump = np.zeros_like(x)
        bump[index] = step
        slopes[index] = (f(x + bump) - f(x - bump)) / (2 * step)
    return slopes


def test_input_gradient_matches_central_differences_entry_by_entry():
    rng = np.random.default_rng(1)
    _, layer = random_layer(rng)
    x, dy = rng.standard_normal((2, 11)), rng.standard_normal((2, 7))
    slopes = central_difference(lambda x: float((dy * layer.forward(x)).sum()), x)
    np.testing.assert_allclose(layer.backward(dy), slopes, rtol=0, atol=1e-7)


def test_backward_twice_overwrites_the_bias_gradient():
    layer = layer_of()
    layer.forward(X)
    layer.backward(DY)
    layer.backward(DY)
    np.testing.assert_array_equal(layer.bias.grad, [10, 0, 14])


def test_only_the_bias_is_a_parameter():
    network = Network({"fc1": layer_of()})
    assert list(network.named_parameters()) == ["fc1.bias"]
    assert network.weights() == {}
    assert layer_of(b=None).parameters() == []


def test_training_moves_the_bias_and_not_the_weight():
    layer = layer_of()
    optimizer = SGD(layer.parameters(), lr=0.1)
    layer.forward(X)
    layer.backward(DY)
    optimizer.step()
    np.testing.assert_allclose(layer.bias.value, [-0.5, 0, -2.4], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(layer.weight.to_dense(), W)


def test_forward_multiplies_through_the_kernel_table(monkeypatch):
    monkeypatch.setattr(dispatch, "KERNELS", ())
    monkeypatch.setattr(CSR, "matmul", lambda _, x: np.full((3, x.shape[1]), 42.0))
    np.testing.assert_array_equal(layer_of(b=None).forward(X), np.full((2, 3), 42.0))


def test_transposed_weight_is_built_by_the_first_backward_only(monkeypatch):
    calls, transpose = [], CSR.transpose
    monkeypatch.setattr(CSR, "transpose", lambda self: calls.append(1) or transpose(self))
    layer = layer_of()
    layer.forward(X)
    assert calls == []
    layer.backward(DY)
    layer.backward(DY)
    assert calls == [1]


def test_weight_cannot_be_replaced_under_its_transpose():
    with pytest.raises(AttributeError, match="weight"):
        layer_of().weight = CSR.from_dense(2 * W)


def test_output_lies_in_memory_as_the_next_sparse_layer_reads_it():
    y = ReLU().forward(layer_of().forward(X))
    assert y.T.flags.c_contiguous


def test_forward_leaves_its_input_as_it_was():
    x = X.copy()
    layer_of().forward(x)
    np.testing.assert_array_equal(x, X)


def test_repr_says_what_is_stored():
    assert repr(layer_of()) == "SparseLinear(n_in=4, n_out=3, nnz=3)"


@pytest.mark.parametrize(
    ("weight", "bias", "error", "message"),
    [
        (W, None, TypeError, "weight must be a CSR, got ndarray; convert it"),
        (COO.from_dense(W), None, TypeError, "weight must be a CSR, got COO"),
        (CSR.from_dense(W), B, TypeError, "bias must be a Parameter or None, got ndarray"),
        (CSR.from_dense(W), Parameter(B[:2]), ValueError, r"bias.value must have shape \(3,\)"),
        (
            CSR.from_dense(W),
            Parameter(B.astype(np.float32)),
            TypeError,
            "bias.value must be float64, got float32",
        ),
    ],
)
def test_construction_refuses_what_does_not_fit(weight, bias, error, message):
    with pytest.raises(error, match=rf"^SparseLinear: {message}"):
        SparseLinear(weight, bias)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[0], ValueError, r"x must have 2 axes, got shape \(4,\)"),
        (X.T, ValueError, r"x must have shape \(any, 4\), got \(4, 2\)"),
        (X.astype(np.float32), TypeError, "x must be float64, got float32"),
    ],
)
def test_forward_refuses_what_does_not_fit(x, error, message):
    with pytest.raises(error, match=rf"^SparseLinear\.forward: {message}"):
        layer_of().forward(x)


def test_backward_refuses_a_gradient_of_another_shape():
    layer = layer_of()
    layer.forward(X)
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3\), got \(2, 4\)"):
        layer.backward(X)


def test_backward_before_forward_is_refused():
    with pytest.raises(RuntimeError, match=r"SparseLinear\.backward: forward\(x\) must run first"):
        layer_of().backward(DY)
