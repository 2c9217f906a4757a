"""LeNet-300-100 is cut in every way, and what is recorded of MNIST has every seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import Dataset
from refimpl.experiments import layerwise_obs, layerwise_obs_mnist
from refimpl.experiments.layerwise_obs_mnist import SEEDS, SETTINGS, run_once
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "layerwise_obs_mnist.json"


@pytest.fixture
def few_images(monkeypatch):
    """A data set as MNIST's, of which nothing is to be learned, and one way and sparsity."""
    images = np.random.default_rng(0).random((20, 1, 28, 28), dtype=np.float32)
    labels = np.arange(20) % 10
    few = Dataset(images, labels, images, labels)
    monkeypatch.setattr(layerwise_obs_mnist, "load_mnist", lambda: few)
    monkeypatch.setattr(layerwise_obs_mnist, "SPARSITIES", (0.92,))
    ways = {name: layerwise_obs.WAYS[name] for name in ("magnitude", "layerwise_obs")}
    monkeypatch.setattr(layerwise_obs, "WAYS", ways)


@pytest.mark.usefixtures("few_images")
def test_run_once_cuts_lenet_300_100():
    with pinned_threads(1):
        result = run_once(SETTINGS[0], 0)
    # 8 % of 235,200 and of 30,000, 26 % of 1,000; biases that start at 0 have been trained
    assert result["magnitude_kept"] == result["layerwise_obs_kept"] == [18816 + 2400 + 260 + 410]


@pytest.mark.usefixtures("few_images")
def test_run_once_rejects_another_network():
    with pytest.raises(KeyError, match="lenet5"):
        run_once({"network": "lenet5"}, 0)


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_mnist_has_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_mnist_comes_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
