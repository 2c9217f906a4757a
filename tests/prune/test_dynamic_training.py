"""Masks that move in a training: RigL's invariants as a state machine, hooks, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from refimpl import nn, prune

OPTIMIZERS = {
    "SGD": lambda p: nn.SGD(p, lr=0.1),
    "momentum": lambda p: nn.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: nn.Adam(p, lr=0.01),
}


def sparse_network(seed, sparsity=0.6):
    network = nn.mlp((6, 5, 3), rng=np.random.default_rng(seed), dtype=np.float64)
    rng = np.random.default_rng(seed + 1)
    prune.apply_masks(network, prune.random_masks(network, sparsity, rng=rng))
    return network


class SparseTraining(RuleBasedStateMachine):
    """Steps and updates in any order: counts hold, what is pruned is 0, what is new is new."""

    @initialize(seed=st.integers(0, 99), name=st.sampled_from(sorted(OPTIMIZERS)))
    def start(self, seed, name):
        self.rng, self.step = np.random.default_rng(seed), 0
        self.network = sparse_network(seed)
        self.optimizer = OPTIMIZERS[name](self.network.parameters())
        self.dynamic = self.make()
        self.counts = [int(w.mask.sum()) for w in self.weights]

    def make(self):
        return prune.RigL(self.network, self.optimizer, delta_t=1, t_end=10**6, alpha=0.5)

    def update(self):
        return self.dynamic.after_backward(self.step)

    @property
    def weights(self):
        return list(self.network.weights().values())

    @rule()
    def gradients(self):
        for parameter in self.network.parameters():
            parameter.grad = self.rng.integers(-3, 4, parameter.shape).astype(float)

    @precondition(lambda self: self.weights[0].grad is not None)
    @rule()
    def take_a_step(self):
        self.optimizer.step()

    @precondition(lambda self: self.weights[0].grad is not None)
    @rule()
    def update_masks(self):
        self.step += 1
        before = [(w.value.copy(), w.mask.copy()) for w in self.weights]
        buffers = [[b.copy() for b in self.buffers(w)] for w in self.weights]
        self.update()
        for weight, (value, mask), old in zip(self.weights, before, buffers, strict=True):
            self.check_update(weight, value, mask, old)

    def check_update(self, weight, value, mask, old):
        stayed = weight.mask & mask & (weight.value == value) & (value != 0)
        new = weight.mask & ~mask
        assert not weight.value[new].any()
        changed = weight.value != value
        assert not weight.value[changed].any()  # an update writes nothing but zeros
        for buffer, was in zip(self.buffers(weight), old, strict=True):
            assert not buffer[new].any()
            assert not buffer[changed].any()
            np.testing.assert_array_equal(buffer[stayed], was[stayed])
        if stayed.any() and changed.any():
            assert self.dropped_are_smallest(value, changed, stayed)

    def dropped_are_smallest(self, value, dropped, stayed):
        return np.abs(value[dropped]).max() <= np.abs(value[stayed]).min()

    def buffers(self, weight):
        position = [p is weight for p in self.optimizer.parameters].index(True)
        return self.optimizer.buffers[position]

    @invariant()
    def counts_are_constant(self):
        if hasattr(self, "counts"):
            assert [int(w.mask.sum()) for w in self.weights] == self.counts

    @invariant()
    def pruned_weights_are_positive_zero(self):
        for weight in self.weights if hasattr(self, "counts") else ():
            pruned = weight.value[~weight.mask]
            assert not pruned.any()
            assert not np.signbit(pruned).any()


class SetTraining(SparseTraining):
    """The same of SET, which drops by sign."""

    def make(self):
        rng = np.random.default_rng(3)
        return prune.SET(self.network, self.optimizer, delta_t=1, t_end=10**6, zeta=0.5, rng=rng)

    def update(self):
        self.dynamic.after_step(self.step)

    def dropped_are_smallest(self, value, dropped, stayed):
        signs = [np.sign(value) == sign for sign in (-1, 1)]
        pairs = [(value[dropped & s], value[stayed & s]) for s in signs]
        return all(
            np.abs(gone).max(initial=0) <= np.abs(left).min(initial=np.inf) for gone, left in pairs
        )


class ForgetfulTraining(SparseTraining):
    """Planted: new weights keep the value and the memory that they had before."""

    def update(self):
        for weight in self.weights:
            mask = prune.rigl_update(weight.value, weight.mask, weight.grad, 0.5)
            values, weight.mask = weight.value.copy(), None
            weight.value = np.where(mask, np.where(weight.value == 0, 1.0, values), 0)
            weight.mask = mask


few = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestRigL = SparseTraining.TestCase
TestRigL.settings = few
TestSET = SetTraining.TestCase
TestSET.settings = few


def test_state_machine_notices_new_weights_that_are_not_zero():
    machine = ForgetfulTraining()
    machine.start(seed=0, name="momentum")
    machine.gradients()
    machine.take_a_step()
    with pytest.raises(AssertionError):
        machine.update_masks()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dropped_and_regrown_weight_is_forgotten_by_the_optimizer(name):
    network = nn.Network(
        {"fc1": nn.Linear(3, 1, rng=np.random.default_rng(0), bias=False, dtype=np.float64)}
    )
    weight = network.weights()["fc1.weight"]
    weight.value, weight.mask = np.array([[9.0, 1, 0]]), np.array([[True, True, False]])
    optimizer = OPTIMIZERS[name]([weight])
    weight.grad = np.array([[1.0, 2, 0]])
    optimizer.step()
    rigl = prune.RigL(network, optimizer, delta_t=1, t_end=100, alpha=0.6)
    assert rigl.after_backward(1)
    assert weight.mask.tolist() == [[True, True, False]]
    assert weight.value[0, 1] == 0
    assert [buffer[0, 1] for buffer in optimizer.buffers[0]] == [0] * len(optimizer.buffers[0])
    assert all(buffer[0, 0] != 0 for buffer in optimizer.buffers[0])


def test_rigl_replaces_the_step_and_set_follows_it():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    n_steps = {}
    for name, hook in (("RigL", "after_backward"), ("SET", "after_step")):
        network = sparse_network(0)
        adam = nn.Adam(network.parameters(), lr=0.01)
        options = {"rng": np.random.default_rng(1)} if name == "SET" else {}
        method = getattr(prune, name)(network, adam, delta_t=2, t_end=9, **options)
        nn.fit(
            network, adam, x, labels, epochs=3, batch_size=10, rng=rng,
            **{hook: getattr(method, hook)},
        )  # fmt: skip
        assert method.updates == [2, 4, 6, 8]
        n_steps[name] = adam.n_steps
    assert n_steps == {"RigL": 8, "SET": 12}


def test_dense_layers_are_left_alone():
    network = sparse_network(0, 0.0)
    masks = prune.random_masks(network, 0.5, rng=np.random.default_rng(0), ignore=["fc2.weight"])
    prune.apply_masks(network, masks | {"fc2.weight": np.ones((3, 5), bool)})
    for parameter in network.parameters():
        parameter.grad = np.ones(parameter.shape)
    before = network.weights()["fc2.weight"].value.copy()
    sgd = nn.SGD(network.parameters(), lr=0.1)
    prune.RigL(network, sgd, delta_t=1, t_end=9).after_backward(1)
    np.testing.assert_array_equal(network.weights()["fc2.weight"].value, before)


def test_nan_in_one_gradient_changes_no_mask():
    network = sparse_network(0)
    for parameter in network.parameters():
        parameter.grad = np.ones(parameter.shape)
    network.weights()["fc2.weight"].grad[:] = np.nan
    before = network.state()
    rigl = prune.RigL(network, nn.SGD(network.parameters(), lr=1.0), delta_t=1, t_end=9)
    with pytest.raises(ValueError, match="grow_by_gradient: gradient must hold no NaN"):
        rigl.after_backward(1)
    np.testing.assert_equal(network.state(), before)


REFUSED = (
    ({"delta_t": 0}, "delta_t must be at least 1, got 0;"),
    ({"t_end": 0}, "t_end must be at least 1, got 0;"),
)


@pytest.mark.parametrize(("changed", "message"), [*REFUSED, ({"alpha": 1.0}, "alpha must be in")])
def test_rigl_refuses_with_a_sentence(changed, message):
    network = sparse_network(0)
    options = {"delta_t": 1, "t_end": 9} | changed
    with pytest.raises(ValueError, match=f"RigL: {message}"):
        prune.RigL(network, nn.SGD(network.parameters(), lr=0.1), **options)


@pytest.mark.parametrize(("changed", "message"), [*REFUSED, ({"zeta": -0.1}, "zeta must be in")])
def test_set_refuses_with_a_sentence(changed, message):
    network = sparse_network(0)
    options = {"delta_t": 1, "t_end": 9, "rng": np.random.default_rng(0)} | changed
    with pytest.raises(ValueError, match=f"SET: {message}"):
        prune.SET(network, nn.SGD(network.parameters(), lr=0.1), **options)


def test_set_and_random_masks_refuse_a_bare_seed():
    network = sparse_network(0)
    sgd = nn.SGD(network.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"SET: rng must be a numpy\.random\.Generator, got int;"):
        prune.SET(network, sgd, delta_t=1, t_end=9, rng=0)
    with pytest.raises(TypeError, match=r"random_masks: rng must be a numpy\.random\.Generator"):
        prune.random_masks(network, 0.5, rng=0)


def test_rigl_refuses_networks_and_optimizers_that_do_not_fit():
    network, dense = sparse_network(0), nn.mlp((6, 3), rng=np.random.default_rng(0))
    sgd = nn.SGD(network.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="RigL: network must have a pruned weight, got none;"):
        prune.RigL(dense, nn.SGD(dense.parameters(), lr=0.1), delta_t=1, t_end=9)
    with pytest.raises(ValueError, match=r"RigL: optimizer must move every masked weight, got \['"):
        prune.RigL(sparse_network(1), sgd, delta_t=1, t_end=9)
    with pytest.raises(TypeError, match="RigL: optimizer must be an Optimizer, got list;"):
        prune.RigL(network, network.parameters(), delta_t=1, t_end=9)
    with pytest.raises(TypeError, match="RigL: network must be a Network, got list;"):
        prune.RigL([network], sgd, delta_t=1, t_end=9)
