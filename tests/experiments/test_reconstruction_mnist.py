"""The comparison of the LeNets runs on images as MNIST's, and says so where there is no MNIST."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import Dataset
from refimpl.experiments import reconstruction_mnist
from refimpl.experiments.reconstruction_mnist import SEEDS, SETTINGS, run_once
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "reconstruction_mnist.json"


@pytest.fixture
def few_images(monkeypatch):
    """A data set as MNIST's, of which nothing is to be learned."""
    images = np.random.default_rng(0).random((100, 1, 28, 28), dtype=np.float32)
    labels = np.arange(100) % 10
    few = Dataset(images, labels, images, labels)
    monkeypatch.setattr(reconstruction_mnist, "load_mnist", lambda: few)


@pytest.mark.usefixtures("few_images")
def test_run_once_measures_with_every_fifth_test_image(monkeypatch):
    seen = []

    def look(_network, data, sparsity, _rng, *, n_calibration):
        seen.append((len(data.test_labels), sparsity, n_calibration))
        return {}

    monkeypatch.setattr(reconstruction_mnist, "compare", look)
    with pinned_threads(1):
        run_once({"network": "lenet_300_100", "sparsity": 0.9}, 0)
    assert seen == [(20, 0.9, 100)]


@pytest.mark.usefixtures("few_images")
def test_run_once_rejects_another_network():
    with pytest.raises(KeyError, match="small_vgg"):
        run_once({"network": "small_vgg", "sparsity": 0.9}, 0)


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_networks_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_networks_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
