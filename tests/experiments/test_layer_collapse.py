"""The network has VGG-16's shapes, and the search stops where the first layer is empty."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from refimpl.experiments.layer_collapse import (
    SEEDS,
    SETTINGS,
    STAGES,
    critical_compression,
    ranked_once,
    run_once,
    vgg,
)
from refimpl.nn import mlp

RECORD = Path(__file__).parents[2] / "book" / "results" / "layer_collapse.json"
SMALL = [[4, 1], [8, 2]]


def test_vgg_has_the_weights_of_the_paper():
    sizes = [w.size for w in vgg(STAGES, rng=np.random.default_rng(0)).weights().values()]
    assert (len(sizes), sum(sizes)) == (14, 14_761_664)
    assert sizes[0] == 3 * 64 * 9


def test_vgg_takes_images_of_32_pixels():
    network = vgg(((2, 1), (3, 2)), rng=np.random.default_rng(0))
    assert network.forward(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 100)


def test_critical_compression_is_the_last_before_a_layer_is_empty():
    network = mlp((10, 10, 10), rng=np.random.default_rng(0))
    scores = {"fc1.weight": np.full((10, 10), 2.0), "fc2.weight": np.ones((10, 10))}
    scores["fc2.weight"][0, 0] = 3.0  # the best of all: it stays to the end
    scores["fc1.weight"][0, :6] = 1.5

    def choose(sparsity):
        return ranked_once(scores, sparsity)

    found = critical_compression(network, choose)
    assert found["most"] == math.log10(100)
    assert found["critical"] == 2.0
    scores["fc2.weight"][0, 0] = 1.0  # now 100 weights of the first layer stand before it
    assert critical_compression(network, choose)["critical"] == 0.25


def test_critical_compression_takes_a_flow_that_runs_dry_for_a_collapse():
    network, seen = mlp((10, 10, 10), rng=np.random.default_rng(0)), []

    def choose(sparsity):
        seen.append(sparsity)
        if len(seen) < 3:
            raise FloatingPointError("dry")
        return {"fc1.weight": np.ones((10, 10), bool), "fc2.weight": np.ones((10, 10), bool)}

    assert critical_compression(network, choose)["critical"] == 1.5


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting["method"])
def test_run_once_leaves_a_weight_in_every_layer(setting):
    result = run_once(setting | {"stages": SMALL}, 0)
    size = 3 * 4 * 9 + 4 * 8 * 9 + 8 * 8 * 9 + 8 * 64 * 100
    assert min(result["kept"]) >= 1
    assert abs(sum(result["kept"]) - size / 10 ** result["critical"]) <= 0.5
    assert 0.25 <= result["critical"] <= result["most"]


def test_run_once_synflow_reaches_the_most_that_quarters_allow():
    result = run_once({"method": "synflow", "stages": SMALL}, 0)
    assert result["critical"] == math.floor(4 * result["most"]) / 4


def test_run_once_rejects_another_method():
    with pytest.raises(KeyError, match="lottery"):
        run_once({"method": "lottery", "stages": SMALL}, 0)


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_compressions_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_compressions_come_from_committed_code(recorded):
    assert {machine["dirty"] for machine in recorded["machines"]} == {False}


def test_recorded_synflow_passes_the_others_a_hundredfold_and_magnitude_is_as_published(recorded):
    critical = {g["setting"]["method"]: g["results"]["critical"] for g in recorded["settings"]}
    assert min(critical["synflow"]["values"]) >= max(critical["random"]["values"]) + 2
    assert set(critical["magnitude"]["values"]) == {2.75}
