"""Every budget keeps the same total, and the scan sees neither training nor test images."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import load_digits
from refimpl.experiments.sensitivity_budgets import (
    SEEDS,
    SETTINGS,
    SPARSITIES,
    run_once,
    set_apart,
)
from refimpl.masks import count_kept
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "sensitivity_budgets.json"
BUDGETS = ("uniform", "erk", "threshold", "marginal", "magnitude", "lamp")


@cache
def short_run():
    with pinned_threads(1):
        return run_once({"network": "300-100", "epochs": 5}, 0)


@pytest.mark.parametrize("budget", BUDGETS)
def test_run_once_keeps_the_same_total_with(budget):
    totals = [sum(counts) for counts in short_run()[f"{budget}_kept"]]
    assert totals == [count_kept(50_200, sparsity) for sparsity in SPARSITIES]


@pytest.mark.parametrize("budget", BUDGETS)
def test_run_once_fine_tuning_repairs_the_cut_of(budget):
    assert short_run()[f"{budget}_tuned"][0] > short_run()[f"{budget}_cut"][0]


def test_run_once_learns_the_digits():
    assert short_run()["dense"] >= 0.9


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__() == short_run()


def test_run_once_rejects_another_network():
    with pytest.raises(KeyError, match="lenet5"):
        run_once({"network": "lenet5"}, 0)


def test_images_set_apart_are_a_fifth_and_none_is_trained_on():
    digits = load_digits()
    smaller, (images, labels) = set_apart(digits, np.random.default_rng(0))
    rows = np.concatenate([images, smaller.train_images]).reshape(1437, -1)
    assert len(images) == len(labels) == 1437 // 5
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)],
        (all_rows := digits.train_images.reshape(1437, -1))[np.lexsort(all_rows.T)],
    )


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_budgets_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_budgets_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
