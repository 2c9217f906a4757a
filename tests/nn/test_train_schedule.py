"""What `fit` does with a schedule, with a limit on the gradient, and with a hook before both."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from refimpl.nn import (
    SGD,
    Adam,
    Network,
    clip_gradients,
    cosine_lr,
    fit,
    mlp,
    smoothed_cross_entropy,
    softmax_cross_entropy,
)

N_STEPS = 6  # two epochs of three batches
X = np.random.default_rng(3).normal(size=(9, 4))
Y = np.arange(9) % 3
PLAIN = partial(SGD, lr=0.1)
COSINE = partial(cosine_lr, lr=0.5, n_steps=N_STEPS, n_warmup=2)


def small_network() -> Network:
    return mlp((4, 5, 3), rng=np.random.default_rng(0), dtype=np.float64)


def train(network: Network, optimizer, **settings) -> None:
    settings = {"epochs": 2, "batch_size": 3, "rng": np.random.default_rng(1)} | settings
    fit(network, optimizer, X, Y, **settings)


def trained(optimizer=PLAIN, prepare=None, **settings) -> dict[str, bytes]:
    """Bits of a network after training; `prepare` sees network and optimiser before."""
    network = small_network()
    made = optimizer(network.parameters())
    settings |= prepare(network, made) if prepare else {}
    train(network, made, **settings)
    return {name: value.tobytes() for name, value in network.state().items()}


def steep(outputs, labels, times=1e6):
    """A loss whose gradient explodes."""
    loss, dy = softmax_cross_entropy(outputs, labels)
    return loss, times * dy


# --- schedules -------------------------------------------------------------------------------


def test_schedule_is_asked_before_every_step_from_one():
    asked = []

    def schedule(step):
        asked.append(step)
        return 0.1

    trained(schedule=schedule)
    assert asked == list(range(1, N_STEPS + 1))


@pytest.mark.parametrize("rule", [partial(SGD, momentum=0.9), Adam])
def test_schedule_trains_like_rates_set_by_hand(rule):
    def by_hand(network, optimizer):  # noqa: ARG001 - network is not needed here
        def set_next(step):
            optimizer.lr = COSINE(min(step + 1, N_STEPS))

        return {"after_step": set_next}

    expected = trained(partial(rule, lr=COSINE(1)), by_hand)
    assert trained(partial(rule, lr=1.0), schedule=COSINE) == expected


def test_schedule_leaves_its_last_rate_in_the_optimizer():
    network = small_network()
    optimizer = SGD(network.parameters(), lr=1.0)
    train(network, optimizer, schedule=COSINE)
    assert optimizer.lr == COSINE(N_STEPS)


def test_schedule_counts_anew_in_every_fit():
    asked = []
    network = small_network()
    optimizer = SGD(network.parameters(), lr=1.0)
    for _ in range(2):
        train(network, optimizer, epochs=1, schedule=lambda step: asked.append(step) or 0.1)
    assert asked == [1, 2, 3, 1, 2, 3]


def test_schedule_overrules_what_after_step_sets():
    def distract(network, optimizer):  # noqa: ARG001 - network is not needed here
        return {"after_step": lambda step: setattr(optimizer, "lr", 100.0 * step)}

    assert trained(prepare=distract, schedule=COSINE) == trained(schedule=COSINE)


def test_schedule_of_zero_stops_all_movement():
    network = small_network()
    before = network.state()
    train(network, Adam(network.parameters(), lr=1.0), schedule=lambda step: 0)  # noqa: ARG005
    np.testing.assert_equal(network.state(), before)


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (-0.1, ValueError, "be finite and at least 0, got -0.1; give"),
        (math.nan, ValueError, "be finite and at least 0, got nan; give"),
        (math.inf, ValueError, "be finite and at least 0, got inf; give"),
        (None, TypeError, "be a number, got None; give"),
        (np.ones(1), TypeError, r"be a number, got array\(\[1.\]\); give"),
    ],
)
def test_schedule_out_of_range_is_refused_at_its_step(rate, error, message):
    network, states = small_network(), []
    with pytest.raises(error, match=rf"fit: schedule\(3\) must {message}"):
        train(
            network,
            SGD(network.parameters(), lr=0.1),
            schedule=lambda step: rate if step == 3 else 0.1,
            after_step=lambda _: states.append(network.state()),
        )
    np.testing.assert_equal(network.state(), states[1])


def test_schedule_that_ends_too_early_stops_the_training():
    with pytest.raises(ValueError, match=r"cosine_lr: step must be in \[1, 4\], got 5; give"):
        trained(schedule=partial(cosine_lr, lr=0.1, n_steps=4))


# --- clipping --------------------------------------------------------------------------------


def test_clipping_in_fit_is_clipping_of_every_step():
    network = small_network()
    optimizer = SGD(network.parameters(), lr=0.1)
    start = network.state()
    network.backward(softmax_cross_entropy(network.forward(X), Y)[1])
    assert clip_gradients(network.parameters(), 0.01) > 0.01
    expected = {n: start[n] - 0.1 * p.grad for n, p in network.named_parameters().items()}
    network.load_state(start)
    train(network, optimizer, epochs=1, batch_size=9, max_gradient_norm=0.01)
    for name, value in network.state().items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-15)


def test_clipping_survives_a_gradient_that_explodes():
    network = small_network()
    before = network.state()
    optimizer = SGD(network.parameters(), lr=0.1)
    train(network, optimizer, loss=steep, max_gradient_norm=1.0)
    moved = [np.subtract(network.state()[name], before[name]) for name in before]
    assert math.hypot(*np.concatenate([m.ravel() for m in moved])) <= 0.1 * N_STEPS * (1 + 1e-12)


def test_clipping_with_a_limit_that_is_never_reached_changes_no_bit():
    assert trained(max_gradient_norm=1e9) == trained()


def gradient_norm(network: Network, layer: str) -> float:
    """Of one layer, for all examples, before any step."""
    network.backward(softmax_cross_entropy(network.forward(X), Y)[1])
    grads = [parameter.grad.ravel() for parameter in network.layers[layer].parameters()]
    return math.hypot(*np.concatenate(grads))


def test_clipping_counts_only_what_the_optimizer_moves():
    def only_the_last_layer(**settings):
        network = small_network()
        network.layers["fc2"].weight.value *= 1000  # which makes the gradient of fc1 long
        assert gradient_norm(network, "fc2") < 10 < gradient_norm(network, "fc1")
        optimizer = SGD(network.layers["fc2"].parameters(), lr=1e-6)
        train(network, optimizer, epochs=1, batch_size=9, **settings)
        return network.layers["fc2"].weight.value.tobytes()

    assert only_the_last_layer(max_gradient_norm=10.0) == only_the_last_layer()


def test_clipping_leaves_weight_decay_alone():
    network = small_network()
    before = network.state()
    optimizer = SGD(network.parameters(), lr=0.1, weight_decay=0.5)
    train(network, optimizer, epochs=1, batch_size=9, max_gradient_norm=1e-12)
    for name, value in network.state().items():
        np.testing.assert_allclose(value, 0.95 * before[name], rtol=0, atol=2e-13)


@pytest.mark.parametrize("wild", [np.nan, np.inf])
def test_clipping_stops_at_a_gradient_that_is_not_finite(wild):
    network, states, calls = small_network(), [], []

    def loss(outputs, labels):
        calls.append(None)
        found, dy = softmax_cross_entropy(outputs, labels)
        return found, dy * (wild if len(calls) == 3 else 1)

    settings = {"loss": loss, "after_step": lambda _: states.append(network.state())}
    message = "fit: gradients must be finite, got NaN or infinity at step 3; try an lr smaller than"
    with pytest.raises(FloatingPointError, match=message):
        train(network, SGD(network.parameters(), lr=0.1), max_gradient_norm=1.0, **settings)
    np.testing.assert_equal(network.state(), states[1])


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("limit", [0, -1.0, math.nan, math.inf])
def test_fit_refuses_a_limit_out_of_range(limit, epochs):
    with pytest.raises(ValueError, match="fit: max_gradient_norm must be finite and above 0, got"):
        trained(epochs=epochs, max_gradient_norm=limit)


# --- between the backward pass and the step ---------------------------------------------------


def test_after_backward_is_called_once_a_step_from_one():
    calls = []
    trained(after_backward=calls.append)
    assert calls == list(range(1, N_STEPS + 1))


def test_after_backward_sees_the_gradient_and_the_weights_before_the_step():
    def watch(network, optimizer):  # noqa: ARG001 - optimizer is not needed here
        start = network.state()
        network.backward(softmax_cross_entropy(network.forward(X), Y)[1])
        expected = {name: p.grad.copy() for name, p in network.named_parameters().items()}

        def look(step):  # noqa: ARG001 - the hook's signature
            np.testing.assert_equal(network.state(), start)
            for name, parameter in network.named_parameters().items():
                np.testing.assert_allclose(parameter.grad, expected[name], atol=1e-15)

        return {"after_backward": look}

    trained(prepare=watch, epochs=1, batch_size=9)


def test_after_backward_may_change_the_gradient_that_is_clipped_and_followed():
    def lengthen(network, optimizer):  # noqa: ARG001 - optimizer is not needed here
        def times(step):  # noqa: ARG001 - the hook's signature
            for parameter in network.parameters():
                parameter.grad = parameter.grad * 2.0**20

        return {"after_backward": times}

    assert trained(prepare=lengthen) != trained()
    settings = {"epochs": 1, "batch_size": 9, "max_gradient_norm": 2.0**-10}
    assert trained(prepare=lengthen, **settings) == trained(**settings)


@pytest.mark.parametrize("taken", [True, False, None, 1])
def test_after_backward_that_returns_true_takes_the_place_of_the_step(taken):
    moves = taken is not True

    def watch(network, optimizer):
        start = network.state()

        def look(step):  # noqa: ARG001 - the hook's signature
            same = all(np.array_equal(start[n], v) for n, v in network.state().items())
            assert same != moves
            assert optimizer.n_steps == moves

        return {"after_backward": lambda step: taken, "after_step": look}  # noqa: ARG005 - same

    trained(prepare=watch, epochs=1, batch_size=9)


# --- a loss with an option -------------------------------------------------------------------


def test_fit_takes_a_loss_with_its_option_filled_in():
    network = small_network()
    loss = partial(smoothed_cross_entropy, smoothing=0.2)
    expected, _ = loss(network.forward(X), Y)
    optimizer = SGD(network.parameters(), lr=0.1)
    history = fit(
        network, optimizer, X, Y, epochs=1, batch_size=9, rng=np.random.default_rng(0), loss=loss
    )
    assert history.train_loss == (pytest.approx(expected, rel=1e-14),)
