"""SGD and Adam: exact updates, and pruned weights that stay at zero."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from refimpl.nn import SGD, Adam, Parameter

DTYPES = (np.float32, np.float64)
OPTIMIZERS = {
    "sgd": partial(SGD, lr=0.1),
    "sgd_momentum": partial(SGD, lr=0.1, momentum=0.9),
    "sgd_momentum_decay": partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.5),
    "adam": partial(Adam, lr=0.1),
    "adam_decay": partial(Adam, lr=0.1, weight_decay=0.5),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
MASK = np.array([[True, False, True], [False, True, True]])


def scalar_sgd(w, gradients, *, lr, momentum=0.0, weight_decay=0.0):
    """One weight, one loop, no arrays."""
    velocity = 0.0
    for g in gradients:
        velocity = momentum * velocity + g + weight_decay * w
        w = w - lr * velocity
    return w


def scalar_adam(w, gradients, *, lr, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
    """Algorithm 1 of Kingma and Ba for one weight."""
    m = v = 0.0
    for t, raw in enumerate(gradients, start=1):
        g = raw + weight_decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        w = w - lr * m_hat / (math.sqrt(v_hat) + epsilon)
    return w


ORACLES = (
    (SGD, scalar_sgd, {"lr": 0.3}),
    (SGD, scalar_sgd, {"lr": 0.03, "momentum": 0.9}),
    (SGD, scalar_sgd, {"lr": 0.03, "weight_decay": 0.2}),
    (SGD, scalar_sgd, {"lr": 0.03, "momentum": 0.5, "weight_decay": 0.2}),
    (Adam, scalar_adam, {"lr": 0.01}),
    (Adam, scalar_adam, {"lr": 0.01, "weight_decay": 0.2}),
    (Adam, scalar_adam, {"lr": 0.1, "beta1": 0.5, "beta2": 0.7, "epsilon": 0.1}),
    (Adam, scalar_adam, {"lr": 0.1, "beta1": 0.0, "beta2": 0.0}),
)


def drawn_gradients(n_steps: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(n_steps, *shape)).astype(dtype)


def take_steps(parameter: Parameter, optimizer, gradients) -> None:
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("make", "oracle", "settings"), ORACLES)
def test_optimizers_match_a_scalar_loop(make, oracle, settings, dtype):
    start = np.random.default_rng(3).normal(size=(2, 3)).astype(dtype)
    gradients = drawn_gradients(20, (2, 3), dtype)
    parameter = Parameter(start)
    take_steps(parameter, make([parameter], **settings), gradients)
    expected = [
        oracle(float(w), gradients[:, i, j].astype(float).tolist(), **settings)
        for (i, j), w in np.ndenumerate(start)
    ]
    tolerance = 50 * np.finfo(dtype).eps  # 20 steps of values near 1, a few roundings each
    np.testing.assert_allclose(parameter.value.ravel(), expected, rtol=0, atol=tolerance)


def test_sgd_shrinks_a_quadratic_by_the_same_factor_each_step():
    parameter = Parameter(np.array([1.0]))
    optimizer = SGD([parameter], lr=0.25)
    for _ in range(10):
        parameter.grad = 2 * parameter.value  # of w**2
        optimizer.step()
    assert parameter.value[0] == 0.5**10  # exact: every iterate is a power of 2


def test_sgd_momentum_iterates_on_a_quadratic_are_exact():
    parameter = Parameter(np.array([1.0]))
    optimizer = SGD([parameter], lr=0.5, momentum=0.5)
    iterates = []
    for _ in range(4):
        parameter.grad = parameter.value.copy()  # of w**2 / 2
        optimizer.step()
        iterates.append(float(parameter.value[0]))
    assert iterates == [0.5, 0.0, -0.25, -0.25]  # by hand, v = 1, 1, 0.5, 0


def test_sgd_weight_decay_alone_shrinks_geometrically():
    parameter = Parameter(np.array([8.0]))
    optimizer = SGD([parameter], lr=0.5, weight_decay=1.0)
    take_steps(parameter, optimizer, np.zeros((3, 1)))
    assert parameter.value[0] == 1.0


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_adam_first_step_has_the_size_of_lr(size):
    parameter = Parameter(np.array([1.0, 1.0]))
    take_steps(parameter, Adam([parameter], lr=0.125), np.array([[size, -size]]))
    np.testing.assert_allclose(parameter.value, [0.875, 1.125], rtol=0, atol=1.3e-6)


def test_adam_moves_a_regrown_weight_further_than_lr():
    parameter = Parameter(np.zeros(2))
    parameter.mask = np.array([True, False])
    optimizer = Adam([parameter], lr=1.0)
    take_steps(parameter, optimizer, np.ones((20_000, 2)))
    parameter.mask = None
    take_steps(parameter, optimizer, np.ones((1, 2)))
    # m = 0.1 g and v = 0.001 g**2, and late in training nothing corrects them.
    assert parameter.value[1] == pytest.approx(-math.sqrt(10), rel=1e-6)


@every_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_optimizers_keep_the_dtype(make, dtype):
    parameter = Parameter(np.ones((2, 3), dtype))
    optimizer = make([parameter])
    take_steps(parameter, optimizer, drawn_gradients(2, (2, 3), dtype))
    assert {a.dtype for a in (parameter.value, *optimizer.buffers[0])} == {np.dtype(dtype)}


@every_optimizer
def test_optimizers_write_into_the_same_arrays(make):
    parameter = Parameter(np.ones((2, 3)))
    optimizer = make([parameter])
    before = [id(a) for a in (parameter.value, *optimizer.buffers[0])]
    take_steps(parameter, optimizer, drawn_gradients(2, (2, 3), np.float64))
    assert [id(a) for a in (parameter.value, *optimizer.buffers[0])] == before


@every_optimizer
def test_optimizers_only_read_the_gradient(make):
    parameter = Parameter(np.ones((2, 3)))
    parameter.mask = MASK
    gradient = drawn_gradients(1, (2, 3), np.float64)[0]
    untouched = gradient.copy()
    take_steps(parameter, make([parameter]), [gradient])
    np.testing.assert_array_equal(gradient, untouched)


@every_optimizer
def test_optimizers_treat_parameters_of_every_shape_and_dtype_alike(make):
    shapes = [((4, 5), np.float64), ((3,), np.float64), ((2, 2, 2), np.float32), ((), np.float64)]
    together = [Parameter(np.ones(shape, dtype)) for shape, dtype in shapes]
    alone = [Parameter(p.value) for p in together]
    optimizers = [make([p]) for p in alone] + [make(together)]
    for p in (*together, *alone):
        p.grad = np.full_like(p.value, 0.5)
    for optimizer in optimizers:
        optimizer.step()
    assert [p.value.tobytes() for p in together] == [p.value.tobytes() for p in alone]


@every_optimizer
def test_optimizers_take_gradients_of_the_other_byte_order(make):
    one, other = Parameter(np.ones((2, 3))), Parameter(np.ones((2, 3)))
    gradients = drawn_gradients(3, (2, 3), np.float64)
    take_steps(one, make([one]), gradients)
    take_steps(other, make([other]), gradients.astype(">f8"))
    assert one.value.tobytes() == other.value.tobytes()


@pytest.mark.parametrize(
    ("name", "n_buffers"),
    [("sgd", 0), ("sgd_momentum", 1), ("sgd_momentum_decay", 1), ("adam", 2), ("adam_decay", 2)],
)
def test_optimizer_state_takes_this_many_numbers_a_weight(name, n_buffers):
    optimizer = OPTIMIZERS[name]([Parameter(np.ones((2, 3)))])
    assert [buffer.shape for buffer in optimizer.buffers[0]] == [(2, 3)] * n_buffers


def is_positive_zero(array: np.ndarray) -> bool:
    return bool(np.all(array == 0) and not np.any(np.signbit(array)))


@every_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_pruned_weights_stay_positive_zero(make, dtype):
    parameter = Parameter(np.full((2, 3), -2.0, dtype))
    parameter.mask = MASK
    take_steps(parameter, make([parameter]), drawn_gradients(25, (2, 3), dtype))
    assert is_positive_zero(parameter.value[~MASK])


@every_optimizer
def test_weights_pruned_between_steps_lose_their_momentum(make):
    parameter = Parameter(np.ones((2, 3)))
    optimizer = make([parameter])
    gradients = drawn_gradients(12, (2, 3), np.float64)
    take_steps(parameter, optimizer, gradients[:10])
    parameter.mask = MASK
    take_steps(parameter, optimizer, gradients[10:11])
    pruned = [array[~MASK] for array in (parameter.value, *optimizer.buffers[0])]
    assert all(is_positive_zero(array) for array in pruned)


@every_optimizer
def test_pruning_some_weights_leaves_the_others_alone(make):
    masked, free = Parameter(np.ones((2, 3))), Parameter(np.ones((2, 3)))
    masked.mask = MASK
    gradients = drawn_gradients(10, (2, 3), np.float64)
    take_steps(masked, make([masked]), gradients)
    take_steps(free, make([free]), gradients)
    np.testing.assert_array_equal(masked.value[MASK], free.value[MASK])


@every_optimizer
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_poisoned_gradient_of_a_pruned_weight_does_no_harm(make, poison):
    parameter = Parameter(np.ones((2, 3)))
    parameter.mask = MASK
    optimizer = make([parameter])
    gradients = drawn_gradients(3, (2, 3), np.float64)
    gradients[:, ~MASK] = poison
    take_steps(parameter, optimizer, gradients)
    assert np.isfinite(parameter.value).all()
    assert all(is_positive_zero(array[~MASK]) for array in (parameter.value, *optimizer.buffers[0]))


@every_optimizer
def test_a_regrown_weight_starts_without_memory(make):
    regrown, never_pruned = Parameter(np.ones((2, 3))), Parameter(np.ones((2, 3)))
    optimizer, reference = make([regrown]), make([never_pruned])
    gradients = drawn_gradients(11, (2, 3), np.float64)
    gradients[:10, ~MASK] = 0  # what a weight without history has seen
    never_pruned.value = np.where(MASK, 1.0, 0.0)
    regrown.mask = MASK
    poisoned = gradients.copy()
    poisoned[:10, ~MASK] = 100
    take_steps(regrown, optimizer, poisoned[:10])
    regrown.mask = None
    take_steps(regrown, optimizer, poisoned[10:])
    take_steps(never_pruned, reference, gradients)
    assert regrown.value.tobytes() == never_pruned.value.tobytes()


@every_optimizer
def test_a_step_undoes_what_was_written_past_the_mask(make):
    parameter = Parameter(np.ones((2, 3)))
    parameter.mask = MASK
    parameter.value[0, 1] = 3.0
    take_steps(parameter, make([parameter]), np.zeros((1, 2, 3)))
    assert is_positive_zero(parameter.value[~MASK])


class GradientMasked(SGD):
    """The easy mistake: the mask meets the gradient and nothing else."""

    def step(self) -> None:
        for parameter, (velocity,) in zip(self.parameters, self.buffers, strict=True):
            gradient = parameter.grad * parameter.mask
            velocity[...] = self.momentum * velocity + gradient
            parameter.value[...] -= self.lr * velocity


def test_masking_only_the_gradient_is_found_out():
    parameter = Parameter(np.ones((2, 3)))
    optimizer = GradientMasked([parameter], lr=0.1, momentum=0.9)
    parameter.mask = np.ones((2, 3), bool)
    take_steps(parameter, optimizer, np.ones((3, 2, 3)))
    parameter.mask = MASK
    take_steps(parameter, optimizer, np.ones((1, 2, 3)))
    assert not is_positive_zero(parameter.value[~MASK])


def test_lr_may_change_between_steps():
    parameter = Parameter(np.array([1.0]))
    optimizer = SGD([parameter], lr=0.5)
    take_steps(parameter, optimizer, [np.array([1.0])])
    optimizer.lr = 0.25
    take_steps(parameter, optimizer, [np.array([1.0])])
    assert parameter.value[0] == 0.25


@every_optimizer
def test_float32_updates_do_not_depend_on_the_type_of_lr(make):
    one, other = (Parameter(np.zeros(500, np.float32)) for _ in range(2))
    optimizer = make([other])
    optimizer.lr = np.float64(optimizer.lr)
    gradients = drawn_gradients(3, (500,), np.float32)
    take_steps(one, make([one]), gradients)
    take_steps(other, optimizer, gradients)
    assert one.value.tobytes() == other.value.tobytes()


@every_optimizer
def test_step_before_backward_is_refused_and_moves_nothing(make):
    parameters = [Parameter(np.ones(2)), Parameter(np.ones(3))]
    parameters[0].grad = np.ones(2)
    optimizer = make(parameters)
    message = r"\.step: every parameter must have a gradient, got none for 1 of 2; call network"
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    np.testing.assert_array_equal(parameters[0].value, np.ones(2))


@pytest.mark.parametrize("make", [SGD, Adam])
@pytest.mark.parametrize("lr", [0, -0.1, math.nan, math.inf])
def test_lr_out_of_range_is_refused(make, lr):
    with pytest.raises(ValueError, match=f"{make.__name__}: lr must be finite and above 0, got"):
        make([Parameter(np.ones(2))], lr=lr)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (SGD, {"momentum": 1.0}, r"SGD: momentum must be in \[0, 1\), got 1.0"),
        (SGD, {"momentum": -0.5}, r"SGD: momentum must be in \[0, 1\), got -0.5"),
        (SGD, {"weight_decay": -1.0}, "SGD: weight_decay must be finite and at least 0, got -1.0"),
        (Adam, {"weight_decay": math.nan}, "Adam: weight_decay must be finite and at least 0"),
        (Adam, {"beta1": 1.0}, r"Adam: beta1 must be in \[0, 1\), got 1.0"),
        (Adam, {"beta2": -0.1}, r"Adam: beta2 must be in \[0, 1\), got -0.1"),
        (Adam, {"epsilon": 0.0}, "Adam: epsilon must be finite and above 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make([Parameter(np.ones(2))], lr=0.1, **settings)


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"fc1.weight": Parameter(np.ones(2))}, "dict"),
        (Parameter(np.ones(2)), "Parameter"),
        ([np.ones(2)], "ndarray"),
        (["fc1.weight"], "str"),
    ],
)
def test_what_is_no_list_of_parameters_is_refused(parameters, found):
    message = f"SGD: parameters must be a list of Parameter, got {found}; pass network.parameters"
    with pytest.raises(TypeError, match=message):
        SGD(parameters, lr=0.1)


def test_no_parameters_are_refused():
    with pytest.raises(ValueError, match="SGD: parameters must be at least one, each once, got 0"):
        SGD([], lr=0.1)


def test_a_parameter_twice_is_refused():
    parameter = Parameter(np.ones(2))
    with pytest.raises(ValueError, match="each once, got 2 with 1 distinct; pass"):
        SGD([parameter, parameter], lr=0.1)


@every_optimizer
def test_optimizers_forget_what_they_are_told_and_nothing_else(make):
    parameters = [Parameter(np.ones((2, 3))), Parameter(np.ones((2, 3)))]
    optimizer = make(parameters)
    for parameter in parameters:
        parameter.grad = np.full((2, 3), 2.0)
    optimizer.step()
    before = [[buffer.copy() for buffer in buffers] for buffers in optimizer.buffers]
    values = parameters[1].value.copy()
    optimizer.forget(parameters[1], MASK)
    np.testing.assert_equal(list(optimizer.buffers[0]), before[0])
    expected = [np.where(MASK, 0.0, buffer) for buffer in before[1]]
    np.testing.assert_equal(list(optimizer.buffers[1]), expected)
    np.testing.assert_equal(parameters[1].value, values)


def test_forgotten_weight_moves_as_a_new_one():
    old, new = Parameter(np.array([1.0])), Parameter(np.array([1.0]))
    moved, fresh = SGD([old], lr=0.1, momentum=0.9), SGD([new], lr=0.1, momentum=0.9)
    take_steps(old, moved, np.ones((3, 1)))
    old.value = np.array([1.0])
    moved.forget(old, np.array([True]))
    take_steps(old, moved, np.ones((2, 1)))
    take_steps(new, fresh, np.ones((2, 1)))
    assert old.value == new.value


def test_forget_refuses_with_a_sentence():
    parameter, stranger = Parameter(np.ones(2)), Parameter(np.ones(2))
    adam = Adam([parameter], lr=0.1)
    with pytest.raises(ValueError, match=r"Adam.forget: parameter must be one that it moves, got"):
        adam.forget(stranger, np.ones(2, bool))
    with pytest.raises(TypeError, match=r"Adam.forget: where must be bool, got float64;"):
        adam.forget(parameter, np.ones(2))
