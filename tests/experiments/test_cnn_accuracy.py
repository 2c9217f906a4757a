"""The accuracies of the small networks are measured as said, in runs cut short."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import Dataset
from refimpl.experiments import cnn_accuracy, run, summarize
from refimpl.experiments.cnn_accuracy import MODELS, SEEDS, SETTINGS, run_once
from refimpl.measure import pinned_threads

ROOT = Path(__file__).parents[2]
DIGITS = [setting for setting in SETTINGS if setting["data"] == "digits"]


@cache
def short_run(model, seed=0, epochs=2):
    with pinned_threads(1):  # as the runner does
        return run_once({"data": "digits", "model": model, "epochs": epochs}, seed)


def test_cnn_accuracy_has_every_model_once():
    assert sorted(setting["model"] for setting in SETTINGS) == sorted(MODELS)


def test_cnn_accuracy_trains_mnist_for_at_most_five_epochs():
    assert [s["epochs"] <= 5 for s in SETTINGS if s["data"] == "mnist"] == [True]


@pytest.mark.parametrize("model", ["small_vgg", "small_resnet"])
def test_run_once_learns_the_digits(model):
    assert short_run(model)["accuracy"] >= 0.9


def test_run_once_reports_every_epoch_and_the_last():
    result = short_run("mlp")
    assert len(result["by_epoch"]) == 2
    assert result["accuracy"] == result["by_epoch"][-1]


@pytest.mark.parametrize(("model", "n"), [("mlp", 50_610), ("small_vgg", 17_754)])
def test_run_once_counts_the_parameters(model, n):
    assert short_run(model)["parameters"] == n


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__("mlp") == short_run("mlp")


def test_run_once_differs_between_seeds():
    assert short_run("mlp", seed=1) != short_run("mlp")


def test_run_once_ends_with_the_smallest_steps():
    # Of two epochs the first is at full learning rate; of one, half is not.
    assert short_run("mlp", epochs=1)["by_epoch"][0] != short_run("mlp")["by_epoch"][0]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "run_once: epochs must be at least 1, got 0"),
        ({"data": "letters"}, KeyError, "letters"),
        ({"model": "vgg16"}, KeyError, "vgg16"),
    ],
)
def test_run_once_rejects_another_setting(changed, error, message):
    with pytest.raises(error, match=message):
        run_once({**DIGITS[0], **changed}, 0)


def test_cnn_accuracy_runs_through_the_runner(tmp_path):
    settings = [{**setting, "epochs": 1} for setting in DIGITS[:1]]
    records = run(run_once, settings, [0, 1], folder=tmp_path, progress=False)
    (group,) = summarize(records)["settings"]
    assert group["results"]["parameters"]["values"] == [50_610, 50_610]


def test_run_once_trains_lenet5_on_mnist(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 40)
    parts = Dataset(images[:30], labels[:30], images[30:], labels[30:])
    monkeypatch.setattr(cnn_accuracy, "load_mnist", lambda: parts)
    result = run_once({"data": "mnist", "model": "lenet5", "epochs": 1}, 0)
    assert result["parameters"] == 431_080
    assert 0 <= result["accuracy"] <= 1


# --- what the chapter reads ------------------------------------------------------------------


@pytest.fixture
def recorded():
    return json.loads((ROOT / "book" / "results" / "cnn_accuracy.json").read_text("utf8"))


def results_of(recorded, model):
    (results,) = [g["results"] for g in recorded["settings"] if g["setting"]["model"] == model]
    return results


def test_recorded_accuracies_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_accuracies_come_from_committed_code(recorded):
    assert {machine["dirty"] for machine in recorded["machines"]} == {False}


@pytest.mark.parametrize("model", ["small_vgg", "small_resnet"])
def test_recorded_networks_reach_ninety_eight_percent_on_the_digits(recorded, model):
    assert results_of(recorded, model)["accuracy"]["mean"] >= 0.98


def test_recorded_lenet5_reaches_ninety_nine_percent_on_mnist(recorded):
    assert results_of(recorded, "lenet5")["accuracy"]["mean"] >= 0.99
