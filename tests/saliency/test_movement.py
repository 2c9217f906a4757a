"""Movement has the sign of what a step does to |w|; its soft form is a gradient step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.saliency import movement, soft_movement
from support.differences import assert_gradient_close, central_differences
from support.strategies import whole_numbers


def test_movement_is_negative_for_weights_moving_to_zero():
    w, dw, lr = np.array([1.0, -1.0, 1.0, -1.0]), np.array([0.5, -0.5, -0.5, 0.5]), 0.1
    towards_zero = np.abs(w - lr * dw) < np.abs(w)
    assert towards_zero.tolist() == [True, True, False, False]
    assert (movement(w, dw) < 0).tolist() == towards_zero.tolist()


@given(whole_numbers())
def test_movement_has_the_sign_of_the_change_of_the_magnitude(pair):
    w, dw = (array.astype(np.float64) for array in pair)
    moved = w - 2.0**-10 * dw  # no sign changes: whole weights are 0 or at least 1
    change = np.where(w == 0, 0, np.abs(moved) - np.abs(w))
    np.testing.assert_array_equal(np.sign(movement(w, dw)), np.sign(change))


def movement_of_the_note(w, dw):
    """Wrong: the sum that lecture notes in circulation prune by."""
    return w * dw


def test_growing_and_shrinking_weights_expose_the_sign_of_the_note():
    w, dw = np.array([1.0, 1.0]), np.array([0.5, -0.5])  # the first shrinks, the second grows
    assert np.argmin(movement_of_the_note(w, dw)) == 1  # prunes the one that grows
    assert np.argmin(movement(w, dw)) == 0


def test_movement_summed_over_a_training_finds_the_weight_that_is_unlearned():
    w = np.array([2.0, 0.1])  # a large weight that training removes, and a small one it needs
    target, total = np.array([0.5, 1.0]), np.zeros(2)
    for _ in range(50):
        dw = w - target
        total += movement(w, dw)
        w = w - 0.1 * dw
    assert total[0] < 0 < total[1]


@given(whole_numbers())
def test_movement_returns_new_float64_of_the_shape(pair):
    added = movement(*pair)
    assert isinstance(added, np.ndarray)
    assert (added.dtype, added.shape) == (np.float64, pair[0].shape)


@given(whole_numbers(), st.integers(-4, 4))
def test_soft_movement_without_penalty_adds_up_movement(pair, power):
    w, dw = pair
    scores = np.full(w.shape, 3.0)
    lr = 2.0**power
    moved = soft_movement(scores, w, dw, lr=lr, penalty=0.0)
    np.testing.assert_array_equal(moved, scores + lr * movement(w, dw))


def test_soft_movement_is_a_step_down_the_relaxed_loss():
    rng = np.random.default_rng(0)
    w, target = rng.standard_normal((2, 3, 2))
    scores, penalty = rng.standard_normal((3, 2)), 0.3

    def loss():  # the straight-through estimator: w * S in place of w * [S > 0]
        sigmoids = 1 / (1 + np.exp(-scores))
        return 0.5 * np.sum((w * scores - target) ** 2) + penalty * np.sum(sigmoids)

    expected = scores - 0.5 * central_differences(loss, scores)
    dw = w * scores - target  # gradient at the masked weight
    assert_gradient_close(soft_movement(scores, w, dw, lr=0.5, penalty=penalty), expected)


def test_penalty_pulls_every_score_down_and_most_at_zero():
    scores = np.array([-5.0, 0.0, 5.0])
    nothing = np.zeros(3)
    pulled = scores - soft_movement(scores, nothing, nothing, lr=1.0, penalty=1.0)
    assert (pulled > 0).all()
    assert pulled[1] == 0.25


@pytest.mark.parametrize("score", [-1000.0, 1000.0])
def test_penalty_of_far_scores_does_not_overflow(score):
    nothing = np.zeros(1)
    assert soft_movement(np.array([score]), nothing, nothing, lr=1.0, penalty=1.0)[0] == score


def test_soft_movement_leaves_its_arguments():
    arrays = [np.ones(3) for _ in range(3)]
    soft_movement(*arrays, lr=1.0, penalty=1.0)
    assert all((array == 1).all() for array in arrays)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda w: movement(w, w[:2]), ValueError, r"movement: dw must have shape \(3,\)"),
        (lambda w: movement([1.0], w), TypeError, "movement: w must be an array, got list"),
        (
            lambda w: soft_movement(w[:2], w, w, lr=1.0, penalty=0.0),
            ValueError,
            r"soft_movement: scores must have shape \(3,\)",
        ),
        (
            lambda w: soft_movement(w, w, w, lr=0.0, penalty=0.0),
            ValueError,
            "soft_movement: lr must be finite and above 0",
        ),
        (
            lambda w: soft_movement(w, w, w, lr=1.0, penalty=-1.0),
            ValueError,
            "soft_movement: penalty must be finite and at least 0",
        ),
    ],
)
def test_movement_refuses_with_a_sentence(call, kind, message):
    with pytest.raises(kind, match=message):
        call(np.ones(3))
