"""A scan measures each layer alone, finds a bottleneck, and leaves the network as it was."""

from __future__ import annotations

import itertools
import math
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refimpl.masks import channels, count_kept, unstructured
from refimpl.nn import Conv2d, Evaluation, Flatten, Linear, Network, evaluate
from refimpl.nn.models import mlp
from refimpl.prune import (
    SensitivityScan,
    apply_masks,
    budgeted_masks,
    layerwise_masks,
    sensitivity_scan,
)

SPARSITIES = (0.25, 0.5, 0.75)


def data(n_in, n=40, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, n_in)), np.arange(n) % 3


def measured_by(x, labels):
    return lambda network: evaluate(network, x, labels)


def scan_of(loss, sizes=None, sparsities=(0.0, 0.2, 0.5, 0.9)):
    """What a scan that found these losses would return."""
    loss = np.array(loss)
    sizes = [10] * len(loss) if sizes is None else sizes
    names = tuple(f"fc{i}.weight" for i in range(1, len(loss) + 1))
    shapes = tuple((1, size) for size in sizes)
    return SensitivityScan(names, shapes, sparsities, loss, np.zeros(loss.shape))


def small(seed=0):
    return mlp([6, 5, 4, 3], rng=np.random.default_rng(seed), dtype=np.float64)


def without(name, sparsity):
    """What a fresh copy does with one layer pruned."""
    network = small()
    others = [other for other in network.weights() if other != name]
    apply_masks(network, layerwise_masks(network, sparsity, ignore=others))
    return evaluate(network, *data(6))


def test_scan_agrees_with_pruning_each_layer_of_a_fresh_copy():
    scan = sensitivity_scan(small(), measured_by(*data(6)), sparsities=SPARSITIES)
    expected = np.array([[without(name, s) for s in SPARSITIES] for name in small().weights()])
    np.testing.assert_array_equal(np.stack([scan.loss, scan.accuracy], -1)[:, 1:], expected)


def test_scan_starts_with_the_whole_network():
    scan = sensitivity_scan(small(), measured_by(*data(6)), sparsities=SPARSITIES)
    whole = evaluate(small(), *data(6))
    np.testing.assert_array_equal(scan.loss[:, 0], whole.loss)
    np.testing.assert_array_equal(scan.accuracy[:, 0], whole.accuracy)
    assert scan.sparsities == (0.0, *SPARSITIES)


def test_sensitivity_scan_ranks_a_planted_bottleneck_first():
    """Two wide layers copy their input many times over; the narrow one between them does not."""
    wide, narrow, copies = 64, 2, 32
    rng = np.random.default_rng(0)
    layers = {
        "fc1": Linear(narrow, wide, rng=rng, dtype=np.float64),
        "fc2": Linear(wide, narrow, rng=rng, dtype=np.float64),
        "fc3": Linear(narrow, wide, rng=rng, dtype=np.float64),
        "fc4": Linear(wide, narrow, rng=rng, dtype=np.float64),
    }
    spread = np.repeat(np.eye(narrow), copies, axis=0) + 0.01 * rng.random((wide, narrow))
    layers["fc1"].weight.value = spread
    layers["fc2"].weight.value = spread.T / copies
    layers["fc3"].weight.value = spread
    layers["fc4"].weight.value = spread.T / copies
    bottleneck = Linear(narrow, narrow, rng=rng, dtype=np.float64)
    bottleneck.weight.value = np.array([[1.0, 1.0], [1.0, -1.0]])
    names = ["fc1", "fc2", "bottleneck", "fc3", "fc4"]
    network = Network({name: layers.get(name, bottleneck) for name in names})
    x = 5 * rng.standard_normal((200, narrow))
    labels = network.forward(x).argmax(axis=1)
    scan = sensitivity_scan(network, measured_by(x, labels), sparsities=[0.5])
    assert scan.ranking(0.5)[0] == "bottleneck.weight"


def test_scan_leaves_the_network_bit_for_bit_as_it_was():
    network = small()
    apply_masks(network, layerwise_masks(network, 0.2))
    before = {name: (w.value.tobytes(), w.mask.tobytes()) for name, w in network.weights().items()}
    sensitivity_scan(network, measured_by(*data(6)), sparsities=SPARSITIES)
    after = {name: (w.value.tobytes(), w.mask.tobytes()) for name, w in network.weights().items()}
    assert before == after


def test_scan_restores_the_network_after_an_error():
    network, calls = small(), []
    before = pickle.dumps(network.state())

    def fails_later(_):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no more")
        return Evaluation(0.0, 0.0)

    with pytest.raises(RuntimeError, match="no more"):
        sensitivity_scan(network, fails_later, sparsities=SPARSITIES)
    assert pickle.dumps(network.state()) == before
    assert all(weight.mask is None for weight in network.weights().values())


def test_scan_never_brings_a_pruned_weight_back():
    network, seen = small(), []
    apply_masks(network, layerwise_masks(network, 0.6))
    pruned = {name: ~weight.mask for name, weight in network.weights().items()}

    def look(network):
        weights = network.weights().items()
        seen.append(any((weight.mask & pruned[name]).any() for name, weight in weights))
        return Evaluation(0.0, 0.0)

    worst = lambda w: -np.abs(w)  # noqa: E731 - ranks what is pruned first
    sensitivity_scan(network, look, sparsities=[0.3], saliency=worst)
    assert seen == [False] * 4


def test_scan_of_channels_prunes_whole_rows():
    rng = np.random.default_rng(0)
    layers = {"conv": Conv2d(2, 4, 3, rng=rng), "flatten": Flatten(), "fc": Linear(16, 3, rng=rng)}
    network, rows = Network(layers), []

    def look(network):
        mask = network.layers["conv"].weight.mask
        rows.append(4 if mask is None else int(mask.reshape(4, -1).all(axis=1).sum()))
        return Evaluation(0.0, 0.0)

    sensitivity_scan(network, look, sparsities=[0.25, 0.5], choose=channels, ignore=["fc.weight"])
    assert rows == [4, 3, 2]


def test_slopes_of_a_straight_line_are_its_slope():
    network = small()
    weight = network.weights()["fc1.weight"]

    def three_times_what_is_pruned(_):
        return Evaluation(0.0 if weight.mask is None else 3 * (1 - weight.mask.mean()), 0.0)

    others = ["fc2.weight", "fc3.weight"]
    sparsities = [0.1, 0.2, 0.5]  # of 30 weights, without rounding
    scan = sensitivity_scan(
        network, three_times_what_is_pruned, sparsities=sparsities, ignore=others
    )
    np.testing.assert_allclose(scan.slopes(), [[3.0] * 4], rtol=1e-12)


def test_slopes_of_a_parabola_are_exact_between_the_ends():
    s = np.array([0.0, 0.2, 0.5, 0.9])
    np.testing.assert_allclose(scan_of([s**2]).slopes()[:, 1:-1], [2 * s[1:-1]], rtol=1e-12)


def test_ranking_gives_equal_layers_in_the_order_of_the_network():
    constant = lambda _: Evaluation(1.0, 0.5)  # noqa: E731
    scan = sensitivity_scan(small(), constant, sparsities=[0.5])
    assert scan.ranking(0.5) == ["fc1.weight", "fc2.weight", "fc3.weight"]


@pytest.mark.parametrize(
    ("sparsities", "message"),
    [
        ([], "sparsities must be at least one, above 0 and increasing, got \\[\\]"),
        ([0.0, 0.5], "above 0 and increasing"),
        ([0.5, 0.5], "above 0 and increasing"),
        ([0.5, 1.0], "a sparsity must be in"),
    ],
)
def test_scan_refuses_sparsities_out_of_order(sparsities, message):
    with pytest.raises(ValueError, match=message):
        sensitivity_scan(small(), measured_by(*data(6)), sparsities=sparsities)


def test_scan_refuses_a_mask_of_another_shape():
    with pytest.raises(ValueError, match=r"mask of fc1.weight must have shape \(5, 6\)"):
        sensitivity_scan(
            small(),
            measured_by(*data(6)),
            sparsities=[0.5],
            choose=lambda score, sparsity: unstructured(score[0], sparsity),
        )


def test_ranking_refuses_a_sparsity_that_was_not_scanned():
    scan = sensitivity_scan(small(), measured_by(*data(6)), sparsities=[0.5])
    with pytest.raises(ValueError, match="ranking: sparsity must be one of"):
        scan.ranking(0.6)


def test_scan_uses_the_rule_with_its_options():
    by_columns = partial(channels, axis=1)
    scan = sensitivity_scan(small(), measured_by(*data(6)), sparsities=[0.4], choose=by_columns)
    assert scan.loss.shape == (3, 2)


LOSSES = st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=3)
SIZES = st.lists(st.integers(1, 7), min_size=3, max_size=3)
BUDGETS = (SensitivityScan.threshold_counts, SensitivityScan.marginal_counts)


def on_the_line(points, s):
    """Height at `s` of the straight lines through points of increasing x; infinite behind them."""
    for (a, low), (b, high) in itertools.pairwise(points):
        if a <= s <= b:
            return low + (high - low) * (s - a) / (b - a)
    return math.inf


def highest_so_far(scan, row, s):
    points = [(x, max(scan.loss[row, : i + 1])) for i, x in enumerate(scan.sparsities)]
    return on_the_line(points, s)


def convex_below(scan, row, s):
    """The lowest chord over `s` between any two measurements."""
    points = list(zip(scan.sparsities, scan.loss[row], strict=True))
    return min(on_the_line(pair, s) for pair in itertools.combinations(points, 2))


def cost(scan, kept, curve):
    sizes = [math.prod(shape) for shape in scan.shapes]
    return [curve(scan, i, (size - kept[i]) / size) for i, size in enumerate(sizes)]


@given(LOSSES, SIZES, st.floats(0, 0.5))
@pytest.mark.parametrize(
    ("budget", "curve", "in_all"),
    [
        (SensitivityScan.threshold_counts, highest_so_far, max),
        (SensitivityScan.marginal_counts, convex_below, sum),
    ],
)
def test_counts_cost_the_least_of_all_with_their_total(
    budget, curve, in_all, loss, sizes, sparsity
):
    scan = scan_of(loss, sizes[: len(loss)])
    total = count_kept(sum(sizes[: len(loss)]), sparsity)
    every = itertools.product(*(range(size + 1) for size in sizes[: len(loss)]))
    costs = [in_all(cost(scan, kept, curve)) for kept in every if sum(kept) == total]
    assume(math.isfinite(min(costs)))
    kept = budget(scan, list(scan.shapes), sparsity)
    assert sum(kept) == total
    assert in_all(cost(scan, kept, curve)) == pytest.approx(min(costs), abs=1e-12)


@given(LOSSES, st.floats(0, 0.8), st.floats(0, 0.8))
@pytest.mark.parametrize("budget", BUDGETS)
def test_counts_do_not_rise_with_the_sparsity(budget, loss, one, other):
    scan = scan_of(loss)
    denser, sparser = (budget(scan, list(scan.shapes), s) for s in sorted([one, other]))
    assert all(b <= a for a, b in zip(denser, sparser, strict=True))


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (SensitivityScan.threshold_counts, [60, 2]),  # at 40 % and 80 % each costs 0.64
        (SensitivityScan.marginal_counts, [54, 8]),  # the next weight costs 0.036 and 0.05
    ],
)
def test_only_marginal_counts_mind_how_many_weights_a_layer_has(budget, kept):
    s = np.linspace(0, 0.9, 10)
    scan = scan_of([4 * s**2, s**2], sizes=[100, 10], sparsities=tuple(s.round(1).tolist()))
    assert budget(scan, list(scan.shapes), 48 / 110) == kept


@pytest.mark.parametrize("budget", BUDGETS)
def test_counts_at_zero_keep_everything_even_a_single_weight(budget):
    scan = scan_of([[0, 1, 2, 3], [0, 1, 2, 3]], sizes=[1, 10])
    assert budget(scan, list(scan.shapes), 0.0) == [1, 10]


def test_counts_are_a_budget_for_a_network():
    network = small()
    scan = sensitivity_scan(network, measured_by(*data(6)), sparsities=SPARSITIES)
    masks = budgeted_masks(network, 0.5, budget=scan.marginal_counts)
    kept = [int(mask.sum()) for mask in masks.values()]
    assert kept == scan.marginal_counts(list(scan.shapes), 0.5)
    assert sum(kept) == count_kept(30 + 20 + 12, 0.5)


@pytest.mark.parametrize("budget", BUDGETS)
def test_counts_reach_the_last_sparsity_of_the_scan_and_no_further(budget):
    scan = scan_of([[0, 1, 2, 3]], sizes=[100])
    assert budget(scan, [(1, 100)], 0.9) == [10]
    with pytest.raises(ValueError, match=r"reached with no layer above 0.9, .*, got 0.91; scan"):
        budget(scan, [(1, 100)], 0.91)


@pytest.mark.parametrize("shapes", [[(1, 10), (10, 1)], [(1, 10)], 10])
def test_counts_refuse_other_shapes(shapes):
    scan = scan_of([[0, 1, 2, 3], [0, 1, 2, 3]])
    with pytest.raises(ValueError, match=r"shapes must be \[\(1, 10\), \(1, 10\)\], got"):
        scan.threshold_counts(shapes, 0.5)


@pytest.mark.parametrize("seen", [(1.0, 0.5), Evaluation(math.nan, 0.5), None])
def test_scan_refuses_a_measure_without_a_finite_loss(seen):
    with pytest.raises(ValueError, match="measure must return an Evaluation of finite loss, got"):
        sensitivity_scan(small(), lambda _: seen, sparsities=[0.5])


def test_scan_refuses_a_sparsity_that_is_no_sequence():
    with pytest.raises(TypeError, match=r"sparsities must be a sequence, got 0\.5; pass a list"):
        sensitivity_scan(small(), measured_by(*data(6)), sparsities=0.5)
