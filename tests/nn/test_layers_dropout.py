"""Dropout: exact scaling, the right expectation, and nothing at all when not training."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import Dropout
from support.differences import assert_gradient_close, central_differences
from support.strategies import FLOATS, layouts

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4)


def dropout(rate: float, seed: int = 0) -> Dropout:
    return Dropout(rate, rng=np.random.default_rng(seed))


@given(st.data())
def test_dropout_either_drops_or_divides_by_the_chance_to_keep(data):
    dtype, shape = data.draw(st.sampled_from(FLOATS)), data.draw(SHAPES)
    rate = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9]) | st.floats(0, 0.99))
    x = data.draw(layouts(np.random.default_rng(0).uniform(1, 2, shape).astype(dtype)))
    y = dropout(rate, data.draw(SEEDS)).forward(x, training=True)
    kept = y != 0
    assert y.dtype == x.dtype
    assert y[kept].tobytes() == (x[kept] / dtype(1 - rate)).tobytes()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_expectation(rate):
    x, n_draws = np.array([1.0, -2.0, 0.5, 8.0]), 100_000
    y = dropout(rate).forward(np.tile(x, (n_draws, 1)), training=True)
    # Hoeffding: n draws in {0, x / (1 - rate)} have a mean off by d or more with probability
    # 2 exp(-2 n (d (1 - rate) / x)**2) at most; 1e-9 gives this d.
    d = np.abs(x) / (1 - rate) * math.sqrt(math.log(2e9) / 2 / n_draws)
    assert (np.abs(y.mean(axis=0) - x) < d).all()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_choices_do_not_depend_on_their_neighbours(rate):
    kept = dropout(rate).forward(np.ones((100_000, 3)), training=True) != 0
    both = [(kept[:, i] & kept[:, j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    # Hoeffding as above: independent choices are kept together with probability (1 - rate)**2.
    d = math.sqrt(math.log(2e9) / 2 / len(kept))
    assert (np.abs(np.array(both) - (1 - rate) ** 2) < d).all()


def test_dropout_returns_its_input_when_not_training():
    layer, x = dropout(0.5), np.ones((3, 4))
    assert layer.forward(x) is x
    assert layer.backward(x) is x


def test_dropout_draws_nothing_when_not_training():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    Dropout(0.5, rng=rng).forward(np.ones((3, 4)))
    assert rng.bit_generator.state == before


def test_dropout_of_rate_zero_changes_no_bit():
    x = np.random.default_rng(1).standard_normal((5, 6))
    assert dropout(0.0).forward(x, training=True).tobytes() == x.tobytes()


def test_dropout_drops_infinities_and_nan_to_zero():
    x = np.full((1, 1000), np.nan)
    x[:, ::2] = -np.inf
    y = dropout(0.5).forward(x, training=True)
    assert 0 < np.count_nonzero(y == 0) < 1000


def test_dropout_backward_repeats_the_choice_of_forward():
    layer, x = dropout(0.5), np.full((20, 10), 3.0)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(layer.backward(x), y)


def test_dropout_gradient_matches_central_differences():
    rng = np.random.default_rng(1)
    x, v = rng.standard_normal((2, 3, 4))

    def f() -> float:  # a new layer of the same seed drops the same entries
        return float(np.vdot(v, dropout(0.3).forward(x, training=True)))

    layer = dropout(0.3)
    layer.forward(x, training=True)
    assert_gradient_close(layer.backward(v), central_differences(f, x))


def test_dropout_draws_anew_for_every_pass():
    layer, x = dropout(0.5), np.ones((10, 10))
    assert layer.forward(x, training=True).tobytes() != layer.forward(x, training=True).tobytes()


def test_dropout_repeats_with_the_seed():
    x = np.ones((10, 10))
    one, other = dropout(0.5, seed=3), dropout(0.5, seed=3)
    assert one.forward(x, training=True).tobytes() == other.forward(x, training=True).tobytes()


@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, 1.5, math.nan, math.inf])
def test_dropout_rejects_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=r"Dropout: rate must be in \[0, 1\), got .*; 90 % is"):
        dropout(rate)


@pytest.mark.parametrize("rate", ["0.5", None, True])
def test_dropout_rejects_a_rate_that_is_no_number(rate):
    with pytest.raises(TypeError, match="Dropout: rate must be a number, got"):
        dropout(rate)


def test_dropout_rejects_a_bare_seed():
    with pytest.raises(TypeError, match=r"Dropout: rng must be a .*Generator, got int"):
        Dropout(0.5, rng=0)
