"""One weight leaves an XOR network: what is counted, and what the book prints of it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl import nn
from refimpl.experiments.full_batch import sigmoid_network, train_full_batch
from refimpl.experiments.xor_surgery import (
    HIDDEN_BIASES,
    PATTERNS,
    SEEDS,
    SETTINGS,
    XOR,
    is_right,
    run_once,
    survivals,
)
from refimpl.measure import pinned_threads
from refimpl.prune import parameter_vector

RECORD = Path(__file__).parents[2] / "book" / "results" / "xor_surgery.json"
CHOICES = ("magnitude", "obd", "obs")


@cache
def short_run():
    with pinned_threads(1):
        return run_once({"weight_decay": 1e-4, "networks": 6}, 0)


@pytest.fixture
def solved():
    """A network that computes XOR by hand: OR of two ANDs, each with one input negated."""
    network = sigmoid_network((2, 2, 1), np.random.default_rng(0))
    network.load_state(
        {
            "fc1.weight": np.array([[9.0, -9.0], [-9.0, 9.0]]),
            "fc1.bias": np.array([-4.0, -4.0]),
            "fc2.weight": np.array([[9.0, 9.0]]),
            "fc2.bias": np.array([-4.0]),
        }
    )
    return network


def test_network_by_hand_is_right(solved):
    assert is_right(solved)


def test_network_with_a_pattern_wrong_is_not_right(solved):
    solved.named_parameters()["fc2.bias"].value = np.array([4.0])
    assert not is_right(solved)


def test_hidden_biases_are_those_of_the_first_layer(solved):
    named = solved.named_parameters()
    vector = np.isin(np.arange(9), HIDDEN_BIASES).astype(float)
    marked = nn.as_arrays(vector, named)
    assert [name for name in named if marked[name].any()] == ["fc1.bias"]
    assert marked["fc1.bias"].all()


def test_survivals_give_the_network_back(solved):
    before = parameter_vector(solved)
    survivals(solved)
    np.testing.assert_array_equal(parameter_vector(solved), before)


def test_survivals_count_plain_deletions_by_trying_them(solved):
    w, works = parameter_vector(solved), []
    for i in range(9):
        solved.load_state(nn.as_arrays(np.delete(np.insert(w, i, 0), i + 1), solved.state()))
        outputs = solved.forward(PATTERNS) > 0.5
        works.append(bool((outputs == (XOR == 1)).all()))
    solved.load_state(nn.as_arrays(w, solved.state()))
    found = survivals(solved)
    assert found["chance_plain"] == pytest.approx(sum(works) / 9)
    assert found["any_plain"] == any(works)
    assert found["magnitude_plain"] == works[int(np.argmin(np.abs(w)))]


def test_obs_survives_where_plain_deletion_of_its_choice_does_not():
    network = sigmoid_network((2, 2, 1), np.random.default_rng(3))
    train_full_batch(network, PATTERNS, XOR, weight_decay=1e-4)
    assert is_right(network)
    found = survivals(network)
    assert (found["obs_plain"], found["obs_updated"]) == (0, 1)


def test_run_once_counts_no_more_than_it_solved():
    run = short_run()
    assert 1 <= run["solved"] <= 6
    assert max(run.values()) <= run["solved"]


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__() == short_run()


def test_run_once_can_solve_none():
    assert run_once({"weight_decay": 10.0, "networks": 2}, 0) == {"solved": 0}


@pytest.mark.parametrize("way", ["plain", "updated"])
def test_run_once_finds_no_survivor_where_there_is_none(way):
    run = short_run()
    assert max(run[f"{name}_{way}"] for name in CHOICES) <= run[f"any_{way}"]


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_xor_has_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_xor_comes_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
