"""The five ways to a 2:4 network do what the comparison says, in runs cut short."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl.experiments import run, summarize, two_four_training
from refimpl.experiments.two_four_training import METHODS, SEEDS, SETTINGS, run_once
from refimpl.measure import pinned_threads
from refimpl.nn import Network

ROOT = Path(__file__).parents[2]
LEARNED = "straight_through"
KEPT = (64 * 16 + 16 * 10) // 2
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)


def setting(method, epochs=4, **more):
    if method == LEARNED:
        more = {"pruned_decay": 0.0} | more
    return {"network": "mlp", "method": method, "epochs": epochs} | more


@cache
def short_run(method, seed=0, **more):
    with pinned_threads(1):
        return run_once(setting(method, **more), seed)


@EVERY_METHOD
def test_run_once_keeps_two_of_every_four(method):
    assert short_run(method)["kept"] == KEPT


@EVERY_METHOD
def test_run_once_learns_the_digits(method):
    assert short_run(method)["accuracy"] > 0.7


@EVERY_METHOD
def test_run_once_takes_the_same_number_of_epochs_in(method, monkeypatch):
    calls = []
    fit = two_four_training.fit
    monkeypatch.setattr(
        two_four_training, "fit", lambda *a, **k: (calls.append(k["epochs"]), fit(*a, **k))
    )
    run_once(setting(method), 0)
    assert sum(calls) == 4


def schedules(method, monkeypatch):
    """The learning rate, hooks and masks with which each training of a run begins."""
    seen = []

    def look(network, optimizer, *_, schedule, **more):  # noqa: ARG001 - as fit is called
        mask = next(iter(network.weights().values())).mask
        seen.append((schedule(1), "after_step" in more, mask is not None))
        for weight in network.weights().values():
            weight.grad = np.ones_like(weight.value)
        for hook in ("after_backward", "after_step") * 10:
            more.get(hook, str)(1)

    monkeypatch.setattr(two_four_training, "fit", look)
    run_once(setting(method), 0)
    return seen


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("one_shot", [(0.1, False, False)]),
        ("first_mask", [(0.1, False, True)]),
        ("fine_tune", [(0.1, False, False), (pytest.approx(0.01), False, True)]),
        ("recipe", [(0.1, False, False), (0.1, False, True)]),
        (LEARNED, [(0.1, True, False)]),
    ],
)
def test_run_once_trains_with_the_rates_and_masks_of_its_method(method, expected, monkeypatch):
    assert schedules(method, monkeypatch) == expected


def test_one_shot_loses_by_the_cut():
    result = short_run("one_shot")
    assert result["dense_loss"] < result["loss"]


def test_straight_through_tests_dense_weights_that_differ_from_the_masked():
    result = short_run(LEARNED)
    assert result["dense_loss"] != result["loss"]


def test_straight_through_records_flips_that_explain_how_far_the_mask_moved():
    result = short_run(LEARNED)
    n_steps = 4 * 29
    assert len(result["flip_rate"]) == 10
    assert 0 < result["moved"] <= np.mean(result["flip_rate"]) * n_steps * 1.01


def test_straight_through_with_a_strong_pull_flips_less():
    assert sum(short_run(LEARNED, pruned_decay=0.2)["flip_rate"]) < sum(
        short_run(LEARNED)["flip_rate"]
    )


def test_every_network_has_groups_of_four_but_for_what_is_ignored():
    rng = np.random.default_rng(0)
    for name, make in two_four_training.NETWORKS.items():
        network = make(rng=rng)
        odd = {key for key, w in network.weights().items() if w.shape[1] % 4}
        assert odd == set(two_four_training.IGNORE[name])
        assert isinstance(network, Network)


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__("recipe") == short_run("recipe")


def test_run_once_differs_between_seeds():
    assert short_run("recipe", seed=1)["loss"] != short_run("recipe")["loss"]


@pytest.mark.parametrize("key", ["network", "method"])
def test_run_once_rejects_another(key):
    with pytest.raises(KeyError, match="another"):
        run_once(setting("one_shot") | {key: "another"}, 0)


def test_two_four_training_runs_through_the_runner(tmp_path):
    settings = [setting(method, epochs=2) for method in ("recipe", LEARNED)]
    records = run(run_once, settings, [0, 1], folder=tmp_path, progress=False)
    results = [group["results"]["kept"]["values"] for group in summarize(records)["settings"]]
    assert results == [[KEPT, KEPT]] * 2


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads((ROOT / "book" / "results" / "two_four_training.json").read_text("utf8"))


def test_recorded_experiment_has_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_experiment_comes_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]


def test_recorded_networks_are_two_four(recorded):
    kept = {
        (group["setting"]["network"], count)
        for group in recorded["settings"]
        for count in group["results"]["kept"]["values"]
    }
    assert kept == {("mlp", KEPT), ("vgg", 36 + (4 * 36 + 8 * 36 + 8 * 72 + 10 * 32) // 2)}
