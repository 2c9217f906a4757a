"""The magnitude curve computes what its figure claims, in runs cut short."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from refimpl.experiments import run, summarize
from refimpl.experiments.magnitude_curve import SEEDS, SETTINGS, SPARSITIES, run_once
from refimpl.measure import pinned_threads

ROOT = Path(__file__).parents[2]
SIZE = 64 * 300 + 300 * 100 + 100 * 10


@cache
def short_run(saliency, sparsity, seed=0):
    with pinned_threads(1):  # as the runner does: two threads only wait for each other here
        return run_once({"saliency": saliency, "sparsity": sparsity, "epochs": 5}, seed)


@pytest.mark.parametrize("saliency", ["magnitude", "random"])
def test_magnitude_curve_has_every_sparsity_for(saliency):
    assert {s["sparsity"] for s in SETTINGS if s["saliency"] == saliency} >= set(SPARSITIES)


def test_magnitude_curve_has_ten_seeds():
    assert len(set(SEEDS)) == 10


@pytest.mark.parametrize("saliency", ["magnitude", "random"])
def test_run_once_keeps_exactly_a_tenth_at_ninety_percent(saliency):
    assert short_run(saliency, 0.9)["kept"] == SIZE // 10


def test_run_once_at_zero_cuts_nothing():
    result = short_run("magnitude", 0.0)
    assert (result["kept"], result["one_shot"]) == (SIZE, result["dense"])


def test_run_once_starts_every_setting_from_the_same_network():
    dense = {short_run(s, p)["dense"] for s, p in [("magnitude", 0.0), ("random", 0.9)]}
    assert len(dense) == 1


def test_run_once_learns_the_digits():
    assert short_run("magnitude", 0.0)["dense"] >= 0.9


def test_run_once_fine_tuning_repairs_the_cut():
    result = short_run("magnitude", 0.9)
    assert result["fine_tuned"] > result["one_shot"] + 0.1


def test_run_once_cutting_by_magnitude_beats_cutting_at_random():
    assert short_run("magnitude", 0.5)["one_shot"] > short_run("random", 0.5)["one_shot"] + 0.1


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__("random", 0.9) == short_run("random", 0.9)


def test_run_once_differs_between_seeds():
    assert short_run("random", 0.9, seed=1) != short_run("random", 0.9)


def test_magnitude_curve_runs_through_the_runner(tmp_path):
    settings = [{**setting, "epochs": 0} for setting in SETTINGS[:2]]
    records = run(run_once, settings, [0, 1], folder=tmp_path, progress=False)
    results = [group["results"]["kept"]["values"] for group in summarize(records)["settings"]]
    assert results == [[SIZE, SIZE], [SIZE // 2, SIZE // 2]]


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads((ROOT / "book" / "results" / "magnitude_curve.json").read_text("utf8"))


def test_recorded_curve_has_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_curve_comes_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]


def test_recorded_curve_is_a_point_from_dense_at_ninety_percent(recorded):
    setting = {"saliency": "magnitude", "sparsity": 0.9}
    (results,) = [g["results"] for g in recorded["settings"] if g["setting"] == setting]
    lost = results["dense"]["mean"] - results["fine_tuned"]["mean"]
    assert 0 < lost <= 0.01


def test_run_once_rejects_another_saliency():
    with pytest.raises(KeyError, match="taylor"):
        run_once({"saliency": "taylor", "sparsity": 0.5, "epochs": 0}, 0)
