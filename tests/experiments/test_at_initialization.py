"""Every method prunes the same untrained network to the same count, and the record is whole."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import load_digits
from refimpl.experiments.at_initialization import (
    METHODS,
    SEEDS,
    SETTINGS,
    heated_cross_entropy,
    masks_by,
    one_batch,
    run_once,
    weights_left,
)
from refimpl.masks import count_kept
from refimpl.measure import pinned_threads
from refimpl.nn import mlp
from support.differences import assert_gradient_close, central_differences

RECORD = Path(__file__).parents[2] / "book" / "results" / "at_initialization.json"


@cache
def short_run():
    with pinned_threads(1):
        return run_once({"sparsity": 0.9, "epochs": 5}, 0)


@pytest.mark.parametrize("method", METHODS)
def test_run_once_keeps_the_same_total_with(method):
    assert sum(short_run()[f"{method}_kept"]) == count_kept(50_200, 0.9)


@pytest.mark.parametrize("method", ["dense", *METHODS])
def test_run_once_learns_the_digits_with(method):
    assert short_run()[method] >= 0.5  # of 0.1 for a guess, after 5 epochs of 50


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__() == short_run()


def test_methods_choose_different_masks():
    kept = [tuple(short_run()[f"{method}_kept"]) for method in METHODS]
    assert len(set(kept)) == len(METHODS)


def test_masks_by_rejects_another_method():
    batch = one_batch(load_digits(), np.random.default_rng(0))
    network = mlp((64, 10), rng=np.random.default_rng(0))
    with pytest.raises(KeyError, match="lottery"):
        masks_by("lottery", network, batch, 0.5, np.random.default_rng(0))


def test_one_batch_draws_a_hundred_different_training_images():
    digits = load_digits()
    images, labels = one_batch(digits, np.random.default_rng(0))
    rows = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    known = zip(digits.train_images, digits.train_labels, strict=True)
    found = {image.tobytes(): label for image, label in known}
    assert len(rows) == 100
    assert all(found[image] == label for image, label in rows.items())


def test_gradient_of_the_heated_loss_is_right():
    rng = np.random.default_rng(0)
    logits, labels = 200 * rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    slope = central_differences(lambda: heated_cross_entropy(logits, labels)[0], logits, step=1e-3)
    assert_gradient_close(heated_cross_entropy(logits, labels)[1], slope)


def test_weights_left_counts_a_layer_without_mask_whole():
    network = mlp((4, 3, 2), rng=np.random.default_rng(0))
    network.weights()["fc2.weight"].mask = np.eye(2, 3, dtype=bool)
    assert weights_left(network) == [12, 2]


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_masks_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_masks_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
