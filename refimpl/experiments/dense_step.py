"""How long is a training step of a dense network, beside PyTorch, and where does the time go?

LeNet-300-100 and LeNet-5 take steps of plain SGD on a batch of 100 random images, on one thread
and on two. PyTorch, where it is installed, begins with the same weights. Losses and gradients are
checked against float64 before anything is timed, and the engines take turns; then our step is
timed layer by layer. ``make bench`` starts it, on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from refimpl import nn
from refimpl.arrays import bad_argument
from refimpl.experiments import peers
from refimpl.experiments.kernel_grid import clock_for, timed_record, times_of
from refimpl.experiments.targets import STEP_TARGETS, judge, table
from refimpl.nn.models import lenet5, lenet_300_100

NETWORKS = {"lenet_300_100": lenet_300_100, "lenet5": lenet5}
IMAGE_SHAPE = (1, 28, 28)
LR = 1e-3
ROUNDS = 25
SETTINGS = tuple(
    {"network": network, "batch": 100, "threads": threads}
    for network, threads in product(NETWORKS, (1, 2))
)
SEEDS = (0,)


class Engine(NamedTuple):
    """A way to train.

    Attributes
    ----------
    step : callable
        Takes one step and returns the loss before it.
    gradients : callable
        Returns the gradients of the last step, weight and bias of each layer in turn.
    """

    step: Callable[[], Any]
    gradients: Callable[[], list[np.ndarray]]


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Check a step of every engine, and time it.

    Parameters
    ----------
    setting : dict
        ``network``, a key of `NETWORKS`; ``batch``; ``threads``. Fewer ``rounds`` than 25 make a
        quick trial.
    seed : int
        Draws weights and images.

    Returns
    -------
    dict
        For each engine, ``torch`` where it is installed and ``refimpl``, and for each of
        `bare_products` what `refimpl.experiments.kernel_grid.times_of` says; ``layers``: from each
        layer's name, ``loss`` and ``update`` to the median seconds of its forward and its backward
        pass in a step of ours; ``peers``, with versions.

    Raises
    ------
    ValueError
        If a loss or a gradient is wrong, or a library does not keep to its number of threads.
    """
    name, threads, rounds = setting["network"], setting["threads"], setting.get("rounds", ROUNDS)
    network, x, y = draw(name, setting["batch"], np.random.default_rng(seed))
    with peers.pinned(threads):
        engines = torch_engine(network, x, y) | {"refimpl": engine(network, x, y)}
        exact = engine(in_float64(name, network), x.astype(np.float64), y)
        check_step(engines, exact)
        steps = {name: engine.step for name, engine in engines.items()}
        times = times_of(steps | bare_products(network, x), threads, rounds)
        layers = times_by_layer(network, x, y, rounds, clock_for(threads))
    return {**times, "layers": layers, "peers": [peer._asdict() for peer in peers.peers()]}


def draw(
    name: str, batch: int, rng: np.random.Generator
) -> tuple[nn.Network, np.ndarray, np.ndarray]:
    """Draw a network, images and labels that every engine computes alike up to its last pooling.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    batch : int
        Images.
    rng : numpy.random.Generator
        Draws.

    Returns
    -------
    network : Network
        Its weights are multiples of 1/64.
    images : ndarray of float32, shape (batch, 1, 28, 28)
        Multiples of 1/4.
    labels : ndarray of int64, shape (batch,)
        Of ten classes.

    Notes
    -----
    A convolution of such numbers has no rounding in float32: whatever the order of its additions,
    the largest pixels of the poolings are the same, and so is where the gradients go.
    """
    network = NETWORKS[name](rng=rng)
    for weight in network.weights().values():
        weight.value = np.round(weight.value * 64) / 64
    images = np.round(rng.standard_normal((batch, *IMAGE_SHAPE), np.float32) * 4) / 4
    return network, images, rng.integers(0, 10, batch)


def in_float64(name: str, network: nn.Network) -> nn.Network:
    """Give the network of this name in `NETWORKS` the same weights in float64."""
    wide = NETWORKS[name](rng=np.random.default_rng(0), dtype=np.float64)
    wide.load_state({key: value.astype(np.float64) for key, value in network.state().items()})
    return wide


def engine(network: nn.Network, x: np.ndarray, y: np.ndarray) -> Engine:
    """Train a network of ours on one batch, again and again."""
    optimizer = nn.SGD(network.parameters(), lr=LR)

    def step() -> float:
        loss, dlogits = nn.softmax_cross_entropy(network.forward(x, training=True), y)
        network.backward_parameters(dlogits)
        optimizer.step()
        return loss

    return Engine(step, lambda: [parameter.grad for parameter in network.parameters()])


def torch_engine(network: nn.Network, x: np.ndarray, y: np.ndarray) -> dict[str, Engine]:
    """Train PyTorch's twin of a network as ``torch``; nothing where it is not installed."""
    if isinstance(pytorch := peers.torch(), str):
        return {}
    twin = pytorch.nn.Sequential(*(TWINS[type(item)](item) for item in network.layers.values()))
    with pytorch.no_grad():
        for theirs, ours in zip(twin.parameters(), network.parameters(), strict=True):
            theirs.copy_(pytorch.from_numpy(ours.value))
    optimizer = pytorch.optim.SGD(twin.parameters(), lr=LR)
    tensor_x, tensor_y = pytorch.from_numpy(x), pytorch.from_numpy(y)

    def step() -> Any:
        optimizer.zero_grad()
        loss = pytorch.nn.functional.cross_entropy(twin(tensor_x), tensor_y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return {"torch": Engine(step, lambda: [p.grad.numpy() for p in twin.parameters()])}


# From a layer of ours to one of PyTorch's of the same shape, whose weights are still to be set.
TWINS: dict[type, Callable[[Any], Any]] = {
    nn.Linear: lambda layer: peers.torch().nn.Linear(*layer.weight.shape[::-1]),
    nn.ReLU: lambda _: peers.torch().nn.ReLU(),
    nn.Flatten: lambda _: peers.torch().nn.Flatten(),
    nn.MaxPool2d: lambda layer: peers.torch().nn.MaxPool2d(layer.kernel_shape, layer.stride),
    nn.Conv2d: lambda layer: peers.torch().nn.Conv2d(
        *layer.weight.shape[1::-1], layer.weight.shape[2:], layer.stride, layer.padding
    ),
}


def bare_products(network: nn.Network, x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Compute the matrix products of a step of a multilayer perceptron, and nothing else.

    Parameters
    ----------
    network : Network
        Another kind of network has no such products here.
    x : ndarray of float32, shape (batch, ...)
        One batch.

    Returns
    -------
    dict of str to callable
        ``products`` by NumPy's BLAS; ``torch_products`` by PyTorch's, where it is installed.
    """
    weights = [item.weight.value for item in network.layers.values() if hasattr(item, "weight")]
    if any(weight.ndim != 2 for weight in weights):
        return {}
    x, found = x.reshape(len(x), -1), {}
    found["products"] = lambda: _products(x, weights)
    if not isinstance(pytorch := peers.torch(), str):
        tensors = [pytorch.from_numpy(weight) for weight in weights]
        found["torch_products"] = lambda: _products(pytorch.from_numpy(x), tensors)
    return found


def _products(x: Any, weights: list[Any]) -> list[Any]:
    """Forward, and back with what came out as the gradient; not to the input of the first layer."""
    inputs = [x]
    for w in weights:
        inputs.append(inputs[-1] @ w.T)
    dy, gradients = inputs.pop(), []
    for layer in reversed(range(len(weights))):
        gradients.append(dy.T @ inputs[layer])
        dy = dy @ weights[layer] if layer else dy
    return gradients


def check_step(engines: dict[str, Engine], exact: Engine) -> None:
    """Refuse a loss or a gradient that is off by more than rounding: nothing wrong is timed.

    Parameters
    ----------
    engines : dict of str to Engine
        That have taken no step yet; each takes one.
    exact : Engine
        In float64.

    Raises
    ------
    ValueError
        If a loss, or the norm of a gradient's error, is off by more than 1e-5 of the exact one.
    """
    loss = exact.step()
    for name, (step, gradients) in engines.items():
        off = [abs(float(step()) - loss) / loss]
        for mine, wanted in zip(gradients(), exact.gradients(), strict=True):
            off.append(np.linalg.norm(mine - wanted) / np.linalg.norm(wanted))
        if not max(off) <= 1e-5:
            requirement = "have the loss and the gradients of float64 to rounding"
            advice = "correct it before timing it"
            actual = f"an error of {max(off):.1e}"
            raise bad_argument("dense_step", name, requirement, actual, advice)


def times_by_layer(
    network: nn.Network, x: np.ndarray, y: np.ndarray, rounds: int, clock: Callable[[], float]
) -> dict[str, tuple[float, float]]:
    """Time the parts of a step where they are, one after the other, each with its caches as found.

    Parameters
    ----------
    network : Network
        To train.
    x, y : ndarray
        A batch.
    rounds : int
        Steps.
    clock : callable
        Returns seconds.

    Returns
    -------
    dict of str to tuple of float
        From the names of the layers, and ``loss`` and ``update``, to the medians of forward and
        backward seconds; 0 for what a part does not do.
    """
    optimizer = nn.SGD(network.parameters(), lr=LR)

    def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
        start = clock()
        result = function(*arguments, **options)
        return clock() - start, result

    steps = [_one_step_by_layer(network, optimizer, x, y, timed) for _ in range(rounds)]
    return {name: tuple(np.median([step[name] for step in steps], axis=0)) for name in steps[0]}


def _one_step_by_layer(
    network: nn.Network, optimizer: nn.SGD, x: np.ndarray, y: np.ndarray, timed: Callable[..., Any]
) -> dict[str, tuple[float, float]]:
    forward, backward = {}, {}
    for name, layer in network.layers.items():
        forward[name], x = timed(layer.forward, x, training=True)
    forward["loss"], (_, dy) = timed(nn.softmax_cross_entropy, x, y)
    first = next(name for name, layer in network.layers.items() if layer.parameters())
    for name, layer in reversed(network.layers.items()):
        if name == first:  # no layer before it wants a gradient: as Network.backward_parameters
            backward[name], _ = timed(layer.backward_parameters, dy)
            break
        backward[name], dy = timed(layer.backward, dy)
    forward["update"], _ = timed(optimizer.step)
    return {name: (seconds, backward.get(name, 0.0)) for name, seconds in forward.items()}


def condense(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gather all runs in a record like that of `refimpl.experiments.kernel_grid.condense`.

    Parameters
    ----------
    records : sequence of dict
        Of `run_once`; one seed.

    Returns
    -------
    dict
        ``experiment``, ``seconds``, ``machines``, ``peers``, and ``runs``: each setting with
        ``kind``, which is ``"training"``, ``times`` and ``layers``, in microseconds.
    """
    return timed_record(
        records,
        lambda result: {
            "kind": "training",
            "layers": {
                name: [round(1e6 * seconds, 1) for seconds in passes]
                for name, passes in result["layers"].items()
            },
        },
    )


def report(record: dict[str, Any]) -> str:
    """Write times, layers and targets for a terminal.

    Parameters
    ----------
    record : dict
        From `condense`.

    Returns
    -------
    str
        Lines of text.
    """
    lines = []
    for run in record["runs"]:
        steps = ", ".join(f"{name} {times[0]:.0f} us" for name, times in run["times"].items())
        parts = (f"{name} {f:.0f} + {b:.0f}" for name, (f, b) in run["layers"].items())
        lines += [f"{run['network']}, {run['threads']} threads: {steps}", f"  {', '.join(parts)}"]
    return "\n".join([*lines, "", table(judge(record, STEP_TARGETS))])
