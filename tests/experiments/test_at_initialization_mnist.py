"""The mask is chosen before training, the epoch by validation, and never by the test set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import Dataset
from refimpl.experiments import at_initialization_mnist
from refimpl.experiments.at_initialization_mnist import SEEDS, SETTINGS, run_once
from refimpl.masks import count_kept
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "at_initialization_mnist.json"


def striped_images(n, rng):
    """Images whose class says which two rows are bright: as large as MNIST's, easy to learn."""
    labels = rng.integers(0, 10, n)
    images = rng.random((n, 1, 28, 28), dtype=np.float32) / 4
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 2] += 1
    return images, labels


@pytest.fixture
def stripes(monkeypatch):
    """A small data set of MNIST's shape."""
    rng = np.random.default_rng(0)
    few = Dataset(*striped_images(600, rng), *striped_images(100, rng))
    monkeypatch.setattr(at_initialization_mnist, "load_mnist", lambda: few)


@pytest.mark.usefixtures("stripes")
@pytest.mark.parametrize("setting", SETTINGS[:6], ids=lambda setting: setting["method"])
def test_run_once_trains_a_network_of_the_exact_count(setting):
    with pinned_threads(1):
        result = run_once(setting | {"epochs": 3}, 0)
    assert sum(result["kept"]) == count_kept(266_200, setting["sparsity"])
    assert result["least"] <= min(result["validated"], result["last"])
    assert result["least"] < 50  # of 90 for a guess


@pytest.mark.usefixtures("stripes")
def test_validation_chooses_the_epoch_and_not_the_test_set(monkeypatch):
    evaluate = at_initialization_mnist.evaluate
    accuracies = iter([0.1, 0.9, 0.3, 0.7])  # validation and test, at two steps

    def planted(*arguments):
        return evaluate(*arguments)._replace(accuracy=next(accuracies))

    monkeypatch.setattr(at_initialization_mnist, "evaluate", planted)
    result = run_once({"method": "random", "sparsity": 0.9, "epochs": 4}, 0)
    assert (result["validated"], result["last"], result["least"]) == (30.0, 30.0, 10.0)


@pytest.mark.usefixtures("stripes")
def test_run_once_rejects_another_method():
    with pytest.raises(KeyError, match="lottery"):
        run_once({"method": "lottery", "sparsity": 0.9}, 0)


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_errors_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_errors_come_from_committed_code(recorded):
    assert {machine["dirty"] for machine in recorded["machines"]} == {False}
