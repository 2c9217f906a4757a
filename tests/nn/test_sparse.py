"""A sparse layer is the dense one, with what is not stored left out, in training too."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from refimpl.formats import BSR, COO, CSC, CSR, CodebookCSC, TwoFour
from refimpl.kernels import dispatch
from refimpl.nn import (
    SGD,
    Adam,
    Linear,
    Network,
    Parameter,
    ReLU,
    SparseLinear,
    check_gradients,
    fit,
    mlp,
    softmax_cross_entropy,
)
from support.tolerance import assert_product_close

W = np.array([[3, 0, 0, -1], [0, 0, 2, 0], [0, 0, 0, 0]], np.float64)
B = np.array([0.5, 0.0, -1.0])
X = np.array([[1, 2, 3, 4], [-1, 0, 1, 0]], np.float64)
DY = np.array([[10, 1, 7], [0, -1, 7]], np.float64)

FORMS = {
    "COO": COO.from_dense,
    "CSR": CSR.from_dense,
    "CSC": CSC.from_dense,
    "BSR": lambda w: BSR.from_dense(w, block_shape=(1, 2)),
    "TwoFour": TwoFour.from_dense,
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def layer_of(w=W, b=B, form=CSR.from_dense):
    return SparseLinear(form(w), None if b is None else Parameter(b))


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
    np.testing.assert_array_equal(layer.values.grad, [10, 40, 2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch", [0, 1, 5, 16, 33])
def test_three_products_match_the_dense_ones(dtype, batch):
    rng = np.random.default_rng(batch)
    w, layer = random_layer(rng, dtype=dtype)
    layer.bias.value = np.zeros(7, dtype)
    x, dy = (rng.standard_normal((batch, n)).astype(dtype) for n in (11, 7))
    y, dx = layer.forward(x), layer.backward(dy)
    dw = layer.weight.with_values(layer.values.grad).to_dense()
    assert y.dtype == dx.dtype == dw.dtype == dtype
    assert_product_close(y.T, w, x.T)
    assert_product_close(dx.T, w.T, dy.T)
    outside = w == 0
    dw[outside] = (dy.T.astype(np.float64) @ x.astype(np.float64))[outside]
    assert_product_close(dw, dy.T, x)


@every_form
@pytest.mark.parametrize("bias", [B, None])
def test_gradients_match_finite_differences(form, bias):
    rng = np.random.default_rng(0)
    layer = layer_of(b=bias, form=form)
    errors = check_gradients(layer, rng.standard_normal((5, 4)), rng=rng)
    assert set(errors) == ({"x", "values"} if bias is None else {"x", "values", "bias"})


def test_gradient_check_refuses_a_gradient_at_the_wrong_places(monkeypatch):
    layer = layer_of()
    right = SparseLinear.backward_parameters

    def shifted(self, dy):
        right(self, dy)
        self.values.grad = np.roll(self.values.grad, 1)

    monkeypatch.setattr(SparseLinear, "backward_parameters", shifted)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="the gradient of values must agree with differences"):
        check_gradients(layer, rng.standard_normal((5, 4)), rng=rng)


def test_shared_values_collect_the_gradient_of_all_their_places():
    w = CodebookCSC.from_dense(np.array([[2.0, 0.0], [3.0, 2.0]]))
    layer = SparseLinear(w, None)
    x, dy = np.array([[1.0, 10.0]]), np.array([[1.0, 4.0]])
    layer.forward(x)
    layer.backward(dy)
    gradient = dict(zip(w.codebook.tolist(), layer.values.grad.tolist(), strict=True))
    assert gradient == {2.0: 1 * 1 + 4 * 10, 3.0: 4 * 1}


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


def test_backward_twice_overwrites_the_gradients():
    layer = layer_of()
    layer.forward(X)
    layer.backward(DY)
    layer.backward(DY)
    np.testing.assert_array_equal(layer.bias.grad, [10, 0, 14])
    np.testing.assert_array_equal(layer.values.grad, [10, 40, 2])


@every_form
def test_stored_values_are_a_parameter_but_no_dense_weight(form):
    network = Network({"fc1": layer_of(form=form)})
    assert list(network.named_parameters()) == ["fc1.values", "fc1.bias"]
    assert network.weights() == {}
    assert len(layer_of(b=None, form=form).parameters()) == 1


def test_training_step_moves_the_stored_values_and_no_other():
    layer = layer_of()
    optimizer = SGD(layer.parameters(), lr=0.1)
    layer.forward(X)
    layer.backward(DY)
    optimizer.step()
    np.testing.assert_allclose(layer.bias.value, [-0.5, 0, -2.4], rtol=0, atol=1e-15)
    moved = [[3 - 1, 0, 0, -1 - 4], [0, 0, 2 - 0.2, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(layer.weight.to_dense(), moved, rtol=0, atol=1e-15)


def test_weight_given_is_left_as_it_was():
    w = CSR.from_dense(W)
    SparseLinear(w, None).values.value[...] = 7
    np.testing.assert_array_equal(w.to_dense(), W)


def masked_and_sparse(form, options, density=0.3):
    """Two networks with the same weights, one masked and one sparse, and their common mask."""
    rng = np.random.default_rng(0)
    masked = mlp((12, 8, 6, 4), rng=rng, dtype=np.float64)
    layers = {}
    for name, layer in masked.layers.items():
        layers[name] = copy.deepcopy(layer)
        if isinstance(layer, Linear):
            r, c = options.get("block_shape", (1, 1))
            n_out, n_in = layer.weight.shape
            blocks = rng.random((n_out // r, n_in // c)) < density
            layer.weight.mask = np.kron(blocks, np.ones((r, c))).astype(bool)
            w = form.from_dense(layer.weight.value, **options)
            layers[name] = SparseLinear(w, copy.deepcopy(layer.bias))
    return masked, Network(layers)


def train(network, make_optimizer, n_steps):
    """Dense weights and biases after each of `n_steps` steps."""
    rng, trace = np.random.default_rng(1), []
    optimizer = make_optimizer(network.parameters())
    for _ in range(n_steps):
        x, labels = rng.standard_normal((20, 12)), rng.integers(0, 4, 20)
        _, dy = softmax_cross_entropy(network.forward(x, training=True), labels)
        network.backward(dy)
        optimizer.step()
        linear = [item for item in network.layers.values() if hasattr(item, "bias")]
        dense = (getattr(i.weight, "value", None) for i in linear)
        pairs = zip(linear, dense, strict=True)
        weights = [i.weight.to_dense() if w is None else w.copy() for i, w in pairs]
        trace.append(np.concatenate([a.ravel() for a in weights + [i.bias.value for i in linear]]))
    return np.array(trace)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3),
        lambda parameters: Adam(parameters, lr=0.01),
    ],
    ids=["SGD", "Adam"],
)
@pytest.mark.parametrize(
    ("form", "options"),
    [(CSR, {}), (CSC, {}), (BSR, {"block_shape": (2, 2)})],
    ids=["CSR", "CSC", "BSR"],
)
def test_sparse_training_is_masked_training_step_for_step(make_optimizer, form, options):
    masked, sparse = masked_and_sparse(form, options)
    expected, actual = train(masked, make_optimizer, 30), train(sparse, make_optimizer, 30)
    assert np.abs(expected[-1] - expected[0]).max() > 0.1  # it has gone somewhere
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_fit_trains_a_sparse_network_to_the_masked_one():
    masked, sparse = masked_and_sparse(CSR, {})
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal((50, 12)), rng.integers(0, 4, 50)

    def losses(network):
        optimizer = Adam(network.parameters(), lr=0.01)
        rng = np.random.default_rng(3)
        return fit(network, optimizer, x, labels, epochs=3, batch_size=16, rng=rng).train_loss

    np.testing.assert_allclose(losses(sparse), losses(masked), rtol=0, atol=1e-12)


def test_state_is_loaded_into_the_stored_values():
    network = Network({"fc1": layer_of()})
    state = network.state()
    network.layers["fc1"].values.value[...] = 0
    network.load_state(state)
    np.testing.assert_array_equal(network.layers["fc1"].weight.to_dense(), W)


def test_mask_prunes_among_the_stored_values():
    layer = layer_of()
    layer.values.mask = np.array([True, False, True])
    optimizer = SGD(layer.parameters(), lr=0.1)
    layer.forward(X)
    layer.backward(DY)
    optimizer.step()
    assert layer.weight.to_dense()[0, 3] == 0
    assert layer.weight.nnz == 3


def test_backward_uses_the_weight_that_forward_used():
    layer = layer_of()
    layer.forward(X)
    layer.values.value[...] = 0
    np.testing.assert_array_equal(layer.backward(DY), [[30, 0, 2, -10], [0, 0, -2, 0]])


def test_forward_multiplies_through_the_kernel_table(monkeypatch):
    monkeypatch.setattr(dispatch, "KERNELS", ())
    monkeypatch.setattr(CSR, "matmul", lambda _, x: np.full((3, x.shape[1]), 42.0))
    np.testing.assert_array_equal(layer_of(b=None).forward(X), np.full((2, 3), 42.0))


def test_weight_cannot_be_replaced():
    with pytest.raises(AttributeError, match="weight"):
        layer_of().weight = CSR.from_dense(2 * W)


def test_output_lies_in_memory_feature_by_feature():
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
        (W, None, TypeError, "weight must be a SparseMatrix, got ndarray; convert it"),
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
