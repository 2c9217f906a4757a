"""LeNet-5 loses half its FLOPs and no more than half a point, as the record says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import Dataset
from refimpl.experiments import channel_pruning_mnist
from refimpl.experiments.channel_pruning_mnist import SEEDS, SETTINGS, run_once
from refimpl.measure import pinned_threads

RECORD = Path(__file__).parents[2] / "book" / "results" / "channel_pruning_mnist.json"


@pytest.fixture
def two_images(monkeypatch):
    """A data set as MNIST's, of which nothing is to be learned."""
    images = np.random.default_rng(0).random((2, 1, 28, 28), dtype=np.float32)
    labels = np.array([3, 7])
    few = Dataset(images, labels, images, labels)
    monkeypatch.setattr(channel_pruning_mnist, "load_mnist", lambda: few)


@pytest.mark.usefixtures("two_images")
def test_run_once_cuts_lenet5_to_half_its_flops():
    with pinned_threads(1):
        result = run_once({"flops": 0.5}, 0)
    assert result["widths"] == {"conv1": 13, "conv2": 34, "fc1": 337}
    assert result["flops"] == 2_162_196 / 4_586_000


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_pruning_has_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_pruning_comes_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]


def test_recorded_lenet5_of_half_the_flops_is_within_half_a_point_of_dense(recorded):
    (results,) = [g["results"] for g in recorded["settings"] if g["setting"] == {"flops": 0.5}]
    assert all(flops <= 0.5 for flops in results["flops"]["values"])
    assert results["dense"]["mean"] >= 0.99
    assert results["dense"]["mean"] - results["fine_tuned"]["mean"] <= 0.005
