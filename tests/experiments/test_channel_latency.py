"""What is timed computes the same as the masked network, and the record names every width."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.experiments import channel_latency
from refimpl.experiments.channel_latency import FRACTIONS, SETTINGS, run_once

CUTS = {"networks": "cuts", "batch": 2, "repeats": 1}
WIDTHS = {"networks": "widths of conv2", "batch": 2, "repeats": 1}
DENSE_FLOPS = 4_586_000


@pytest.fixture(scope="module")
def cuts():
    return run_once(CUTS, seed=0)


def names(result):
    return [key.removesuffix("_seconds") for key in result if key.endswith("_seconds")]


def test_record_has_every_cut(cuts):
    assert names(cuts) == ["dense", "masked", *FRACTIONS, "half_in_eights"]
    assert all(cuts[f"{name}_seconds"] > 0 for name in names(cuts))


@pytest.mark.parametrize("setting", [CUTS, WIDTHS], ids=["cuts", "widths"])
def test_dense_is_the_yardstick(setting):
    result = run_once(setting, seed=0)
    assert (result["dense_speedup"], result["dense_flops"]) == (1.0, DENSE_FLOPS)


def test_masked_network_has_all_flops(cuts):
    assert cuts["masked_flops"] == DENSE_FLOPS


@pytest.mark.parametrize("name", FRACTIONS)
def test_cuts_are_within_their_fraction(cuts, name):
    assert cuts[f"{name}_flops"] <= FRACTIONS[name] * DENSE_FLOPS


def test_half_in_eights_has_widths_of_eights(cuts):
    assert [width % 8 for width in cuts["half_in_eights_widths"][:-1]] == [0, 0, 0]


def test_widths_of_conv2_cost_the_same_each():
    result = run_once(WIDTHS, seed=0)
    flops = [result[f"conv2_{width}_flops"] for width in range(8, 51)]
    a_channel = 2 * (20 * 25 * 64 + 16 * 500)  # of conv2, and of what fc1 makes of it
    assert np.diff(flops).tolist() == [a_channel] * 42
    assert flops[-1] == DENSE_FLOPS


def test_wrong_network_is_never_timed(monkeypatch):
    def forgets_the_biases(network, keeps):
        masked = mask_channels(network, keeps)
        masked.named_parameters()["fc2.bias"].value += 1
        return masked

    mask_channels = channel_latency.mask_channels
    monkeypatch.setattr(channel_latency, "mask_channels", forgets_the_biases)
    message = "the cut network must have the outputs of the masked network, got 1.0"
    with pytest.raises(ValueError, match=f"channel_latency: {message}"):
        run_once(CUTS, seed=0)


def test_settings_are_one_image_and_a_hundred():
    assert {setting["batch"] for setting in SETTINGS} == {1, 100}
    assert len(SETTINGS) == 4
