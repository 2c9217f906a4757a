"""Channels are scored by what computes them, and chosen in exact numbers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl import nn
from refimpl.masks import count_kept
from refimpl.prune import channel_scores, global_channels, layerwise_channels
from refimpl.saliency import batch_norm_scale, filter_l1, geometric_median

SPARSITIES = st.floats(0, 1, exclude_max=True)
SCORES = st.lists(
    hnp.arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 9).map(float)),
    min_size=1,
    max_size=4,
).map(lambda arrays: {f"conv{i}": array for i, array in enumerate(arrays)})


@pytest.mark.parametrize("order", [1, 2])
def test_scores_of_a_chain_are_norms_of_filters(order):
    network = nn.lenet5(rng=np.random.default_rng(0))
    saliency = {1: {"saliency": filter_l1}, 2: {}}[order]
    scores = channel_scores(network, **saliency)
    assert list(scores) == ["conv1", "conv2", "fc1"]
    for name, score in scores.items():
        w = network.weights()[f"{name}.weight"].value.astype(np.float64)
        expected = np.linalg.norm(w.reshape(len(w), -1), ord=order, axis=1)
        np.testing.assert_allclose(score, expected, rtol=1e-12)


def coupled():
    """A stem, and a block that adds to it; biases are no part of a score."""
    rng = np.random.default_rng(0)
    branch = nn.Network({"conv1": nn.Conv2d(3, 3, 1, rng=rng), "norm1": nn.BatchNorm2d(3)})
    layers = {
        "stem": nn.Conv2d(1, 3, 1, rng=rng),
        "norm": nn.BatchNorm2d(3),
        "block": nn.Residual(branch),
        "conv2": nn.Conv2d(3, 2, 1, rng=rng),
    }
    network = nn.Network(layers)
    parameters = network.named_parameters()
    parameters["stem.weight"].value = np.array([1, -2, 3], np.float32).reshape(3, 1, 1, 1)
    branch_weight = np.array([[3, 4, 0], [0, 0, 0], [0, 12, 5]], np.float32)
    parameters["block.branch.conv1.weight"].value = branch_weight.reshape(3, 3, 1, 1)
    parameters["norm.gamma"].value = np.array([1, -1, 0], np.float32)
    parameters["block.branch.norm1.gamma"].value = np.array([0.5, 2, 0], np.float32)
    return network


def test_scores_of_coupled_channels_are_sums():
    assert channel_scores(coupled())["stem"].tolist() == [1 + 5, 2, 3 + 13]


def test_scores_of_normalised_channels_are_their_scales():
    scores = channel_scores(coupled(), saliency=batch_norm_scale, of="gamma")
    assert scores["stem"].tolist() == [1.5, 3, 0]


def test_scores_take_any_saliency_of_filters():
    network = nn.lenet5(rng=np.random.default_rng(0))
    scores = channel_scores(network, saliency=geometric_median, ignore=["fc1"])
    assert [len(score) for score in scores.values()] == [20, 50]


def test_scores_leave_ignored_groups_out():
    network = nn.lenet5(rng=np.random.default_rng(0))
    assert list(channel_scores(network, ignore=["conv1", "fc1"])) == ["conv2"]


@given(SCORES, SPARSITIES, st.integers(1, 9))
def test_layerwise_channels_keep_exact_counts(scores, sparsity, multiple):
    keeps = layerwise_channels(scores, sparsity, multiple_of=multiple)
    assert list(keeps) == list(scores)
    for keep in keeps.values():
        n, wanted = len(keep), max(count_kept(len(keep), sparsity), 1)
        allowed = [k for k in range(wanted, n + 1) if k % multiple == 0 or k == n]
        assert int(keep.sum()) == allowed[0]


@given(SCORES, SPARSITIES)
def test_global_channels_keep_an_exact_total_and_one_of_each_group(scores, sparsity):
    n_keep = count_kept(sum(map(len, scores.values())), sparsity)
    counts = [int(keep.sum()) for keep in global_channels(scores, sparsity).values()]
    assert sum(counts) == max(n_keep, len(scores))
    assert min(counts) >= 1


@given(SCORES, SPARSITIES)
def test_layerwise_channels_keep_the_first_of_a_stable_sort(scores, sparsity):
    for name, keep in layerwise_channels(scores, sparsity).items():
        order = sorted(range(len(keep)), key=lambda i: (-scores[name][i], i))
        assert set(np.flatnonzero(keep)) == set(order[: int(keep.sum())])


def test_global_channels_ranks_all_groups_as_one():
    scores = {"conv1": np.array([5.0, 1.0, 6.0]), "conv2": np.array([2.0, 3.0, 4.0])}
    kept = {name: keep.tolist() for name, keep in global_channels(scores, 0.5).items()}
    assert kept == {"conv1": [True, False, True], "conv2": [False, False, True]}


def test_global_channels_rounds_each_group_up():
    scores = {"conv1": np.arange(12.0), "conv2": np.arange(12.0, 24.0)}
    counts = [int(k.sum()) for k in global_channels(scores, 0.5, multiple_of=8).values()]
    assert counts == [8, 12]  # 1 and 11 before; 16 do not exist


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"ignore": "stem"}, TypeError, "ignore must be several names, got 'stem';"),
        ({"ignore": ["norm"]}, ValueError, r"ignore must name groups among .+, got \['norm'\];"),
        ({"of": "alpha"}, ValueError, "group stem must have a parameter called alpha, got only"),
        (
            {"saliency": np.abs},
            ValueError,
            r"saliency of stem must have shape \(3,\), got \(3, 1, 1, 1\);",
        ),
        ({"saliency": lambda w: w.any(axis=(1, 2, 3))}, TypeError, "stem must be .+, got bool;"),
    ],
)
def test_channel_scores_refuses_with_a_sentence(options, kind, message):
    with pytest.raises(kind, match=f"^channel_scores: .*{message}"):
        channel_scores(coupled(), **options)


@pytest.mark.parametrize("choose", [layerwise_channels, global_channels])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\), got 1.0;"),
        ({"sparsity": 0.5, "multiple_of": 0}, "multiple_of must be at least 1, got 0;"),
    ],
)
def test_choice_refuses_with_a_sentence(choose, options, message):
    with pytest.raises(ValueError, match=message):
        partial(choose, {"conv1": np.ones(4)})(**options)


@pytest.mark.parametrize("choose", [layerwise_channels, global_channels])
def test_choice_refuses_nan(choose):
    with pytest.raises(ValueError, match="must hold no NaN, got 1 of 2;"):
        choose({"conv1": np.array([1.0, np.nan])}, 0.5)
