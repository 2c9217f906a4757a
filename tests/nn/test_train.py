"""Training: batches, bookkeeping, refusals."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from refimpl.nn import (
    SGD,
    Adam,
    Dropout,
    Flatten,
    History,
    Layer,
    Linear,
    Network,
    ReLU,
    evaluate,
    fit,
    mean_squared_error,
)

N = 23


class Spy(Layer):
    """Pass everything through; remember the batches and the flags."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []
        self.flags: list[bool] = []

    def forward(self, x, *, training=False):
        self.batches.append(x.copy())
        self.flags.append(training)
        return x

    def backward(self, dy):
        return dy


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """Three classes that a line can tell apart, nearly."""
    rng = np.random.default_rng(11)
    y = rng.integers(0, 3, N)
    return np.eye(3)[y] + 0.1 * rng.normal(size=(N, 3)), y


def small_network(seed: int = 0, spy: Spy | None = None) -> Network:
    rng = np.random.default_rng(seed)
    layers = {"spy": spy} if spy else {}
    layers |= {"fc1": Linear(3, 5, rng=rng, dtype=np.float64), "relu1": ReLU()}
    return Network({**layers, "fc2": Linear(5, 3, rng=rng, dtype=np.float64)})


def train(network: Network, data, *, optimizer=None, lr=0.1, seed=0, **settings) -> History:
    optimizer = optimizer or SGD(network.parameters(), lr=lr)
    settings = {"epochs": 2, "batch_size": 5, "rng": np.random.default_rng(seed), **settings}
    return fit(network, optimizer, *data, **settings)


def row_ids(batches: list[np.ndarray]) -> list[float]:
    return [float(row[0]) for batch in batches for row in batch]


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(5, [5, 5, 5, 5, 3]), (23, [23]), (24, [23]), (1000, [23]), (1, [1] * 23)],
)
def test_fit_cuts_an_epoch_into_batches_and_keeps_the_rest(data, batch_size, sizes):
    spy = Spy()
    train(small_network(spy=spy), data, epochs=1, batch_size=batch_size)
    assert [len(batch) for batch in spy.batches] == sizes


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_fit_sees_every_example_once_an_epoch(data, epoch):
    spy = Spy()
    train(small_network(spy=spy), data, epochs=3, batch_size=5)
    seen = row_ids(spy.batches[5 * epoch : 5 * epoch + 5])
    assert sorted(seen) == sorted(data[0][:, 0])


def test_fit_shuffles_anew_each_epoch(data):
    spy = Spy()
    train(small_network(spy=spy), data, epochs=2, batch_size=N)
    assert row_ids(spy.batches[:1]) != row_ids(spy.batches[1:])


def test_fit_keeps_examples_and_labels_together():
    x = np.random.default_rng(0).permutation(N).astype(float)[:, np.newaxis]
    pairs = []

    def loss(outputs, targets):
        pairs.extend(zip(outputs[:, 0], targets, strict=True))
        return 0.0, np.zeros_like(outputs)

    layers = {"spy": Spy(), "fc": Linear(1, 1, rng=np.random.default_rng(0), dtype=np.float64)}
    layers["fc"].weight.value = np.ones((1, 1))
    train(Network(layers), (x, x[:, 0].astype(int)), loss=loss)
    assert all(output == target for output, target in pairs)


def test_fit_trains_in_training_mode_and_validates_in_inference_mode(data):
    spy = Spy()
    train(small_network(spy=spy), data, epochs=2, batch_size=N, validation=data)
    assert spy.flags == [True, False, True, False]


def test_fit_of_one_full_batch_is_one_gradient_step(data):
    network, by_hand = small_network(), small_network()
    train(network, data, epochs=1, batch_size=N, lr=0.5)
    logits = by_hand.forward(data[0])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    by_hand.backward((p - np.eye(3)[data[1]]) / N)
    expected = by_hand.parameters()[0].value - 0.5 * by_hand.parameters()[0].grad
    np.testing.assert_allclose(network.parameters()[0].value, expected, rtol=0, atol=1e-14)


def test_fit_twice_with_one_seed_gives_the_same_bits(data):
    def bits():
        rng = np.random.default_rng(5)
        network = small_network()
        network.layers["dropout"] = Dropout(0.2, rng=rng)
        optimizer = Adam(network.parameters(), lr=0.01)
        history = train(network, data, optimizer=optimizer, epochs=4, rng=rng, validation=data)
        return history, {name: array.tobytes() for name, array in network.state().items()}

    assert bits() == bits()


def test_fit_with_another_seed_gives_other_bits(data):
    networks = small_network(), small_network()
    train(networks[0], data, seed=0)
    train(networks[1], data, seed=1)
    assert len({network.parameters()[0].value.tobytes() for network in networks}) == 2


def test_fit_leaves_the_data_alone(data):
    before = [array.copy() for array in data]
    train(small_network(), data)
    np.testing.assert_equal(list(data), before)


def test_pruned_weights_stay_zero_through_fit(data):
    network = small_network()
    weight = network.weights()["fc1.weight"]
    weight.mask = np.arange(15).reshape(5, 3) % 2 == 0
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    train(network, data, optimizer=optimizer, epochs=5)
    assert not weight.value[~weight.mask].any()
    assert weight.value[weight.mask].all()


def test_history_train_loss_weighs_a_short_batch_by_its_examples():
    x, y = np.zeros((5, 1)), np.arange(5.0)[:, np.newaxis]
    network = Network({"fc": Linear(1, 1, rng=np.random.default_rng(0), dtype=np.float64)})
    settings = {"lr": 1e-300, "epochs": 1, "batch_size": 3, "loss": mean_squared_error}
    history = train(network, (x, y), **settings)
    assert history.train_loss == (pytest.approx(30 / 5, rel=1e-15),)


@pytest.mark.parametrize(
    ("every", "expected"), [(1, (1, 2, 3, 4, 5)), (2, (1.5, 3.5, 5)), (5, (65 / 23,))]
)
def test_history_train_loss_covers_the_steps_since_the_entry_before(data, every, expected):
    losses = iter(range(1, 6))

    def count(outputs, targets):  # noqa: ARG001 - the loss's signature
        return float(next(losses)), np.zeros_like(outputs)

    history = train(small_network(), data, epochs=1, evaluate_every=every, loss=count)
    assert history.train_loss == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("every", "steps"),
    [(None, (5, 10)), (1, tuple(range(1, 11))), (4, (4, 8, 10)), (10, (10,)), (99, (10,))],
)
def test_history_has_an_entry_at_each_evaluation_and_at_the_end(data, every, steps):
    history = train(small_network(), data, evaluate_every=every, validation=data)
    lengths = {len(history.train_loss), len(history.validation_loss)}
    assert (history.steps, lengths) == (steps, {len(steps)})


def test_history_validation_is_that_of_the_trained_network(data):
    network = small_network()
    history = train(network, data, validation=data)
    loss, accuracy = evaluate(network, *data)
    assert (history.validation_loss[-1], history.validation_accuracy[-1]) == (loss, accuracy)


def test_history_without_validation_has_no_validation(data):
    history = train(small_network(), data)
    assert (history.validation_loss, history.early_stop_step) == ((), None)


@pytest.mark.parametrize(
    ("losses", "step"), [((3.0, 1.0, 2.0), 20), ((1.0, 1.0, 1.0), 10), ((3.0, 2.0, 1.0), 30)]
)
def test_early_stop_step_is_the_first_of_the_least_validation_loss(losses, step):
    history = History((10, 20, 30), (0.0,) * 3, losses, (0.5,) * 3)
    assert history.early_stop_step == step


def test_history_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign to field"):
        History((), (), (), ()).steps = (1,)


def test_fit_of_no_epochs_changes_nothing(data):
    network = small_network()
    before = network.state()
    assert train(network, data, epochs=0) == History((), (), (), ())
    np.testing.assert_equal(network.state(), before)


def test_after_step_is_called_once_a_step_from_one(data):
    calls = []
    train(small_network(), data, after_step=calls.append)
    assert calls == list(range(1, 11))


def test_after_step_may_prune_before_the_evaluation(data):
    network = small_network()
    weight = network.weights()["fc2.weight"]

    def prune_all(step):  # noqa: ARG001 - the callback's signature
        weight.mask = np.zeros(weight.shape, bool)

    history = train(network, data, lr=1e-300, epochs=1, validation=data, after_step=prune_all)
    assert history.validation_loss == (pytest.approx(math.log(3)),)  # only zero biases are left


def test_after_step_may_change_the_learning_rate(data):
    network = small_network()
    optimizer = SGD(network.parameters(), lr=0.1)
    states = []

    def stop_moving(step):  # noqa: ARG001 - the callback's signature
        optimizer.lr = 0.0
        states.append(network.state())

    train(network, data, optimizer=optimizer, after_step=stop_moving)
    np.testing.assert_equal(states[-1], states[0])


@pytest.mark.parametrize("progress", [False, True])
def test_fit_shows_a_bar_only_if_asked(data, capsys, progress):
    train(small_network(), data, progress=progress, validation=data)
    out, err = capsys.readouterr()
    assert (out, bool(err)) == ("", progress)
    assert bool(re.search(r"10/10.*loss=", err)) == progress


def test_evaluate_counts_what_is_right():
    logits = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0], [5.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    result = evaluate(Network({"flatten": Flatten()}), logits, np.array([0, 2, 1, 1]))
    assert result.accuracy == 3 / 4


@pytest.mark.parametrize("batch_size", [1, 4, 22, 23, 1000])
def test_evaluate_is_the_mean_over_examples_for_every_batch_size(data, batch_size):
    network = small_network()
    logits = network.forward(data[0])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(N), data[1]].mean()
    accuracy = float((logits.argmax(axis=1) == data[1]).mean())
    result = evaluate(network, *data, batch_size=batch_size)
    assert result == (pytest.approx(loss, rel=1e-14), accuracy)


def test_evaluate_of_a_regression_has_no_accuracy():
    x = np.array([[1.0], [3.0]])
    result = evaluate(Network({"flatten": Flatten()}), x, np.zeros((2, 1)), loss=mean_squared_error)
    assert result.loss == 5.0
    assert math.isnan(result.accuracy)


def test_evaluate_changes_no_weight(data):
    network = small_network()
    before = network.state()
    evaluate(network, *data)
    np.testing.assert_equal(network.state(), before)


def test_fit_can_regress():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + 0.25
    layer = Linear(3, 1, rng=rng, dtype=np.float64)
    train(Network({"fc": layer}), (x, y), epochs=200, batch_size=10, loss=mean_squared_error)
    np.testing.assert_allclose(layer.weight.value, [[1.0, -2.0, 0.5]], rtol=0, atol=1e-9)
    np.testing.assert_allclose(layer.bias.value, [0.25], rtol=0, atol=1e-9)


def nan_at(step: int, value: float = math.nan):
    """A loss that becomes `value` at one step."""
    calls = []

    def loss(outputs, targets):  # noqa: ARG001 - the loss's signature
        calls.append(None)
        return value if len(calls) == step else 1.0, np.ones_like(outputs)

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_fit_stops_at_a_loss_that_is_not_finite(data, value):
    message = f"fit: loss must be finite, got {value} at step 3; try an lr smaller than 0.1"
    with pytest.raises(FloatingPointError, match=message):
        train(small_network(), data, loss=nan_at(3, value))


def test_fit_leaves_the_weights_of_the_step_before_the_loss_broke(data):
    broken, reference, states = small_network(), small_network(), []
    train(reference, data, loss=nan_at(0), after_step=lambda _: states.append(reference.state()))
    with pytest.raises(FloatingPointError, match="at step 3"):
        train(broken, data, loss=nan_at(3))
    np.testing.assert_equal(broken.state(), states[1])


def test_fit_tells_a_divergence_in_one_sentence(data):
    with pytest.raises(FloatingPointError, match=r"fit: loss must be finite, got .+ at step \d+;"):
        train(small_network(), data, lr=1e200, epochs=20)


def test_fit_refuses_a_validation_loss_that_is_not_finite(data):
    poisoned = np.full_like(data[0], np.nan), data[1]
    with pytest.raises(FloatingPointError, match="validation loss must be finite, got nan after"):
        train(small_network(), data, validation=poisoned)


def test_fit_never_returns_weights_that_are_not_finite(data):
    with pytest.raises(FloatingPointError, match="every weight must be finite, got NaN or inf"):
        train(small_network(), data, epochs=1, batch_size=N, loss=nan_at(0), lr=1.7e308)


def test_fit_refuses_an_optimizer_of_another_network(data):
    optimizer = SGD(small_network().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="hold this network's parameters, got 4 of 4 from else"):
        train(small_network(), data, optimizer=optimizer)


def test_fit_may_train_some_parameters_only(data):
    network = small_network()
    frozen = network.layers["fc1"].weight.value.copy()
    optimizer = SGD(network.layers["fc2"].parameters(), lr=0.1)
    train(network, data, optimizer=optimizer)
    np.testing.assert_array_equal(network.layers["fc1"].weight.value, frozen)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"epochs": -1}, ValueError, "fit: epochs must be at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "fit: epochs must be an integer, got 1.5"),
        ({"batch_size": 0}, ValueError, "fit: batch_size must be at least 1, got 0"),
        ({"evaluate_every": 0}, ValueError, "fit: evaluate_every must be at least 1, got 0"),
        (
            {"validation": np.zeros((2, 3))},
            TypeError,
            "fit: validation must be a pair, got ",
        ),
        (
            {"validation": (np.zeros((2, 3)), np.zeros(3, int))},
            ValueError,
            r"fit: validation y must have length 2, got shape \(3,\); validation x and",
        ),
    ],
)
def test_fit_refuses_settings_out_of_range(data, settings, kind, message):
    with pytest.raises(kind, match=message):
        train(small_network(), data, **settings)


def test_fit_refuses_a_bare_seed(data):
    with pytest.raises(TypeError, match=r"fit: rng must be a numpy.random.Generator, got int"):
        train(small_network(), data, rng=0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), r"x must hold an example, got shape \(0, 3\)"),
        (np.zeros((4, 3)), np.zeros(5, int), r"(y|labels) must have length 4, got shape \(5,\)"),
        (np.zeros((4, 3)), np.array(1), r"(y|labels) must have length 4, got shape \(\)"),
        (np.array(1.0), np.zeros(1, int), r"x must hold an example, got shape \(\)"),
    ],
)
@pytest.mark.parametrize("use", [train, lambda network, data: evaluate(network, *data)])
def test_unpaired_or_missing_examples_are_refused(use, x, y, message):
    with pytest.raises(ValueError, match=message):
        use(small_network(), (x, y))
