"""The scans of the LeNets run on images as MNIST's, and say so where there is no MNIST."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import Dataset
from refimpl.experiments import layer_sensitivity_mnist
from refimpl.experiments.layer_sensitivity_mnist import SEEDS, SETTINGS, run_once
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "layer_sensitivity_mnist.json"


@pytest.fixture
def few_images(monkeypatch):
    """A data set as MNIST's, of which nothing is to be learned."""
    images = np.random.default_rng(0).random((20, 1, 28, 28), dtype=np.float32)
    labels = np.arange(20) % 10
    few = Dataset(images, labels, images, labels)
    monkeypatch.setattr(layer_sensitivity_mnist, "load_mnist", lambda: few)


@pytest.mark.usefixtures("few_images")
def test_run_once_scans_every_tenth_test_image():
    with pinned_threads(1):
        result = run_once({"network": "lenet_300_100"}, 0)
    assert result["sizes"] == [235_200, 30_000, 1_000]
    assert set(np.ravel(result["fraction_accuracy"])) <= {0.0, 0.5, 1.0}


@pytest.mark.usefixtures("few_images")
def test_run_once_trains_on_the_first_images_only():
    with pinned_threads(1):
        few, all_of_them = (
            run_once({"network": "lenet_300_100", **n}, 0) for n in ({"images": 2}, {})
        )
    assert few["together_loss"] != all_of_them["together_loss"]


def test_run_once_rejects_another_network():
    with pytest.raises(KeyError, match="small_vgg"):
        run_once({"network": "small_vgg"}, 0)


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_scans_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_scans_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
