"""Budgets: exact totals, none too full, none empty, and none that grows back."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import (
    erdos_renyi_counts,
    erdos_renyi_kernel_counts,
    global_counts,
    global_unstructured,
    keep_top_k,
    uniform_counts,
)
from support.strategies import FLOATS

LENET_300_100 = [(300, 784), (100, 300), (10, 100)]
LENET_5 = [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)]
SIXES_AND_A_TWO = [(2, 3), (3, 2), (1, 2)]

# Budget -> density of a layer, up to one factor for all layers.
DENSITIES = {
    uniform_counts: lambda _shape: Fraction(1),
    erdos_renyi_counts: lambda shape: Fraction(shape[1] + shape[0], shape[1] * shape[0]),
    erdos_renyi_kernel_counts: lambda shape: Fraction(sum(shape), math.prod(shape)),
}
every_budget = pytest.mark.parametrize("budget", DENSITIES)

shape_lists = st.lists(hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), min_size=1, max_size=6)


@st.composite
def layers_and_count(draw):
    """Shapes, and how many of their weights to keep: at least one a layer."""
    shapes = draw(shape_lists)
    return shapes, draw(st.integers(len(shapes), sum(map(math.prod, shapes))))


def keeping(shapes, n_keep: int) -> float:
    """The sparsity that keeps `n_keep` weights."""
    total = sum(map(math.prod, shapes))
    return (total - n_keep) / total


def counts_by_sorting(budget, shapes, n_keep: int, *, spare_first: bool) -> list[int]:
    """Oracle: list every layer's j-th weight with its priority, sort, and take the first."""
    ranking = []
    for layer, shape in enumerate(shapes):
        size = math.prod(shape)
        for j in range(1, size + 1):
            priority = DENSITIES[budget](shape) * size / (j - Fraction(1, 2))
            ranking.append((not (spare_first and j == 1), -priority, layer))
    kept = [layer for _, _, layer in sorted(ranking)[:n_keep]]
    return [kept.count(layer) for layer in range(len(shapes))]


@every_budget
@given(layers_and_count())
@example((SIXES_AND_A_TWO, 10))
def test_counts_are_the_first_of_one_ranking(budget, case):
    shapes, n_keep = case
    expected = counts_by_sorting(budget, shapes, n_keep, spare_first=True)
    assert budget(shapes, keeping(shapes, n_keep)) == expected


@every_budget
@given(layers_and_count())
def test_counts_that_may_be_empty_are_the_first_of_one_ranking(budget, case):
    shapes, n_keep = case
    expected = counts_by_sorting(budget, shapes, n_keep, spare_first=False)
    assert budget(shapes, keeping(shapes, n_keep), allow_empty=True) == expected


@every_budget
@given(shape_lists, st.floats(0, 1, exclude_max=True))
def test_counts_total_what_the_sparsity_leaves(budget, shapes, sparsity):
    total = sum(map(math.prod, shapes))
    n_removed = math.floor(Fraction(repr(sparsity)) * total + Fraction(1, 2))
    assert sum(budget(shapes, sparsity, allow_empty=True)) == total - n_removed


@every_budget
@given(layers_and_count())
def test_counts_leave_no_layer_empty_or_too_full(budget, case):
    shapes, n_keep = case
    counts = budget(shapes, keeping(shapes, n_keep))
    assert all(1 <= k <= math.prod(shape) for k, shape in zip(counts, shapes, strict=True))


@every_budget
@pytest.mark.parametrize("allow_empty", [False, True])
@given(layers_and_count())
def test_no_count_rises_with_the_sparsity(budget, allow_empty, case):
    shapes, n_keep = case
    counts, fewer = (
        budget(shapes, keeping(shapes, k), allow_empty=allow_empty)
        for k in (n_keep, max(n_keep - 1, len(shapes)))
    )
    assert all(low <= high for low, high in zip(fewer, counts, strict=True))


def largest_remainders(sizes, n_keep: int) -> list[int]:
    """Wrong: the usual rounding, which hands what is left to the largest fractions."""
    quotas = [Fraction(size * n_keep, sum(sizes)) for size in sizes]
    counts = [math.floor(quota) for quota in quotas]
    order = sorted(range(len(sizes)), key=lambda i: counts[i] - quotas[i])
    for i in order[: n_keep - sum(counts)]:
        counts[i] += 1
    return counts


def test_largest_remainders_give_a_layer_weights_back():
    assert largest_remainders([6, 6, 2], 11) == [5, 5, 1]
    assert largest_remainders([6, 6, 2], 10) == [4, 4, 2]  # one fewer, and the last has more


@pytest.mark.parametrize(
    ("n_keep", "counts"),
    [(14, [6, 6, 2]), (11, [5, 5, 1]), (10, [5, 4, 1]), (4, [2, 1, 1]), (3, [1, 1, 1])],
)
def test_uniform_counts_of_two_sixes_and_a_two(n_keep, counts):
    assert uniform_counts(SIXES_AND_A_TWO, keeping(SIXES_AND_A_TWO, n_keep)) == counts


def quotas_by_rigl(density, shapes, n_keep: int) -> list[float]:
    """Oracle: RigL's loop in floats; the layer of largest density above 1 is made dense."""
    sizes, dense = [math.prod(shape) for shape in shapes], set()
    while True:
        sparse = [i for i in range(len(shapes)) if i not in dense]
        room = n_keep - sum(sizes[i] for i in dense)
        raw = {i: float(density(shapes[i])) for i in sparse}
        epsilon = room / sum(raw[i] * sizes[i] for i in sparse)
        densest = max(raw.values())
        if epsilon * densest <= 1 + 1e-12:
            return [
                sizes[i] if i in dense else epsilon * raw[i] * sizes[i] for i in range(len(sizes))
            ]
        dense |= {i for i in sparse if raw[i] == densest}


@every_budget
@given(layers_and_count())
def test_counts_round_what_rigls_loop_gives(budget, case):
    shapes, n_keep = case
    quotas = quotas_by_rigl(DENSITIES[budget], shapes, n_keep)
    counts = budget(shapes, keeping(shapes, n_keep), allow_empty=True)
    # Each count is a share rounded by at most 1/2, so all shares together move by at most L/2.
    off = max(abs(k - quota) for k, quota in zip(counts, quotas, strict=True))
    assert off <= (len(shapes) + 1) / 2 + 1e-9


@every_budget
@pytest.mark.parametrize("shapes", [LENET_300_100, LENET_5])
@pytest.mark.parametrize("percent", [50, 80, 90, 95, 98, 99])
def test_counts_are_within_one_of_rigls_loop_on_famous_nets(budget, shapes, percent):
    counts = budget(shapes, percent / 100)
    quotas = quotas_by_rigl(DENSITIES[budget], shapes, sum(counts))
    np.testing.assert_allclose(counts, quotas, atol=1, rtol=0)


def test_erdos_renyi_fills_the_last_layer_and_scales_up_the_others():
    # 26,620 are left. Claims 1084, 400, 110: 26620 / 1594 * 110 = 1837 exceeds 1000.
    # So 25,620 are for the first two: 25620 / 1484 * (1084, 400) = (18714.3, 6905.7).
    assert erdos_renyi_counts(LENET_300_100, 0.9) == [18714, 6906, 1000]


def test_erdos_renyi_kernel_counts_the_kernel_once():
    # 43,050 are left. Claims 31, 80, 1300, 510: the first and last of the layers are full.
    # So 37,550 are for the others: 37550 / 1380 * (80, 1300) = (2176.8, 35373.2).
    assert erdos_renyi_kernel_counts(LENET_5, 0.9) == [500, 2177, 35373, 5000]


@given(st.lists(hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), min_size=1, max_size=5))
def test_both_erdos_renyi_budgets_agree_on_linear_layers(shapes):
    counts = (
        b(shapes, 0.8, allow_empty=True) for b in (erdos_renyi_counts, erdos_renyi_kernel_counts)
    )
    assert next(counts) == next(counts)


def test_a_kernel_of_one_claims_more_than_a_linear_layer():
    shapes = [(4, 4, 1, 1), (4, 4)]  # claims of 10 and 8
    assert erdos_renyi_kernel_counts(shapes, 1 - 18 / 32) == [10, 8]
    assert erdos_renyi_counts(shapes, 1 - 18 / 32) == [9, 9]


def resnet_50() -> list[tuple[tuple[int, ...], int]]:
    """Weights of ResNet-50 (stride in the 3 x 3), each with the side of its output."""
    layers, channels, side = [((64, 3, 7, 7), 112)], 64, 56
    for width, n_blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(n_blocks):
            out = side // 2 if block == 0 and width > 64 else side
            layers += [((width, channels, 1, 1), side), ((width, width, 3, 3), out)]
            layers.append(((4 * width, width, 1, 1), out))
            if block == 0:
                layers.append(((4 * width, channels, 1, 1), out))
            channels, side = 4 * width, out
    return [*layers, ((1000, 2048), 1)]


@pytest.mark.parametrize(
    ("sparsity", "published"), [(0.8, 0.42), (0.9, 0.24), (0.95, 0.12), (0.965, 0.09)]
)
def test_erk_costs_resnet_50_the_flops_that_rigl_publishes(sparsity, published):
    # README of google-research/rigl, "Inference FLOPs" of ERK; theirs count more than products.
    shapes, sides = zip(*resnet_50(), strict=True)
    counts = erdos_renyi_kernel_counts(shapes, sparsity)
    dense = sum(math.prod(shape) * side**2 for shape, side in resnet_50())
    kept = sum(k * side**2 for k, side in zip(counts, sides, strict=True))
    assert abs(kept / dense - published) < 0.01


@every_budget
def test_a_layer_larger_than_any_memory_is_counted(budget):
    shapes = [(10**7, 10**7), (10, 10**7)]
    assert sum(budget(shapes, 0.75)) == (10**14 + 10**8) // 4


@every_budget
def test_counts_are_python_integers_whatever_the_lengths_are(budget):
    counts = budget([(np.int8(100), np.int8(100)), [2, 3]], 0.5)
    assert {type(k) for k in counts} == {int}
    assert sum(counts) == 5003


@every_budget
def test_no_layer_gets_no_count(budget):
    assert budget([], 0.5) == []


@every_budget
def test_an_empty_layer_has_to_be_asked_for(budget):
    shapes = [(1, 1), (40, 40)]
    assert budget(shapes, 0.99)[0] == 1
    assert budget(shapes, 0.999, allow_empty=True)[0] == 0


@every_budget
@pytest.mark.parametrize(
    ("shapes", "sparsity", "kind", "message"),
    [
        ([(2, 3)], 1.0, ValueError, r"sparsity must be in \[0, 1\), got 1.0; 90 % is written"),
        ([(2, 3)], "0.5", TypeError, "sparsity must be a number, got '0.5';"),
        (
            [(2, 5)] * 3,
            0.95,
            ValueError,
            "sparsity must leave a weight for each of 3 layers, got 0.95, which keeps 1 of 30; "
            "lower it, or pass allow_empty=True",
        ),
        ((2, 3), 0.5, TypeError, r"shapes\[0\] must be a shape of two axes or more, got 2; give"),
        (["ab"], 0.5, TypeError, r"shapes\[0\] must be a shape of two axes or more, got 'ab';"),
        ([(2, 3), (5,)], 0.5, ValueError, r"shapes\[1\] must be a shape .+, got \(5,\); give one"),
        ([(2, 0)], 0.5, ValueError, r"a length in shapes\[0\] must be at least 1, got 0;"),
        ([(2, 3.0)], 0.5, TypeError, r"a length in shapes\[0\] must be an integer, got 3.0;"),
        (6, 0.5, TypeError, "shapes must be a list of shapes, got int; give one for each layer"),
    ],
)
def test_budgets_refuse_with_a_sentence(budget, shapes, sparsity, kind, message):
    with pytest.raises(kind, match=f"^{budget.__name__}: {message}"):
        budget(shapes, sparsity)


@st.composite
def saliencies_and_count(draw):
    """One to four arrays with many ties and infinities, and how many entries to keep."""
    ties = st.sampled_from([0.0, -0.0, 1.0, 2.0, math.inf, -math.inf])
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)
    arrays = st.sampled_from(FLOATS).flatmap(lambda dtype: hnp.arrays(dtype, shapes, elements=ties))
    saliencies = draw(st.lists(arrays, min_size=1, max_size=4))
    return saliencies, draw(st.integers(len(saliencies), sum(s.size for s in saliencies)))


def counts_by_one_sort(saliencies, n_keep: int) -> list[int]:
    """Oracle: the best of every array, then all others from the largest to the smallest."""
    ranking = []
    for layer, saliency in enumerate(saliencies):
        values = saliency.ravel().tolist()
        best = values.index(max(values))
        ranking += [(i != best, -value, layer, i) for i, value in enumerate(values)]
    kept = [layer for _, _, layer, _ in sorted(ranking)[:n_keep]]
    return [kept.count(layer) for layer in range(len(saliencies))]


@given(saliencies_and_count())
def test_global_counts_spare_the_best_of_each_and_rank_the_rest(case):
    saliencies, n_keep = case
    found = global_counts(saliencies, keeping([s.shape for s in saliencies], n_keep))
    assert found == counts_by_one_sort(saliencies, n_keep)


@given(saliencies_and_count())
def test_global_counts_that_may_be_empty_are_those_of_one_ranking(case):
    saliencies, n_keep = case
    sparsity = keeping([s.shape for s in saliencies], n_keep)
    masks = global_unstructured(saliencies, sparsity)
    found = global_counts(saliencies, sparsity, allow_empty=True)
    assert found == [int(mask.sum()) for mask in masks]


@given(saliencies_and_count())
def test_global_counts_change_nothing_where_no_layer_is_empty(case):
    saliencies, n_keep = case
    sparsity = keeping([s.shape for s in saliencies], n_keep)
    masks = global_unstructured(saliencies, sparsity)
    spared = map(keep_top_k, saliencies, global_counts(saliencies, sparsity))
    some_empty = not all(mask.any() for mask in masks)
    assert some_empty or all(map(np.array_equal, masks, spared))


def test_global_counts_do_not_see_memory_layout():
    saliency = np.arange(6.0).reshape(2, 3)
    assert global_counts([saliency.T, saliency], 0.5) == global_counts([saliency] * 2, 0.5)


def test_global_counts_of_nothing_are_nothing():
    assert global_counts([], 0.5) == []


@pytest.mark.parametrize(
    ("saliencies", "sparsity", "kind", "message"),
    [
        ([np.ones(2), np.array([np.nan])], 0.5, ValueError, r"saliencies\[1\] must hold no NaN"),
        ([np.ones(2), [1.0]], 0.5, TypeError, r"saliencies\[1\] must be an array, got list;"),
        ([np.ones(2), np.ones(0)], 0.5, ValueError, r"saliencies\[1\] must hold an entry to keep,"),
        ([np.ones(2)], 1.0, ValueError, r"sparsity must be in \[0, 1\), got 1.0;"),
        ([np.ones(2)] * 2, 0.75, ValueError, "sparsity must leave a weight for each of 2 layers"),
    ],
)
def test_global_counts_refuse_with_a_sentence(saliencies, sparsity, kind, message):
    with pytest.raises(kind, match=f"^global_counts: {message}"):
        global_counts(saliencies, sparsity)


def test_global_counts_take_an_array_of_no_entries_when_asked():
    assert global_counts([np.ones(0), np.ones(4)], 0.5, allow_empty=True) == [0, 2]
