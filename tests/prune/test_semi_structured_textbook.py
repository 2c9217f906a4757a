"""Straight-through training is the textbook's recursion on dense weights, and its pull settles."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.masks import n_of_m
from refimpl.nn import SGD, Adam, Linear, Network, fit, mean_squared_error
from refimpl.prune import StraightThrough

TWO_FOUR = partial(n_of_m, n=2, m=4)
SHAPE, N_STEPS = (3, 8), 40


def largest_two_of_four(w):
    """True at the two largest magnitudes of each four, ties to the lowest index."""
    order = np.argsort(-np.abs(w).reshape(-1, 4), axis=1, kind="stable")
    mask = np.zeros(order.shape, bool)
    np.put_along_axis(mask, order[:, :2], True, axis=1)
    return mask.reshape(w.shape)


def one_weight(values):
    """A network of one linear layer without bias, and its weight."""
    values = np.array(values)
    layer = Linear(*values.shape[::-1], rng=np.random.default_rng(0), bias=False, dtype=np.float64)
    layer.weight.value = values
    return Network({"fc1": layer}), layer.weight


def follow(weight, sparse, optimizer, gradients):
    """Steps with given gradients, as `fit` takes them; yields after each one."""
    for step, gradient in enumerate(gradients, start=1):
        weight.grad = gradient(weight.value)
        sparse.after_backward(step)
        optimizer.step()
        sparse.after_step(step)
        yield sparse.dense()["fc1.weight"], sparse.masks["fc1.weight"]


def gradients(seed=1):
    """A gradient for each step, as a function of the masked weights."""
    targets = np.random.default_rng(seed).normal(size=(N_STEPS, *SHAPE))
    return [lambda masked, t=target: masked - t for target in targets]


def start(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE)


def textbook(pull, rule, *, wrong=None):
    """Dense weights, and masks, after each step on W; `rule(grad, w)` is the optimiser's move."""
    w, history = start(), []
    mask = largest_two_of_four(w)
    for gradient in gradients():
        masked = np.where(mask, w, 0)
        hidden = w if wrong == "pulls at all" else np.where(mask, 0, w)
        seen = masked if wrong == "decays the masked" else w
        w = w + rule(gradient(masked) + pull * hidden, seen)
        mask = largest_two_of_four(masked if wrong == "late mask" else w)
        history.append((w, mask))
    return history


def sgd_rule(lr, momentum=0.0, weight_decay=0.0):
    velocity = np.zeros(SHAPE)

    def rule(grad, w):
        nonlocal velocity
        velocity = momentum * velocity + (grad + weight_decay * w if weight_decay else grad)
        return -(lr * velocity)

    return rule


def adam_rule(lr, weight_decay=0.0):
    m, v, t = np.zeros(SHAPE), np.zeros(SHAPE), 0

    def rule(grad, w):
        nonlocal m, v, t
        t += 1
        grad = grad + weight_decay * w if weight_decay else grad
        m, v = 0.9 * m + (1 - 0.9) * grad, 0.999 * v + (1 - 0.999) * (grad * grad)
        return -(lr * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)))

    return rule


OPTIMIZERS = {
    "SGD": (partial(SGD, lr=0.1), partial(sgd_rule, 0.1)),
    "momentum": (
        partial(SGD, lr=0.05, momentum=0.9),
        partial(sgd_rule, 0.05, momentum=0.9),
    ),
    "weight decay": (
        partial(SGD, lr=0.05, momentum=0.9, weight_decay=0.1),
        partial(sgd_rule, 0.05, momentum=0.9, weight_decay=0.1),
    ),
    "Adam": (partial(Adam, lr=0.1), partial(adam_rule, 0.1)),
    "Adam with decay": (
        partial(Adam, lr=0.1, weight_decay=0.1),
        partial(adam_rule, 0.1, weight_decay=0.1),
    ),
}


def ours(pull, make_optimizer):
    network, weight = one_weight(start())
    sparse = StraightThrough(network, TWO_FOUR, pruned_decay=pull)
    optimizer = make_optimizer(network.parameters())
    return list(follow(weight, sparse, optimizer, gradients()))


@pytest.mark.parametrize("pull", [0.0, 2e-4, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_straight_through_is_the_textbooks_recursion_to_the_bit(name, pull):
    make_optimizer, rule = OPTIMIZERS[name]
    expected = textbook(pull, rule())
    np.testing.assert_equal(ours(pull, make_optimizer), expected)
    assert any((expected[0][1] != mask).any() for _, mask in expected)  # the masks did move


@pytest.mark.parametrize("wrong", ["pulls at all", "late mask", "decays the masked"])
def test_comparison_with_the_textbook_notices_a_method_that(wrong):
    make_optimizer, rule = OPTIMIZERS["weight decay"]
    other = textbook(0.5, rule(), wrong=wrong)[-1]
    assert (ours(0.5, make_optimizer)[-1][0] != other[0]).any()


def test_straight_through_in_fit_is_the_textbooks_on_a_linear_model():
    rng = np.random.default_rng(2)
    x, y, w = rng.normal(size=(6, 8)), rng.normal(size=(6, 3)), start()
    network, _ = one_weight(w)
    sparse = StraightThrough(network, TWO_FOUR, pruned_decay=0.3)
    optimizer = SGD(network.parameters(), lr=0.2)
    fit(network, optimizer, x, y, epochs=20, batch_size=6, rng=rng, loss=mean_squared_error,
        after_backward=sparse.after_backward, after_step=sparse.after_step)  # fmt: skip
    for _ in range(20):
        masked = np.where(largest_two_of_four(w), w, 0)
        grad = 2 * (x @ masked.T - y).T @ x / y.size
        w = w - 0.2 * (grad + 0.3 * (w - masked))
    np.testing.assert_allclose(sparse.dense()["fc1.weight"], w, rtol=0, atol=1e-13)


# --- what the term is for --------------------------------------------------------------------


def group_of_four(pull, n_steps, begin=(4.0, 2.0, 1.0, 0.5)):
    """The book's example: loss 1/2 |w - (4, 2, 1, 0)|^2, steps of one half."""
    network, weight = one_weight([begin])
    sparse = StraightThrough(network, TWO_FOUR, pruned_decay=pull)
    sgd = SGD(network.parameters(), lr=0.5)
    gradient = [lambda masked: masked - [4.0, 2.0, 1.0, 0.0]] * n_steps
    assert len(list(follow(weight, sparse, sgd, gradient))) == n_steps
    return sparse


def test_plain_estimator_flips_for_ever_in_a_group_of_four():
    flips = np.reshape(group_of_four(0.0, 1000).flips, (100, 10)).sum(axis=1)
    assert flips.min() > 0


@pytest.mark.parametrize("pull", [0.5, 0.75, 1.0, 1.5])
def test_pull_of_gradient_over_weight_or_more_settles_the_mask(pull):
    sparse = group_of_four(pull, 1000)
    assert sum(sparse.flips) == 0  # 1 / pull is at most the kept 2
    np.testing.assert_allclose(sparse.dense()["fc1.weight"], [[4, 2, 1 / pull, 0]], atol=1e-12)


def test_pull_finds_the_best_mask_from_a_wrong_one():
    sparse = group_of_four(1.0, 200, begin=(0.1, 0.2, 3.0, -2.0))
    assert sparse.masks["fc1.weight"].tolist() == [[True, True, False, False]]
    assert sum(sparse.flips) > 0 == sum(sparse.flips[20:])


@given(gradient=st.floats(-1, 1), pull=st.floats(0, 1), begin=st.floats(-1, 1))
def test_pruned_weight_approaches_minus_gradient_over_pull_as_a_geometric_series(
    gradient, pull, begin
):
    network, weight = one_weight([[99.0, 99.0, begin, 0.0]])
    sparse = StraightThrough(network, TWO_FOUR, pruned_decay=pull)
    constant = [lambda _: np.array([[0.0, 0.0, gradient, 0.0]])] * 30
    *_, (dense, _) = follow(weight, sparse, SGD([weight], lr=1.0), constant)
    left = (1 - pull) ** 30
    drift = 30 if pull < 1e-9 else (1 - left) / pull
    np.testing.assert_allclose(dense[0, 2], left * begin - drift * gradient, atol=1e-5)
