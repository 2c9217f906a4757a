"""Surgery on a network: one loop for every criterion, which undoes what went too far."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from refimpl import nn
from refimpl.prune import (
    kept_places,
    obs,
    obs_removals,
    obs_trace,
    parameter_vector,
    plain_removals,
    surgeon,
)


@pytest.fixture
def network():
    """17 parameters, none of them 0."""
    rng = np.random.default_rng(0)
    network = nn.mlp([3, 3, 1], rng=rng, dtype=np.float64)
    for parameter in network.parameters():
        parameter.value = rng.standard_normal(parameter.shape)
    return network


def spread_hessian(network):
    """A Hessian that never changes, correlated and positive definite."""
    n = kept_places(network).size
    x = np.random.default_rng(1).standard_normal((3 * n, n)) @ np.tri(n)
    return x.T @ x / (3 * n)


def magnitudes(network):
    return np.abs(parameter_vector(network))


def never(_network):
    return False


def left(network) -> int:
    return int(kept_places(network).sum())


by_magnitude = plain_removals(magnitudes)
by_obs = obs_removals(spread_hessian)
every_way = pytest.mark.parametrize("removals", [by_magnitude, by_obs], ids=["magnitude", "obs"])


def test_surgeon_with_a_constant_hessian_is_obs(network):
    w, h_inv = parameter_vector(network), np.linalg.inv(spread_hessian(network))
    trace = obs_trace(w, h_inv, 9)
    order = surgeon(network, by_obs, stop=never, n_remove=9)
    np.testing.assert_array_equal(order, trace.order)
    np.testing.assert_allclose(parameter_vector(network), trace.weights[-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("at_once", [2, 3, 4, 6, 12])
def test_surgeon_with_a_constant_hessian_is_obs_however_many_go_at_once(network, at_once):
    expected = obs(parameter_vector(network), np.linalg.inv(spread_hessian(network)), 12)
    removals = obs_removals(spread_hessian, at_once=at_once)
    order = surgeon(network, removals, stop=lambda network: left(network) < 4)
    assert order.size == 12
    np.testing.assert_allclose(parameter_vector(network), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "way", [partial(obs_removals, spread_hessian), partial(plain_removals, magnitudes)]
)
def test_surgeon_removes_no_more_at_once_than_there_are(network, way):
    order = surgeon(network, way(at_once=100), stop=never)
    assert sorted(order) == list(range(16))


def test_surgeon_asks_for_the_hessian_of_the_network_as_it_is(network):
    seen = []

    def hessian(network):
        seen.append(left(network))
        return spread_hessian(network)

    surgeon(network, obs_removals(hessian), stop=never, n_remove=4)
    assert seen == [16, 15, 14, 13]


def test_surgeon_asks_for_fewer_hessians_when_more_go_at_once(network):
    seen = []

    def hessian(network):
        seen.append(left(network))
        return spread_hessian(network)

    surgeon(network, obs_removals(hessian, at_once=3), stop=never, n_remove=9)
    assert seen == [16, 13, 10]


def test_surgeon_by_magnitude_removes_the_smallest_and_moves_no_other(network):
    before = parameter_vector(network)
    order = surgeon(network, by_magnitude, stop=never, n_remove=5)
    np.testing.assert_array_equal(order, np.argsort(np.abs(before))[:5])
    expected = before.copy()
    expected[order] = 0
    np.testing.assert_array_equal(parameter_vector(network), expected)


def test_plain_removals_at_once_zero_the_first_ones_together(network):
    step = next(plain_removals(magnitudes, at_once=3)(network))
    np.testing.assert_array_equal(step.indices, np.argsort(magnitudes(network))[:3])
    assert np.flatnonzero(step.parameters == 0).tolist() == sorted(step.indices)


@every_way
def test_surgeon_masks_what_went_biases_too(network, removals):
    order = surgeon(network, removals, stop=never, n_remove=12)
    assert np.flatnonzero(~kept_places(network)).tolist() == sorted(order)
    biases = [p.mask for name, p in network.named_parameters().items() if name.endswith("bias")]
    assert not np.concatenate(biases).all()


@every_way
def test_surgeon_removes_everything_if_nobody_stops_it(network, removals):
    order = surgeon(network, removals, stop=never)
    assert sorted(order) == list(range(16))
    assert not parameter_vector(network).any()


@every_way
def test_surgeon_stops_in_time_and_undoes_the_last_removal(network, removals):
    twin = nn.mlp([3, 3, 1], rng=np.random.default_rng(0), dtype=np.float64)
    twin.load_state(network.state())
    surgeon(network, removals, stop=lambda network: left(network) < 10)
    surgeon(twin, removals, stop=never, n_remove=6)
    np.testing.assert_array_equal(parameter_vector(network), parameter_vector(twin))
    np.testing.assert_array_equal(kept_places(network), kept_places(twin))


@every_way
def test_surgeon_undoes_the_removal_under_way_when_training_fails(network, removals):
    surgeon(network, removals, stop=never, n_remove=3)
    before, n_left = network.state(), left(network)

    def fail(_network):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        surgeon(network, removals, stop=lambda network: left(network) < n_left, retrain=fail)
    assert left(network) == n_left
    for name, value in network.state().items():
        np.testing.assert_array_equal(value, before[name])


@every_way
def test_surgeon_leaves_what_was_pruned_before(network, removals):
    mask = np.array([[True, False, True], [False, True, True], [True, True, True]])
    network.weights()["fc1.weight"].mask = mask
    order = surgeon(network, removals, stop=never, n_remove=5)
    assert not np.isin(order, [1, 3]).any()
    assert left(network) == 16 - 2 - 5
    assert not network.weights()["fc1.weight"].value[~mask].any()


def test_obs_does_not_look_at_the_hessian_of_what_is_pruned(network):
    network.weights()["fc1.weight"].mask = np.arange(9).reshape(3, 3) != 4

    def hessian(network):
        found = spread_hessian(network)
        found[4], found[:, 4] = np.nan, np.nan
        return found

    surgeon(network, obs_removals(hessian), stop=never, n_remove=3)
    assert np.isfinite(parameter_vector(network)).all()


def test_surgeon_retrains_what_went_too_far_and_keeps_what_that_repairs(network):
    healed = []

    def retrain(network):
        healed.append(left(network))

    def is_ill(network):
        return left(network) not in healed or left(network) < 12

    surgeon(network, by_magnitude, stop=is_ill, retrain=retrain)
    assert healed == [15, 14, 13, 12, 11]
    assert left(network) == 12


def test_surgeon_retrains_nothing_while_all_is_well(network):
    retrained = []
    surgeon(network, by_magnitude, stop=never, retrain=retrained.append, n_remove=3)
    assert retrained == []


@every_way
def test_surgeon_tries_the_next_best_when_the_best_fails(network, removals):
    favourite = int(next(removals(network)).indices[0])

    def needs_the_favourite(network):
        return not kept_places(network)[favourite]

    before = parameter_vector(network)
    assert surgeon(network, removals, stop=needs_the_favourite).size == 0
    np.testing.assert_array_equal(parameter_vector(network), before)
    order = surgeon(network, removals, stop=needs_the_favourite, n_tries=2)
    assert favourite not in order
    assert left(network) == 1


def test_surgeon_keeps_a_zero_that_no_mask_prunes(network):
    network.named_parameters()["fc2.bias"].value = np.zeros(1)
    assert left(network) == 16
    assert surgeon(network, by_magnitude, stop=never, n_remove=1).tolist() == [15]


def test_surgeon_gives_ties_to_the_lowest_index(network):
    network.load_state({name: np.ones_like(a) for name, a in network.state().items()})
    assert surgeon(network, by_magnitude, stop=never, n_remove=3).tolist() == [0, 1, 2]


def test_surgeon_keeps_single_precision_single():
    network = nn.mlp([3, 1], rng=np.random.default_rng(0))
    surgeon(network, obs_removals(spread_hessian), stop=never, n_remove=2)
    assert {parameter.dtype for parameter in network.parameters()} == {np.dtype(np.float32)}


def test_obs_repairs_a_linear_network_that_magnitude_breaks():
    """Two inputs that agree: the weight that stays takes the other's part."""
    network = nn.mlp([2, 1], rng=np.random.default_rng(0), dtype=np.float64)
    network.load_state({"fc1.weight": np.array([[2.0, 1.0]]), "fc1.bias": np.zeros(1)})
    x = np.array([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]])

    def hessian(network):
        return nn.gauss_newton(network, x, nn.mean_squared_error) + 1e-9 * np.eye(3)

    surgeon(network, obs_removals(hessian), stop=never, n_remove=2)
    np.testing.assert_allclose(parameter_vector(network), [3, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n_tries": 0}, ValueError, "surgeon: n_tries must be at least 1, got 0;"),
        ({"n_remove": 0.5}, TypeError, "surgeon: n_remove must be an integer, got 0.5;"),
        ({"network": 3}, TypeError, "surgeon: network must be a Network, got int;"),
    ],
)
def test_surgeon_refuses_with_a_sentence(network, options, kind, message):
    with pytest.raises(kind, match=message):
        surgeon(**{"network": network, "removals": by_obs, "stop": never} | options)


@pytest.mark.parametrize("way", [obs_removals, plain_removals])
def test_removals_refuse_none_at_once(way):
    with pytest.raises(ValueError, match=f"{way.__name__}: at_once must be at least 1, got 0;"):
        way(magnitudes, at_once=0)


@pytest.mark.parametrize(
    ("removals", "kind", "message"),
    [
        (obs_removals(lambda _: np.eye(3)), ValueError, r"hessian must have shape \(16, 16\), got"),
        (obs_removals(lambda _: np.ones((16, 16))), ValueError, "must be positive definite.*damp"),
        (plain_removals(lambda _: np.ones(3)), ValueError, r"saliency must have shape \(16,\)"),
        (plain_removals(lambda _: np.full(16, np.nan)), ValueError, "saliency must hold no NaN"),
    ],
)
def test_surgery_refuses_what_a_callable_returns(network, removals, kind, message):
    before = parameter_vector(network)
    with pytest.raises(kind, match=message):
        surgeon(network, removals, stop=never)
    np.testing.assert_array_equal(parameter_vector(network), before)
