"""Gradual pruning: exact counts at every step, nested masks, and an end that is reached."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refimpl import nn
from refimpl.masks import count_kept
from refimpl.prune import (
    GradualPruning,
    apply_masks,
    constant_sparsity,
    cubic_sparsity,
    global_masks,
    layerwise_masks,
    linear_sparsity,
    network_sparsity,
)

POLYNOMIALS = (cubic_sparsity, linear_sparsity)
POWERS = ((cubic_sparsity, 3), (linear_sparsity, 1))
CHOOSERS = (layerwise_masks, global_masks)
OPTIMIZERS = {
    "SGD": partial(nn.SGD, lr=0.1),
    "SGD with decay": partial(nn.SGD, lr=0.1, weight_decay=0.01),
    "SGD with momentum": partial(nn.SGD, lr=0.1, momentum=0.9),
    "SGD with momentum and decay": partial(nn.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": partial(nn.Adam, lr=0.01),
    "Adam with decay": partial(nn.Adam, lr=0.01, weight_decay=0.01),
}
FRACTIONS = st.floats(0, 1, exclude_max=True)


@st.composite
def stages(draw) -> dict:
    """Settings of a polynomial schedule; `initial` may equal `final`."""
    initial, final = sorted((draw(st.just(0.0) | FRACTIONS), draw(FRACTIONS)))
    counts = {"t0": st.integers(0, 8), "n": st.integers(1, 12), "dt": st.integers(1, 5)}
    drawn = {name: draw(strategy) for name, strategy in counts.items()}
    return {"initial": initial, "final": final, **drawn}


def end_of(settings: dict) -> int:
    return settings["t0"] + settings["n"] * settings["dt"]


def sparsities(schedule, settings: dict) -> list[float]:
    """From step 0 until well past the end."""
    return [schedule(step, **settings) for step in range(2 * end_of(settings) + 2)]


# --- schedules -------------------------------------------------------------------------------


def test_cubic_sparsity_climbs_to_90_percent_in_ten_steps_as_by_hand():
    seen = [cubic_sparsity(k, final=0.9, t0=0, n=10, dt=1) for k in range(1, 11)]
    expected = [0.2439, 0.4392, 0.5913, 0.7056, 0.7875, 0.8424, 0.8757, 0.8928, 0.8991, 0.9]
    assert seen == expected


@pytest.mark.parametrize(("schedule", "power"), POWERS)
@given(settings=stages())
def test_sparsity_is_the_published_equation_at_each_stage(schedule, power, settings):
    s_i, s_f, t0, n, dt = (settings[key] for key in ("initial", "final", "t0", "n", "dt"))
    steps = [t0 + k * dt for k in range(n + 1)]
    expected = [s_f + (s_i - s_f) * (1 - (t - t0) / (n * dt)) ** power for t in steps]
    seen = [schedule(t, **settings) for t in steps]
    np.testing.assert_allclose(seen, expected, rtol=0, atol=8 * np.finfo(float).eps)


@pytest.mark.parametrize("schedule", POLYNOMIALS)
@given(settings=stages())
def test_sparsity_starts_and_ends_exactly(schedule, settings):
    seen, end = sparsities(schedule, settings), end_of(settings)
    assert seen[: settings["t0"]] == [0.0] * settings["t0"]
    assert seen[settings["t0"]] == settings["initial"]
    assert set(seen[end:]) == {settings["final"]}


@pytest.mark.parametrize("schedule", POLYNOMIALS)
@given(settings=stages())
def test_sparsity_never_falls(schedule, settings):
    assert all(before <= after for before, after in pairwise(sparsities(schedule, settings)))


@pytest.mark.parametrize("schedule", POLYNOMIALS)
@given(settings=stages())
def test_sparsity_changes_only_every_dt_steps_from_t0(schedule, settings):
    seen = sparsities(schedule, settings)
    changes = {step for step in range(1, len(seen)) if seen[step] != seen[step - 1]}
    assert changes <= set(range(settings["t0"], end_of(settings) + 1, settings["dt"]))


@given(settings=stages())
def test_cubic_sparsity_is_never_below_linear(settings):
    pairs = zip(*(sparsities(schedule, settings) for schedule in POLYNOMIALS), strict=True)
    assert all(cubic >= linear for cubic, linear in pairs)


@given(final=FRACTIONS, t0=st.integers(0, 9))
def test_constant_sparsity_is_one_jump(final, t0):
    seen = [constant_sparsity(step, final=final, t0=t0) for step in range(20)]
    assert seen == [0.0] * t0 + [final] * (20 - t0)


@pytest.mark.parametrize("schedule", POLYNOMIALS)
def test_schedules_take_small_numpy_integers(schedule):
    small = {name: np.int8(count) for name, count in {"t0": 100, "n": 100, "dt": 120}.items()}
    plain = {name: int(count) for name, count in small.items()}
    assert schedule(5000, final=0.9, **small) == schedule(5000, final=0.9, **plain)


@pytest.mark.parametrize("schedule", POLYNOMIALS)
@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"final": 1.0}, ValueError, r"final must be in \[0, 1\), got 1.0; 90 % is written 0.9"),
        ({"final": "0.9"}, TypeError, "final must be a number, got '0.9';"),
        ({"initial": -0.1}, ValueError, r"initial must be in \[0, 1\), got -0.1;"),
        ({"initial": 0.95}, ValueError, "initial must be at most final = 0.9, got 0.95; swap"),
        ({"step": -1}, ValueError, "step must be at least 0, got -1;"),
        ({"step": 1.5}, TypeError, "step must be an integer, got 1.5;"),
        ({"t0": -1}, ValueError, "t0 must be at least 0, got -1;"),
        ({"n": 0}, ValueError, "n must be at least 1, got 0;"),
        ({"dt": 0}, ValueError, "dt must be at least 1, got 0;"),
    ],
)
def test_schedules_refuse_with_a_sentence(schedule, wrong, kind, message):
    settings = {"step": 0, "final": 0.9, "t0": 0, "n": 10, "dt": 5} | wrong
    with pytest.raises(kind, match=f"{schedule.__name__}: {message}"):
        schedule(settings.pop("step"), **settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"final": 1.0}, r"final must be in \[0, 1\), got 1.0;"),
        ({"step": -1}, "step must be at least 0, got -1;"),
        ({"t0": -1}, "t0 must be at least 0, got -1;"),
    ],
)
def test_constant_sparsity_refuses_with_a_sentence(wrong, message):
    settings = {"step": 0, "final": 0.9, "t0": 0} | wrong
    with pytest.raises(ValueError, match=f"constant_sparsity: {message}"):
        constant_sparsity(settings.pop("step"), **settings)


# --- pruning while training ------------------------------------------------------------------


def small_network(sizes=(20, 10, 5), seed=0):
    return nn.mlp(sizes, rng=np.random.default_rng(seed))


def masks_of(network) -> list[np.ndarray]:
    weights = network.weights().values()
    return [np.ones(w.shape, bool) if w.mask is None else w.mask.copy() for w in weights]


def masks_by_step(pruning, network, n_steps: int) -> list[list[np.ndarray]]:
    """Masks before the first step and after each; "training" draws all weights anew."""
    rng, seen = np.random.default_rng(0), [masks_of(network)]
    for step in range(1, n_steps + 1):
        for weight in network.weights().values():
            weight.value = rng.normal(size=weight.shape).astype(weight.dtype)
        pruning.after_step(step)
        seen.append(masks_of(network))
    return seen


@st.composite
def runs(draw) -> tuple:
    """A schedule, its settings, layer sizes, and steps at least until the schedule's end."""
    settings = draw(stages())
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    n_steps = max(end_of(settings), 1) + draw(st.integers(0, 5))
    return draw(st.sampled_from(POLYNOMIALS)), settings, sizes, n_steps


def masks_of_run(run: tuple, choose) -> tuple[list[list[np.ndarray]], list[float]]:
    """Masks by step, and the sparsities that the schedule asks for."""
    schedule, settings, sizes, n_steps = run
    network, final = small_network(sizes), settings["final"]
    filled_in = partial(schedule, **{k: v for k, v in settings.items() if k != "final"})
    pruning = GradualPruning(network, final, schedule=filled_in, n_steps=n_steps, choose=choose)
    wanted = [0.0, *(schedule(step, **settings) for step in range(1, n_steps + 1))]
    return masks_by_step(pruning, network, n_steps), wanted


HALVES = {"initial": 0.0, "final": 0.5, "t0": 0, "n": 3, "dt": 1}


@example(run=(cubic_sparsity, HALVES, [1, 1], 3))
@given(run=runs())
def test_layerwise_counts_are_exact_after_every_step(run):
    seen, wanted = masks_of_run(run, layerwise_masks)
    counts = [[int(mask.sum()) for mask in masks] for masks in seen]
    sizes = [mask.size for mask in seen[0]]
    assert counts == [[count_kept(size, sparsity) for size in sizes] for sparsity in wanted]


@given(run=runs())
def test_global_counts_are_exact_after_every_step(run):
    seen, wanted = masks_of_run(run, global_masks)
    total = sum(mask.size for mask in seen[0])
    counts = [sum(int(mask.sum()) for mask in masks) for masks in seen]
    assert counts == [count_kept(total, sparsity) for sparsity in wanted]


@pytest.mark.parametrize("choose", CHOOSERS)
@given(run=runs())
def test_masks_are_nested(choose, run):
    seen, _ = masks_of_run(run, choose)
    pairs = [pair for masks in pairwise(seen) for pair in zip(*masks, strict=True)]
    assert not any((after & ~before).any() for before, after in pairs)


@given(run=runs())
def test_nothing_is_pruned_before_the_schedule_or_after_it(run):
    schedule, settings, sizes, n_steps = run
    filled_in = partial(schedule, **{k: v for k, v in settings.items() if k != "final"})
    pruning = GradualPruning(
        small_network(sizes), settings["final"], schedule=filled_in, n_steps=n_steps
    )
    assert all(max(settings["t0"], 1) <= step <= end_of(settings) for step in pruning.prunings)


def test_prunings_are_known_before_the_training():
    schedule = partial(linear_sparsity, t0=2, n=3, dt=4, initial=0.3)
    pruning = GradualPruning(small_network(), 0.9, schedule=schedule, n_steps=14)
    assert pruning.prunings == {2: 0.3, 6: 0.5, 10: 0.7, 14: 0.9}


def test_choosing_again_for_the_same_sparsity_finds_the_same_masks():
    network, rng = small_network(), np.random.default_rng(0)
    apply_masks(network, layerwise_masks(network, 0.7))
    before = masks_of(network)
    for weight in network.weights().values():
        weight.value = rng.normal(size=weight.shape).astype(weight.dtype)
    apply_masks(network, layerwise_masks(network, 0.7))
    assert all(map(np.array_equal, before, masks_of(network)))


def train_gradually(optimizer_of, final=0.9, **options):
    """Train on noise; zeros and state outside the masks, and sparsity, after each step."""
    rng, network, seen = np.random.default_rng(0), small_network(), []
    optimizer = optimizer_of(network.parameters())
    schedule = partial(cubic_sparsity, t0=3, n=4, dt=3)
    pruning = GradualPruning(network, final, schedule=schedule, n_steps=20, **options)

    def prune_and_look(step):
        stray = [network.weights()[n].value[~m] for n, m in masks.items() if m is not None]
        seen.append((any(values.any() for values in stray), network_sparsity(network)))
        pruning.after_step(step)
        masks.update({n: w.mask for n, w in network.weights().items()})

    masks = dict.fromkeys(network.weights())
    x, labels = rng.normal(size=(40, 20)).astype(np.float32), rng.integers(0, 5, 40)
    nn.fit(
        network, optimizer, x, labels, epochs=4, batch_size=8, rng=rng, after_step=prune_and_look
    )
    return network, optimizer, seen


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weight_never_revives(name):
    network, _, seen = train_gradually(OPTIMIZERS[name])
    revived = [before for before, _ in seen]
    assert len(revived) == 20
    assert not any(revived)
    assert network_sparsity(network) == 0.9


@pytest.mark.parametrize(
    "name", [name for name in OPTIMIZERS if name not in ("SGD", "SGD with decay")]
)
def test_optimiser_forgets_pruned_weights(name):
    _, optimizer, _ = train_gradually(OPTIMIZERS[name])
    kept = [
        (p.mask, state) for p, state in zip(optimizer.parameters, optimizer.buffers, strict=True)
    ]
    stray = [array[~mask] for mask, state in kept if mask is not None for array in state]
    assert sum(values.size for values in stray) >= 225
    assert not any(values.any() for values in stray)


def test_constant_schedule_is_one_shot_in_the_midst_of_training():
    network = small_network()
    pruning = GradualPruning(
        network, 0.9, schedule=partial(constant_sparsity, t0=2), n_steps=3, choose=global_masks
    )
    pruning.after_step(1)
    expected = global_masks(network, 0.9)
    pruning.after_step(2)
    assert all(map(np.array_equal, expected.values(), masks_of(network)))


def test_a_network_that_is_sparse_already_goes_on_from_there():
    network = small_network()
    apply_masks(network, layerwise_masks(network, 0.5))
    schedule = partial(cubic_sparsity, t0=1, n=2, dt=1, initial=0.5)
    pruning = GradualPruning(network, 0.9, schedule=schedule, n_steps=3)
    before, *_, last = masks_by_step(pruning, network, 3)
    assert [int(mask.sum()) for mask in last] == [20, 5]
    assert not any((b & ~a).any() for a, b in zip(before, last, strict=True))


# --- what is refused -------------------------------------------------------------------------


def falling(step, *, final):
    """Wrong: the formula without an end; past it the sparsity comes down again."""
    return final * (1 - abs(1 - step / 5))


def runaway(step, *, final):
    """Wrong: Zhu and Gupta's cube without its end, which is step 5."""
    return final * (1 - (1 - step / 5) ** 3)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"network": None}, TypeError, "network must be a Network"),
        ({"sparsity": 1.0}, ValueError, r"sparsity must be in \[0, 1\), got 1.0;"),
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1, got 0;"),
        (
            {"n_steps": 9},
            ValueError,
            r"schedule\(9\), the last, must be 0.9, got 0.8991; end the schedule earlier",
        ),
        ({"schedule": falling}, ValueError, r"schedule\(6\) must be at least 0.9, got 0.7"),
        ({"schedule": runaway}, ValueError, r"schedule\(8\) must be in \[0, 1\), got 1.09"),
    ],
)
def test_gradual_pruning_refuses_before_the_training(wrong, kind, message):
    settings = {
        "network": small_network(),
        "sparsity": 0.9,
        "schedule": partial(cubic_sparsity, t0=0, n=10, dt=1),
        "n_steps": 10,
    } | wrong
    with pytest.raises(kind, match=f"GradualPruning: {message}"):
        GradualPruning(settings.pop("network"), settings.pop("sparsity"), **settings)


@pytest.mark.parametrize("steps", [(2,), (1, 1), (1, 2, 1), (1, 3), (0,)])
def test_a_step_left_out_or_taken_twice_is_refused(steps):
    schedule = partial(cubic_sparsity, t0=0, n=5, dt=1)
    pruning = GradualPruning(small_network(), 0.9, schedule=schedule, n_steps=5)
    *fine, wrong = steps
    list(map(pruning.after_step, fine))
    message = f"after_step: step must be {len(fine) + 1}, got {wrong}; call it after every step"
    with pytest.raises(ValueError, match=message):
        pruning.after_step(wrong)


def forgetful(network, sparsity):
    """Wrong: ranks without a look at what is pruned already."""
    n_pruned = round(20 * sparsity)
    values = np.roll(np.arange(20), n_pruned).reshape(2, 10)  # other places each time
    return dict.fromkeys(network.weights(), values >= n_pruned)


def test_a_chooser_that_revives_is_refused_and_changes_nothing():
    network = small_network((10, 2))
    schedule = partial(linear_sparsity, t0=0, n=2, dt=1)
    pruning = GradualPruning(network, 0.9, schedule=schedule, n_steps=2, choose=forgetful)
    pruning.after_step(1)
    (before,) = masks_of(network)
    with pytest.raises(ValueError, match=r"masks\['fc1.weight'\] must leave pruned weights out"):
        pruning.after_step(2)
    assert np.array_equal(before, masks_of(network)[0])


@pytest.mark.parametrize(
    ("masks", "kind", "message"),
    [
        (None, TypeError, "masks must be a dict of arrays, got NoneType"),
        ({"fc9.weight": None}, ValueError, "masks must name weights among"),
        ({"fc1.weight": np.ones(3, bool)}, ValueError, r"masks\['fc1.weight'\] must have shape"),
        ({"fc1.weight": np.ones((2, 10))}, TypeError, r"masks\['fc1.weight'\] must"),
    ],
)
def test_what_is_no_mask_is_refused_with_a_sentence(masks, kind, message):
    network = small_network((10, 2))
    apply_masks(network, layerwise_masks(network, 0.1))
    schedule = partial(constant_sparsity, t0=1)
    pruning = GradualPruning(
        network, 0.9, schedule=schedule, n_steps=1, choose=lambda _network, _sparsity: masks
    )
    with pytest.raises(kind, match=message):
        pruning.after_step(1)
