"""Every way of pruning ends with a network that still solves its problem, and is counted right."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from refimpl.experiments.monks import PROBLEMS, SEEDS, SETTINGS, run_once
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "monks.json"
DENSE = {1: 17 * 3 + 3 + 3 + 1, 2: 17 * 2 + 2 + 2 + 1, 3: 17 * 2 + 2 + 2 + 1}
WAYS = ("obs", "obd", "magnitude", "obs_one_hessian")
RETRAINED = ("obs_retrained", "obd_retrained", "magnitude_retrained")

every_problem = pytest.mark.parametrize("problem", PROBLEMS)
every_way = pytest.mark.parametrize("way", WAYS + RETRAINED)


@cache
def one_run(problem: int):
    with pinned_threads(1):
        return run_once({"problem": problem}, 0)


@every_problem
def test_run_once_starts_from_the_dense_network(problem):
    assert one_run(problem)["dense_weights"] == DENSE[problem]


@every_problem
@every_way
def test_run_once_prunes(problem, way):
    assert 1 <= one_run(problem)[f"{way}_weights"] < DENSE[problem]


@every_problem
@every_way
def test_run_once_leaves_a_network_that_has_learned_the_rule(problem, way):
    assert one_run(problem)[f"{way}_test"] > 0.9


@every_problem
@pytest.mark.parametrize("criterion", ["obs", "obd", "magnitude"])
def test_run_once_retraining_prunes_at_least_as_far(problem, criterion):
    run = one_run(problem)
    assert run[f"{criterion}_retrained_weights"] <= run[f"{criterion}_weights"]


def test_run_once_repeats_to_the_bit():
    assert one_run.__wrapped__(3) == one_run(3)


def test_run_once_rejects_another_problem():
    with pytest.raises(KeyError, match="4"):
        run_once({"problem": 4}, 0)


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_monks_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_monks_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
