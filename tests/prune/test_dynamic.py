"""SET and RigL: what an update keeps, when it happens, and what a training may rely on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl import nn, prune
from refimpl.masks import erdos_renyi_counts, erdos_renyi_kernel_counts, uniform_counts
from refimpl.prune import cosine_drop_fraction, rigl_flops, rigl_update, set_update
from support.strategies import saliencies

X = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 4, 40)


@st.composite
def updates(draw):
    """Weights, mask, gradient and fraction of one update."""
    shape = draw(st.sampled_from([(1,), (6,), (3, 5), (2, 2, 3)]))
    mask = draw(hnp.arrays(bool, shape))
    fraction = draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]))
    return draw(saliencies(shape)), mask, draw(saliencies(shape)), fraction


def notes_update(w, mask, gradient, fraction):
    """Wrong: the bottom k over all places, and growth outside the mask before the drop."""
    k = int(fraction * mask.sum())
    new = mask.flatten()
    new[np.argsort((np.abs(w) * mask).ravel(), kind="stable")[:k]] = False
    new[np.argsort(-(np.abs(gradient) * ~mask).ravel(), kind="stable")[:k]] = True
    return new.reshape(mask.shape)


# --- one update ------------------------------------------------------------------------------


@given(updates())
def test_rigl_keeps_density_constant(update):
    assert int(rigl_update(*update).sum()) == int(update[1].sum())


@given(updates(), st.integers(0, 99))
@pytest.mark.parametrize("rule", [set_update, prune.set_update_by_magnitude])
def test_set_keeps_density_constant(rule, update, seed):
    w, mask, _, fraction = update
    new = rule(w, mask, fraction, np.random.default_rng(seed))
    assert int(new.sum()) == int(mask.sum())


@given(updates())
def test_rigl_drops_only_active_weights(update):
    w, mask, gradient, fraction = update
    gone = mask & ~rigl_update(w, mask, gradient, fraction)
    n_drop = int(np.floor(round(fraction * mask.sum(), 9) + 0.5))
    assert int(gone.sum()) <= n_drop
    smallest = np.sort(np.abs(w[mask]))[:n_drop]
    assert (np.abs(w[gone])[:, None] <= smallest.max(initial=0)).all()


def test_rigl_drops_active_weights_where_the_notes_drop_none():
    w, mask = np.array([3.0, 1, 2, 0, 0, 0]), np.array([1, 1, 1, 0, 0, 0], bool)
    gradient = np.array([0.0, 0, 0, 1, 3, 2])
    assert rigl_update(w, mask, gradient, 0.34).tolist() == [True, False, True, False, True, False]
    assert notes_update(w, mask, gradient, 0.34).tolist() == [True] * 3 + [False, True, False]


def test_notes_update_grows_from_89_to_325():
    rng, counts = np.random.default_rng(0), [89]
    mask = np.zeros(1000, bool)
    mask[rng.choice(1000, 89, replace=False)] = True
    for _ in range(5):
        mask = notes_update(rng.normal(size=1000) * mask, mask, rng.normal(size=1000), 0.3)
        counts.append(int(mask.sum()))
    assert counts == [89, 115, 149, 193, 250, 325]


def test_rigl_may_regrow_a_just_dropped_weight():
    w, mask = np.array([3.0, 1.0, 0.0, 0.0]), np.array([True, True, False, False])
    gradient = np.array([0.0, 9.0, 1.0, 2.0])
    assert rigl_update(w, mask, gradient, 0.5).tolist() == mask.tolist()


def test_set_may_regrow_a_just_dropped_weight():
    w, mask, rng = (
        np.array([3.0, 1.0, 0.0]),
        np.array([True, True, False]),
        np.random.default_rng(0),
    )
    drawn = [set_update(w, mask, 0.5, rng).tolist() for _ in range(100)]
    assert mask.tolist() in drawn
    assert [True, False, True] in drawn


# --- when, and how many ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.3), (25, 0.15 * (1 + 0.5**0.5)), (50, 0.15), (100, 0), (200, 0)]
)
def test_rigl_drop_fraction_is_half_cosine(step, expected):
    assert cosine_drop_fraction(step, alpha=0.3, t_end=100) == pytest.approx(expected, abs=1e-15)


def test_drop_fraction_is_not_cubic():
    assert cosine_drop_fraction(50, alpha=0.3, t_end=100) == pytest.approx(4 * 0.3 * (1 - 0.5) ** 3)
    assert cosine_drop_fraction(25, alpha=0.3, t_end=100) > 2 * 0.3 * (1 - 0.25) ** 3


@given(st.integers(0, 300), st.integers(1, 200), st.sampled_from([0.0, 0.1, 0.3, 0.99]))
def test_drop_fraction_never_rises_and_ends_at_zero(step, t_end, alpha):
    now = cosine_drop_fraction(step, alpha=alpha, t_end=t_end)
    assert alpha >= now >= cosine_drop_fraction(step + 1, alpha=alpha, t_end=t_end) >= 0
    assert step < t_end or now == 0


@pytest.mark.parametrize(
    ("step", "alpha", "t_end", "message"),
    [
        (-1, 0.3, 10, "step must be at least 0, got -1;"),
        (1, 1.0, 10, r"alpha must be in \[0, 1\), got 1.0;"),
        (1, 0.3, 0, "t_end must be at least 1, got 0;"),
    ],
)
def test_drop_fraction_refuses_with_a_sentence(step, alpha, t_end, message):
    with pytest.raises(ValueError, match=f"cosine_drop_fraction: {message}"):
        cosine_drop_fraction(step, alpha=alpha, t_end=t_end)


def test_rigl_flops_of_a_dense_network_are_a_dense_training():
    assert rigl_flops(5.0, 5.0, 100) == 3 * 5.0


@given(st.integers(1, 1000), st.integers(1, 9), st.integers(1, 99))
def test_rigl_flops_are_the_mean_of_delta_t_sparse_steps_and_one_dense(delta_t, sparse, more):
    steps = [3 * sparse] * delta_t + [2 * sparse + (sparse + more)]
    assert rigl_flops(sparse, sparse + more, delta_t) == pytest.approx(np.mean(steps), rel=1e-12)


def test_rigl_flops_refuses_epochs_that_never_come():
    with pytest.raises(ValueError, match="rigl_flops: delta_t must be at least 1, got 0;"):
        rigl_flops(1.0, 2.0, 0)


# --- in a training ---------------------------------------------------------------------------


def sparse_network(seed=0, sparsity=0.7):
    network = nn.mlp((12, 16, 4), rng=np.random.default_rng(seed))
    masks = prune.random_masks(network, sparsity, rng=np.random.default_rng(seed + 1))
    prune.apply_masks(network, masks)
    return network


def train(network, optimizer, *, epochs=6, **hooks):
    """Four steps an epoch."""
    rng = np.random.default_rng(2)
    nn.fit(network, optimizer, X, Y, epochs=epochs, batch_size=10, rng=rng, **hooks)


def masks_of(network):
    return {name: weight.mask.copy() for name, weight in network.weights().items()}


def trained_by(method, *, delta_t=5, t_end=18, look=None):
    network = sparse_network()
    optimizer = nn.SGD(network.parameters(), lr=0.2, momentum=0.9)
    dynamic = method(network, optimizer, delta_t=delta_t, t_end=t_end)
    before, after = getattr(dynamic, "after_backward", None), getattr(dynamic, "after_step", None)

    def after_step(step):
        if after is not None:
            after(step)
        if look is not None:
            look(network, step)

    train(network, optimizer, after_backward=before, after_step=after_step)
    return dynamic


METHODS = {"RigL": prune.RigL, "SET": partial(prune.SET, rng=np.random.default_rng(5))}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@every_method
def test_rigl_updates_every_delta_t_steps(method):
    changed, last = [], [None]

    def look(network, step):
        now = masks_of(network)
        if last[0] is not None and any((now[n] != last[0][n]).any() for n in now):
            changed.append(step)
        last[0] = now

    assert trained_by(method, look=look).updates == [5, 10, 15]
    assert set(changed) <= {5, 10, 15}
    assert 5 in changed


@every_method
@pytest.mark.parametrize(("t_end", "expected"), [(20, [5, 10, 15]), (21, [5, 10, 15, 20]), (5, [])])
def test_rigl_never_updates_after_t_end(method, t_end, expected):
    assert trained_by(method, t_end=t_end).updates == expected


@every_method
def test_rigl_pruned_weights_stay_zero_between_updates(method):
    zeros, counts = [], set()

    def look(network, step):  # noqa: ARG001 - the hook's signature
        weights = network.weights().values()
        zeros.append([not np.any(w.value[~w.mask]) for w in weights])
        counts.add(tuple(int(w.mask.sum()) for w in weights))

    trained_by(method, look=look)
    assert np.array(zeros).shape == (24, 2)
    assert np.all(zeros)
    assert len(counts) == 1


def test_mask_at_update_steps_only_trains_every_weight_between_them():
    network = sparse_network()
    masks = masks_of(network)
    for weight in network.weights().values():
        weight.mask = None  # planted: applied once, and then forgotten
    train(network, nn.SGD(network.parameters(), lr=0.2), epochs=1)
    alive = [np.count_nonzero(w.value[~masks[n]]) for n, w in network.weights().items()]
    assert sum(alive) > 0.9 * sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("budget", [uniform_counts, erdos_renyi_counts, erdos_renyi_kernel_counts])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.987])
@pytest.mark.parametrize("seed", [0, 1])
def test_rigl_initial_mask_count_is_exact(budget, sparsity, seed):
    network = nn.lenet5(rng=np.random.default_rng(0))
    rng = np.random.default_rng(seed)
    masks = prune.random_masks(network, sparsity, rng=rng, budget=budget)
    shapes = [weight.shape for weight in network.weights().values()]
    assert [int(mask.sum()) for mask in masks.values()] == budget(shapes, sparsity)


def test_random_masks_do_not_look_at_the_weights():
    masks = [
        prune.random_masks(sparse_network(seed, 0.0), 0.5, rng=np.random.default_rng(7))
        for seed in (0, 1)
    ]
    np.testing.assert_equal(masks[0], masks[1])


def test_rigl_grown_weights_start_at_zero():
    network = nn.Network({"fc1": nn.Linear(4, 1, rng=np.random.default_rng(0), bias=False)})
    weight = network.weights()["fc1.weight"]
    weight.value = np.array([[3, 1, 2, 9]], np.float32)
    weight.mask = np.array([[True, True, True, False]])
    sgd = nn.SGD([weight], lr=0.1)
    rigl = prune.RigL(network, sgd, delta_t=1, t_end=1000, alpha=0.7)
    weight.grad = np.array([[0, 9, 1, 5]], np.float32)
    assert rigl.after_backward(1) is True
    assert weight.mask.tolist() == [[True, True, False, True]]  # 1 went and came back
    assert weight.value.tolist() == [[3, 0, 0, 0]]
