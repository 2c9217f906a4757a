"""A summary says what the runs say, no more."""

from __future__ import annotations

import json
import statistics

import pytest

from refimpl.experiments import summarize, write_summary


def record(scale, seed, result, *, experiment="a.f", machine="m"):
    return {
        "experiment": experiment,
        "setting": {"scale": scale},
        "seed": seed,
        "result": result,
        "seconds": 0.5,
        "machine": {"cpu": machine},
    }


TOY = [record(s, seed, {"loss": s * seed, "name": "x"}) for s in (1.0, 2.0) for seed in (0, 1, 4)]


def test_summarize_keeps_values_in_the_order_of_seeds():
    summary = summarize(TOY)
    assert summary["seeds"] == [0, 1, 4]
    assert summary["settings"][1]["results"]["loss"]["values"] == [0.0, 2.0, 8.0]


def test_summarize_gives_mean_and_sample_deviation():
    loss = summarize(TOY)["settings"][0]["results"]["loss"]
    assert (loss["mean"], loss["sd"], loss["n"]) == (5 / 3, statistics.stdev([0, 1, 4]), 3)


def test_summarize_adds_the_seconds():
    assert summarize(TOY)["seconds"] == 3.0


def test_summarize_of_one_seed_has_no_deviation():
    assert summarize(TOY[:1])["settings"][0]["results"]["loss"]["sd"] is None


@pytest.mark.parametrize("value", ["x", True, None, float("nan"), [1.0]])
def test_summarize_takes_no_mean_of(value):
    results = summarize([record(1.0, 0, {"value": value})])["settings"][0]["results"]
    assert results["value"].keys() == {"values"}


def test_summarize_names_each_machine_once():
    records = [record(1.0, seed, {}, machine=name) for seed, name in enumerate("aabba")]
    assert summarize(records)["machines"] == [{"cpu": "a"}, {"cpu": "b"}]


def test_summarize_rejects_mixed_experiments():
    with pytest.raises(ValueError, match="records must come from one experiment, got"):
        summarize([TOY[0], record(1.0, 1, {}, experiment="b.g")])


def test_summarize_rejects_no_records():
    with pytest.raises(ValueError, match="records must come from one experiment, got none"):
        summarize([])


def test_summarize_rejects_settings_with_other_seeds():
    with pytest.raises(ValueError, match="records must have the same seeds, in the same order"):
        summarize(TOY[:-1])


def test_write_summary_is_readable_json(tmp_path):
    summary = summarize(TOY)
    write_summary(summary, tmp_path / "new" / "toy.json")
    assert json.loads((tmp_path / "new" / "toy.json").read_text()) == summary
