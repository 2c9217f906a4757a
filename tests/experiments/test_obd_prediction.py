"""The rise of the error comes apart into the terms that the figure claims, in runs cut short."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refimpl import nn
from refimpl.data import load_digits
from refimpl.experiments.obd_prediction import (
    FRACTIONS,
    RETRAINED,
    SEEDS,
    SETTINGS,
    TERMS,
    digit_targets,
    error,
    run_once,
    tanh_network,
    terms,
)
from refimpl.measure import pinned_threads
from refimpl.prune import parameter_vector
from support.differences import central_differences

RECORD = Path(__file__).parents[2] / "book" / "results" / "obd_prediction.json"
ORDERS = ("obd", "magnitude", "random")


@cache
def short_run(seed=0, pixels="ink"):
    with pinned_threads(1):
        return run_once({"weight_decay": 1e-4, "pixels": pixels, "iterations": 30}, seed)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("term", TERMS)
def test_run_once_has_every_term_at_every_fraction(order, term):
    assert len(short_run()[f"{order}_{term}"]) == len(FRACTIONS)


def test_run_once_retrains_after_every_tenth():
    lengths = {len(short_run()[f"retrained_{part}"]) for part in ("train", "test")}
    assert lengths == {len(RETRAINED)}


def test_run_once_learns_the_digits():
    assert short_run()["accuracy"] > 0.8


def test_run_once_repeats_to_the_bit():
    assert short_run.__wrapped__() == short_run()


def test_run_once_differs_between_seeds():
    assert short_run(1)["train"] != short_run()["train"]


def test_run_once_scales_the_pixels_as_asked():
    flat = [short_run(0, pixels)["flat"] for pixels in ("ink", "standardized")]
    assert flat[0] > 0.03  # what hangs on pixels that are always 0
    assert flat[1] == 0


@pytest.mark.parametrize(
    ("setting", "key"),
    [({"pixels": "ink"}, "weight_decay"), ({"weight_decay": 1e-4}, "pixels")],
)
def test_run_once_asks_for_a_missing_key(setting, key):
    with pytest.raises(KeyError, match=key):
        run_once(setting | {"iterations": 1}, 0)


def test_run_once_refuses_other_pixels():
    with pytest.raises(KeyError, match="inverted"):
        run_once({"weight_decay": 1e-4, "pixels": "inverted"}, 0)


def test_obd_predicts_the_least_of_all_orders():
    run = short_run()
    predicted = np.array([run[f"{order}_diagonal"] for order in ORDERS])
    assert (predicted[0] <= predicted[1:]).all()


@pytest.fixture
def problem():
    """A linear network, whose error is a parabola, and its second derivatives."""
    rng = np.random.default_rng(0)
    network = nn.Network({"fc": nn.Linear(3, 2, rng=rng, dtype=np.float64)})
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    return network, x, y, nn.hessian(network, x, y, nn.mean_squared_error)


def deleted(network, saliency, fraction):
    """The change of the parameters, worked out with a sort."""
    w = parameter_vector(network)
    u = np.zeros(w.size)
    gone = np.argsort(saliency)[: round(fraction * w.size)]
    u[gone] = -w[gone]
    return u


def test_terms_of_a_parabola_add_up(problem):
    network, x, y, hessian = problem
    found = terms(network, np.arange(8.0), x, y, hessian.diagonal())
    sums = np.add(found["slope"], found["quadratic"])
    np.testing.assert_allclose(sums, found["actual"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("place", [0, 5, 11])
def test_terms_are_those_of_taylors_expansion(problem, place):
    network, x, y, hessian = problem
    saliency = np.random.default_rng(1).random(8)
    found = {name: v[place] for name, v in terms(network, saliency, x, y, 1 + np.arange(8)).items()}
    u = deleted(network, saliency, FRACTIONS[place])
    values = [parameter.value for parameter in network.parameters()]
    slopes = [central_differences(lambda: error(network, x, y), value).ravel() for value in values]
    assert found["slope"] == pytest.approx(np.concatenate(slopes) @ u, abs=1e-8)
    assert found["diagonal"] == pytest.approx((1 + np.arange(8)) @ u**2 / 2)
    assert found["quadratic"] == pytest.approx(u @ hessian @ u / 2, abs=1e-8)


def test_terms_leave_the_network_as_it_was(problem):
    network, x, y, hessian = problem
    before = parameter_vector(network).tobytes()
    terms(network, np.arange(8.0), x, y, hessian.diagonal())
    assert parameter_vector(network).tobytes() == before


def test_tanh_network_has_the_parameters_that_the_page_names():
    assert parameter_vector(tanh_network(np.random.default_rng(0))).size == 2410


def test_targets_are_one_for_the_digit_and_minus_one_for_others():
    digits = load_digits()
    (x, y), (test_x, test_y), labels = digit_targets(digits)
    assert (x.shape, y.shape, test_x.shape, test_y.shape) == (
        (1200, 64), (1200, 10), (360, 64), (360, 10),
    )  # fmt: skip
    np.testing.assert_array_equal(y.argmax(axis=1), digits.train_labels[:1200])
    np.testing.assert_array_equal(test_y.argmax(axis=1), labels)
    assert (y.sum(axis=1) == -8).all()


# --- the record that the page reads -----------------------------------------------------------


@pytest.fixture
def recorded():
    return json.loads(RECORD.read_text("utf8"))


def test_record_has_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_record_comes_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
