"""Every engine takes the same step before it is timed, and the record says where the time went."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.experiments import dense_step, kernel_grid, peers, run
from refimpl.experiments.dense_step import (
    NETWORKS,
    SETTINGS,
    Engine,
    bare_products,
    check_step,
    condense,
    draw,
    engine,
    in_float64,
    report,
    run_once,
    times_by_layer,
    torch_engine,
)
from refimpl.nn.convolution import convolve

SMALL = {"network": "lenet5", "batch": 3, "threads": 1, "rounds": 2}
EVERY_PART = {
    "lenet_300_100": ["flatten", "fc1", "relu1", "fc2", "relu2", "fc3", "loss", "update"],
    "lenet5": [
        *("conv1", "pool1", "conv2", "pool2", "flatten", "fc1", "relu1", "fc2"),
        *("loss", "update"),
    ],
}
every_network = pytest.mark.parametrize("name", NETWORKS)
needs_torch = pytest.mark.skipif(isinstance(peers.torch(), str), reason=str(peers.torch()))


def drawn(name, batch=3):
    return draw(name, batch, np.random.default_rng(0))


@pytest.fixture
def alone(monkeypatch):
    """A machine without PyTorch."""
    monkeypatch.setattr(peers, "torch", lambda: "torch is not installed")


@every_network
def test_run_times_every_engine_and_every_part(name):
    result = run_once(SMALL | {"network": name}, 0)
    products = {"products", "torch_products"} if name == "lenet_300_100" else set()
    timed = {"torch", "refimpl"} | products
    if isinstance(peers.torch(), str):
        timed -= {"torch", "torch_products"}
    assert {key.removesuffix("_seconds") for key in result if key.endswith("_seconds")} == timed
    assert list(result["layers"]) == EVERY_PART[name]


@pytest.mark.usefixtures("alone")
def test_without_pytorch_ours_is_timed_alone():
    result = run_once(SMALL | {"network": "lenet_300_100"}, 0)
    assert result["refimpl_speedup"] == 1.0
    assert not any(key.startswith("torch") for key in result)


def test_steps_are_timed_on_the_threads_of_the_setting(monkeypatch):
    threads, compare = [], kernel_grid.compare

    def spy(functions, **options):
        threads.append(numba.get_num_threads())
        return compare(functions, **options)

    monkeypatch.setattr(kernel_grid, "compare", spy)
    run_once(SMALL, 0)
    assert threads == [1]


def test_convolutions_of_what_is_drawn_have_no_rounding():
    network, x, _ = drawn("lenet5")
    pool1 = network.layers["pool1"].forward(convolve(x, network.layers["conv1"].weight.value, 1, 0))
    for images, name in ((x, "conv1"), (pool1, "conv2")):
        weight = network.layers[name].weight.value
        exact = convolve(images.astype(np.float64), weight.astype(np.float64), 1, 0)
        np.testing.assert_array_equal(convolve(images, weight, 1, 0), exact)


@every_network
def test_right_steps_pass(name):
    network, x, y = drawn(name)
    exact = engine(in_float64(name, network), x.astype(np.float64), y)
    check_step(torch_engine(network, x, y) | {"refimpl": engine(network, x, y)}, exact)


def with_a_wrong_gradient(right: Engine) -> Engine:
    def gradients():
        *others, last = right.gradients()
        return [*others, 1.001 * last]

    return Engine(right.step, gradients)


def with_a_wrong_loss(right: Engine) -> Engine:
    return Engine(lambda: 1.001 * right.step(), right.gradients)


@pytest.mark.parametrize("wrong", [with_a_wrong_gradient, with_a_wrong_loss])
def test_wrong_step_is_never_timed(wrong, monkeypatch):
    def never(*_, **__):
        pytest.fail("a wrong step was timed")

    def engine_of_ours(network, x, y):
        right = engine(network, x, y)
        return wrong(right) if x.dtype == np.float32 else right

    monkeypatch.setattr(dense_step, "engine", engine_of_ours)
    monkeypatch.setattr(kernel_grid, "compare", never)
    with pytest.raises(
        ValueError, match="dense_step: refimpl must have the loss and the gradients"
    ):
        run_once(SMALL | {"network": "lenet_300_100"}, 0)


@needs_torch
@every_network
def test_twin_takes_the_same_steps(name):
    network, x, y = drawn(name)
    theirs, ours = torch_engine(network, x, y)["torch"], engine(network, x, y)
    for _ in range(3):
        assert float(theirs.step()) == pytest.approx(ours.step(), rel=1e-5)


def test_bare_products_are_those_of_the_step():
    network, x, _ = drawn("lenet_300_100")
    w1, w2, w3 = (weight.value for weight in network.weights().values())
    inputs = [flat := x.reshape(3, -1), flat @ w1.T, flat @ w1.T @ w2.T]
    dy3 = inputs[2] @ w3.T
    expected = [dy3.T @ inputs[2], (dy3 @ w3).T @ inputs[1], (dy3 @ w3 @ w2).T @ inputs[0]]
    for products in bare_products(network, x).values():
        for found, wanted in zip(products(), expected, strict=True):
            atol = 1e-5 * abs(wanted).max()
            np.testing.assert_allclose(np.asarray(found), wanted, rtol=0, atol=atol)


def test_a_convolutional_network_has_no_bare_products():
    network, x, _ = drawn("lenet5")
    assert bare_products(network, x) == {}


def test_parts_of_a_step_are_those_of_the_network():
    network, x, y = drawn("lenet_300_100")
    before = network.state()
    parts = times_by_layer(network, x, y, 1, iter(range(1000)).__next__)
    assert parts == {name: (1, name[0] in "fr" and name != "flatten") for name in parts}
    assert all((before[name] != value).any() for name, value in network.state().items())


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    settings = [SMALL | {"network": name} for name in NETWORKS]
    folder = tmp_path_factory.mktemp("runs")
    return condense(run(run_once, settings, [0], folder=folder, progress=False))


def test_condensed_run_holds_setting_times_and_layers(record):
    assert [one["network"] for one in record["runs"]] == list(NETWORKS)
    assert all(one["kind"] == "training" for one in record["runs"])
    assert [list(one["layers"]) for one in record["runs"]] == list(EVERY_PART.values())
    assert {peer["name"] for peer in record["peers"]} >= {"numpy", "torch"}


def test_condensed_times_are_microseconds():
    numbers = {f"refimpl_{key}": 0.25 for key in kernel_grid.NUMBERS}
    result = numbers | {"layers": {"fc1": [1e-3, 2.5e-7]}, "peers": []}
    one = {"experiment": "dense_step", "setting": SMALL, "seed": 0, "result": result}
    (found,) = condense([one | {"seconds": 1.0, "machine": {}}])["runs"]
    assert found["times"] == {"refimpl": [250_000, 250_000, 0.25, 0.25, 0.25]}
    assert found["layers"] == {"fc1": [1000.0, 0.2]}


def test_report_has_a_line_for_each_network_and_each_target(record):
    lines = report(record).splitlines()
    assert sum(line.startswith(("lenet5", "lenet_300_100")) for line in lines) == 2
    assert sum(line.startswith("training step") for line in lines) == 2


def test_settings_are_both_networks_on_one_thread_and_two():
    assert {(one["network"], one["threads"]) for one in SETTINGS} == {
        (network, threads) for network in NETWORKS for threads in (1, 2)
    }
