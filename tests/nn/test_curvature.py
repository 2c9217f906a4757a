"""Second derivatives against differences of the loss alone, and what the notes got wrong of them.

Each theorem here is quoted by name in the chapter on curvature.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import nn
from support.differences import assert_hessian_close, central_differences, second_differences


def linear(n_in: int, n_out: int, seed: int, dtype: type = np.float64) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, rng=np.random.default_rng(seed), dtype=dtype)
    layer.bias.value = np.random.default_rng(seed + 9).normal(size=n_out).astype(dtype)
    return layer


def smooth_net(seed: int = 0, dtype: type = np.float64) -> nn.Network:
    """Two inputs, four tanh units, three outputs: 27 parameters, and no kink."""
    layers = {
        "fc1": linear(2, 4, seed, dtype),
        "tanh": nn.Tanh(),
        "fc2": linear(4, 3, seed + 1, dtype),
    }
    return nn.Network(layers)


X = np.random.default_rng(5).normal(size=(6, 2))
LABELS = np.array([0, 2, 1, 1, 0, 2])
TARGETS = np.random.default_rng(6).normal(size=(6, 3))
LOSSES = {
    "cross-entropy": (nn.softmax_cross_entropy, LABELS),
    "squares": (nn.mean_squared_error, TARGETS),
}
EITHER_LOSS = pytest.mark.parametrize(("loss", "y"), LOSSES.values(), ids=LOSSES)


def differences(network: nn.Network, x: np.ndarray, y: np.ndarray, loss) -> np.ndarray:
    """The Hessian from values of the loss alone."""
    values = [parameter.value for parameter in network.parameters()]
    return second_differences(lambda: loss(network.forward(x), y)[0], values)


def some_direction(network: nn.Network, seed: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=parameter.shape).astype(parameter.dtype)
        for name, parameter in network.named_parameters().items()
    }


# --- the Hessian ------------------------------------------------------------------------------


@EITHER_LOSS
def test_hessian_matches_second_differences_of_the_loss(loss, y):
    network = smooth_net()
    assert_hessian_close(nn.hessian(network, X, y, loss), differences(network, X, y, loss))


@EITHER_LOSS
def test_hessian_is_symmetric(loss, y):
    hessian = nn.hessian(smooth_net(), X, y, loss)
    np.testing.assert_array_equal(hessian, hessian.T)


def test_hessian_under_a_mask_is_that_of_the_parameters_that_can_move():
    network, mask = smooth_net(), np.random.default_rng(0).random((4, 2)) < 0.5
    network.layers["fc1"].weight.mask = mask
    found = nn.hessian(network, X, LABELS)
    network.layers["fc1"].weight.mask = None  # the values stay 0
    whole = differences(network, X, LABELS, nn.softmax_cross_entropy)
    kept = np.append(mask.ravel(), np.ones(19, bool))
    assert_hessian_close(found[np.ix_(kept, kept)], whole[np.ix_(kept, kept)])
    assert not found[~kept].any()
    assert not found[:, ~kept].any()


def test_hessian_of_a_linear_layer_is_the_mean_product_of_inputs():
    network = nn.Network(
        {"fc": nn.Linear(2, 3, rng=np.random.default_rng(0), dtype=np.float64, bias=False)}
    )
    expected = np.kron(np.eye(3), X.T @ X) * 2 / (6 * 3)
    actual = nn.hessian(network, X, TARGETS, nn.mean_squared_error)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@EITHER_LOSS
def test_hessian_vector_product_is_the_hessian_times_the_vector(loss, y):
    network = smooth_net()
    v = some_direction(network)
    actual = nn.as_vector(nn.hessian_vector_product(network, X, y, v, loss))
    assert_hessian_close(actual, differences(network, X, y, loss) @ nn.as_vector(v))


@pytest.mark.parametrize("length", [1e-6, 1e6])
def test_hessian_vector_product_does_not_depend_on_the_length_of_the_vector(length):
    network = smooth_net()
    v = some_direction(network)
    scaled = {name: length * direction for name, direction in v.items()}
    products = [nn.hessian_vector_product(network, X, LABELS, d) for d in (v, scaled)]
    actual, expected = (nn.as_vector(product) for product in reversed(products))
    np.testing.assert_allclose(actual, length * expected, rtol=1e-8, atol=1e-8 * length)


@pytest.mark.parametrize("power", [-80, 80])
def test_hessian_vector_product_in_single_precision_takes_a_vector_whose_square_is_none(power):
    network = smooth_net(dtype=np.float32)
    v = some_direction(network)
    scaled = {name: np.float32(2.0**power) * direction for name, direction in v.items()}
    x = X.astype(np.float32)
    products = [nn.hessian_vector_product(network, x, LABELS, d) for d in (v, scaled)]
    actual, expected = (nn.as_vector(product) for product in reversed(products))
    np.testing.assert_array_equal(actual, np.float32(2.0**power) * expected)


def test_hessian_vector_product_takes_a_direction_for_some_parameters():
    network = smooth_net()
    v = some_direction(network)
    whole = {name: d if name == "fc2.bias" else 0 * d for name, d in v.items()}
    part = {"fc2.bias": v["fc2.bias"]}
    products = [nn.hessian_vector_product(network, X, LABELS, d) for d in (part, whole)]
    assert nn.as_vector(products[0]).tobytes() == nn.as_vector(products[1]).tobytes()


@pytest.mark.parametrize("v", [{}, {"fc1.bias": np.zeros(4)}], ids=["none", "zero"])
def test_hessian_vector_product_of_nothing_is_zero(v):
    product = nn.hessian_vector_product(smooth_net(), X, LABELS, v)
    assert not nn.as_vector(product).any()


def test_hessian_vector_product_error_shrinks_with_the_square_of_the_step():
    network = smooth_net()
    v = some_direction(network)
    best, far, near = (
        nn.as_vector(nn.hessian_vector_product(network, X, LABELS, v, step=step))
        for step in (None, 1e-1, 1e-2)
    )
    ratio = np.linalg.norm(far - best) / np.linalg.norm(near - best)
    assert ratio == pytest.approx(100, rel=0.02)


def test_hessian_vector_product_keeps_ten_digits_by_default():
    network = smooth_net()
    v = some_direction(network)
    default, extrapolated = (
        nn.as_vector(nn.hessian_vector_product(network, X, LABELS, v)),
        richardson(network, v),
    )
    error = np.linalg.norm(default - extrapolated) / np.linalg.norm(extrapolated)
    assert error < 1e-9


def richardson(network: nn.Network, v: dict[str, np.ndarray]) -> np.ndarray:
    """Three step lengths, combined so that errors of h**2 and h**4 cancel."""
    one, two, four = (
        nn.as_vector(nn.hessian_vector_product(network, X, LABELS, v, step=step))
        for step in (1e-3, 2e-3, 4e-3)
    )
    return (64 * one - 20 * two + four) / 45


def test_hessian_vector_product_in_single_precision_has_three_digits():
    wide, narrow = smooth_net(), smooth_net(dtype=np.float32)
    narrow.load_state({name: value.astype(np.float32) for name, value in wide.state().items()})
    v = some_direction(narrow)
    product = nn.hessian_vector_product(narrow, X.astype(np.float32), LABELS, v)
    exact = nn.hessian_vector_product(
        wide, X, LABELS, {name: d.astype(np.float64) for name, d in v.items()}
    )
    actual, expected = nn.as_vector(product), nn.as_vector(exact)
    assert actual.dtype == np.float32
    assert np.linalg.norm(actual - expected) < 1e-3 * np.linalg.norm(expected)


def test_hessian_vector_product_puts_every_value_back():
    network = smooth_net()
    before = nn.as_vector(network.state()).tobytes()
    nn.hessian_vector_product(network, X, LABELS, some_direction(network))
    assert nn.as_vector(network.state()).tobytes() == before


def test_hessian_vector_product_puts_every_value_back_after_an_exception():
    network = smooth_net()
    before = nn.as_vector(network.state()).tobytes()
    with pytest.raises(ValueError, match="labels must have shape"):
        nn.hessian_vector_product(network, X, LABELS[:3], some_direction(network))
    assert nn.as_vector(network.state()).tobytes() == before


def test_pruned_weights_stay_while_the_others_move():
    network = smooth_net()
    mask = np.random.default_rng(0).random((4, 2)) < 0.5
    network.layers["fc1"].weight.mask = mask
    v = some_direction(network)
    kept = v | {"fc1.weight": np.where(mask, v["fc1.weight"], 0)}
    length = [np.linalg.norm(nn.as_vector(d)) for d in (v, kept)]
    steps = [6e-6, 6e-6 * length[1] / length[0]]
    products = [
        nn.as_vector(nn.hessian_vector_product(network, X, LABELS, d, step=step))
        for d, step in zip((v, kept), steps, strict=True)
    ]
    np.testing.assert_allclose(*products, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("v", "kind", "message"),
    [
        (np.ones(27), TypeError, "hessian_vector_product: v must be a mapping, got ndarray; pass"),
        ({"fc3.bias": np.ones(4)}, ValueError, "v must name parameters, got 'fc3.bias'; take one"),
        ({"fc1.bias": np.ones(3)}, ValueError, r"v\['fc1.bias'\] must have shape \(4,\), got \(3,"),
        ({"fc1.bias": np.ones(4, int)}, TypeError, r"v\['fc1.bias'\] must be float64, got int64"),
    ],
)
def test_hessian_vector_product_refuses_a_direction_that_does_not_fit(v, kind, message):
    with pytest.raises(kind, match=message):
        nn.hessian_vector_product(smooth_net(), X, LABELS, v)


@pytest.mark.parametrize("step", [0.0, -1e-6, np.inf])
def test_hessian_vector_product_refuses_a_step_that_is_none(step):
    with pytest.raises(ValueError, match=f"step must be finite and above 0, got {step}"):
        nn.hessian_vector_product(smooth_net(), X, LABELS, {}, step=step)


# --- Gauss-Newton -----------------------------------------------------------------------------


@EITHER_LOSS
@pytest.mark.parametrize("place", range(3))
def test_output_hessian_matches_differences_of_one_examples_gradient(loss, y, place):
    outputs = np.random.default_rng(8).normal(size=(6, 3))
    one, target = outputs[place : place + 1].copy(), y[place : place + 1]
    expected = [
        central_differences(lambda k=k: float(loss(one, target)[1][0, k]), one)[0] for k in range(3)
    ]
    np.testing.assert_allclose(nn.output_hessian(outputs, loss)[place], expected, rtol=0, atol=1e-9)


def test_output_hessian_survives_large_logits():
    hessian = nn.output_hessian(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    np.testing.assert_array_equal(hessian[0], np.zeros((2, 2)))
    np.testing.assert_array_equal(hessian[1], np.array([[0.25, -0.25], [-0.25, 0.25]]))


def test_output_hessian_refuses_a_loss_that_it_does_not_know():
    message = "output_hessian: loss must be softmax_cross_entropy or mean_squared_error, got smoo"
    with pytest.raises(ValueError, match=message):
        nn.output_hessian(np.ones((1, 2)), nn.smoothed_cross_entropy)


def frozen(residual: np.ndarray):
    """The loss ``<residual, outputs>``: linear, so its Hessian is that of the outputs alone."""
    return lambda outputs, _: (float((residual * outputs).sum()), residual)


@EITHER_LOSS
def test_squared_loss_hessian_matches_finite_differences(loss, y):
    """H = Gauss-Newton **plus** the outputs' own curvature, weighted by the residual."""
    network = smooth_net()
    residual = loss(network.forward(X), y)[1]
    of_outputs = nn.hessian(network, X, y, frozen(residual))
    actual = nn.gauss_newton(network, X, loss) + of_outputs
    assert_hessian_close(actual, differences(network, X, y, loss))


@EITHER_LOSS
def test_minus_in_front_of_the_residual_term_is_found(loss, y):
    network = smooth_net()
    residual = loss(network.forward(X), y)[1]
    wrong = nn.gauss_newton(network, X, loss) - nn.hessian(network, X, y, frozen(residual))
    assert np.abs(wrong - differences(network, X, y, loss)).max() > 0.1


def test_gauss_newton_is_the_hessian_where_the_network_fits():
    network = smooth_net()
    fitted = network.forward(X)
    assert_hessian_close(
        nn.gauss_newton(network, X, nn.mean_squared_error),
        differences(network, X, fitted, nn.mean_squared_error),
    )


@EITHER_LOSS
def test_gauss_newton_is_the_hessian_of_a_linear_network(loss, y):
    network = nn.Network({"fc": linear(2, 3, 0)})
    assert_hessian_close(nn.gauss_newton(network, X, loss), differences(network, X, y, loss))


@pytest.mark.parametrize("loss", [nn.softmax_cross_entropy, nn.mean_squared_error])
@given(seed=st.integers(0, 2**32 - 1))
def test_gauss_newton_is_positive_semi_definite(loss, seed):
    spectrum = np.linalg.eigvalsh(nn.gauss_newton(smooth_net(seed), X, loss))
    assert spectrum.min() > -1e-12 * spectrum.max()


def test_gauss_newton_is_the_fisher_matrix_of_the_cross_entropy():
    """The mean of g g^T, where the label is not the data's but drawn from the softmax."""
    network = smooth_net()
    logits = network.forward(X)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    fisher = 0
    for label in range(3):
        labels = np.full(6, label)
        g = nn.as_vector(nn.example_gradients(network, X, labels), leading=1)
        fisher = fisher + (p[:, label, None] * g).T @ g / 6
    np.testing.assert_allclose(nn.gauss_newton(network, X), fisher, rtol=0, atol=1e-14)


@pytest.mark.parametrize("matrix", [nn.hessian, lambda net, x, _: nn.gauss_newton(net, x)])
def test_curvature_of_no_parameter_is_refused(matrix):
    with pytest.raises(ValueError, match="must hold an array, got an empty mapping"):
        matrix(nn.Network({"relu": nn.ReLU()}), X, np.zeros(6, int))


# --- the inverse, one example at a time -------------------------------------------------------


def gradients_of(n_examples: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_examples, n))


@pytest.mark.parametrize(("n_examples", "n"), [(1, 4), (4, 1), (30, 8), (5, 12)])
@pytest.mark.parametrize("damping", [1e-3, 1.0, 1e3])
def test_inverse_fisher_recursion_matches_direct_inverse(n_examples, n, damping):
    g = gradients_of(n_examples, n)
    direct = np.linalg.inv(damping * np.eye(n) + sum(np.outer(row, row) for row in g) / n_examples)
    actual = nn.inverse_fisher(g, damping)
    np.testing.assert_allclose(actual, direct, rtol=0, atol=1e-11 * np.abs(direct).max())


def with_the_running_count(g: np.ndarray, damping: float) -> np.ndarray:
    """The recursion with m where N belongs."""
    inverse = np.eye(g.shape[1]) / damping
    for m, row in enumerate(g, start=1):
        projected = inverse @ row
        inverse -= np.outer(projected, projected) / (m + row @ projected)
    return inverse


def test_inverse_fisher_with_the_running_count_is_another_matrix():
    g = gradients_of(30, 8)
    right, wrong = nn.inverse_fisher(g, 1e-2), with_the_running_count(g, 1e-2)
    assert np.abs(wrong - right).max() > 0.5 * np.abs(right).max()


def test_inverse_fisher_of_jacobian_rows_inverts_gauss_newton():
    network = smooth_net()
    rows = nn.as_vector(nn.output_gradients(network, X), leading=2).reshape(18, -1)
    expected = np.linalg.inv(nn.gauss_newton(network, X, nn.mean_squared_error) + 0.1 * np.eye(27))
    actual = nn.inverse_fisher(np.sqrt(2) * rows, 0.1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


# --- the diagonal -----------------------------------------------------------------------------


@EITHER_LOSS
@pytest.mark.parametrize("seed", range(3))
def test_hessian_diagonal_matches_finite_differences(loss, y, seed):
    network = smooth_net(seed)
    actual = nn.as_vector(nn.exact_diagonal(network, X, y, loss))
    assert_hessian_close(actual, differences(network, X, y, loss).diagonal())
