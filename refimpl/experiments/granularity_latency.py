"""How fast is LeNet-5 when weights, blocks, 2:4 or filters are gone, each in the format that fits?

The networks of `refimpl.experiments.granularity` before any training: time depends on where the
weights are, not on how good they are. On one thread; each network's output is checked before it is
timed, and the contenders take turns. Run it with one job, on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.experiments.granularity import pruned, shipped, shipped_bytes
from refimpl.experiments.peers import pinned, torch
from refimpl.measure import compare, speedup
from refimpl.nn import Network, lenet5

SPARSITIES, BATCHES = (0.5, 0.75, 0.9, 0.95), (1, 100)
SETTINGS = tuple({"sparsity": s, "batch": batch} for s, batch in product(SPARSITIES, BATCHES))
SEEDS = (0, 1, 2)
REPEATS = 15


def run_once(setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Time one forward pass of LeNet-5 in every shape, on one thread.

    Parameters
    ----------
    setting : dict
        ``sparsity``, the fraction of weights removed, and ``batch``, the images of a pass.
        Fewer ``repeats`` than 15 make a quick trial.
    seed : int
        Draws weights and images.

    Returns
    -------
    dict of str to float
        For each contender ``<name>_seconds``, the median of a pass, and ``<name>_speedup`` over
        ``dense``, the median of the ratios round by round. Contenders are ``dense``; ``masked``,
        the same with zeros; ``unstructured``, ``blocks``, ``filters``, and, at half of the
        weights, ``2:4``; and ``torch``, the dense network in PyTorch, where it is installed.
        ``<name>_bytes`` are those of the weights, ``<name>_index_bytes`` what of them says only
        where a value is.

    Raises
    ------
    ValueError
        If an output is wrong, or a library does not keep to one thread.
    """
    rng = np.random.default_rng(seed)
    dense = lenet5(rng=rng)
    images = rng.standard_normal((setting["batch"], 1, 28, 28), np.float32)
    shapes = ["unstructured", "blocks", "filters", *(["2:4"] if setting["sparsity"] == 0.5 else [])]
    masked = {shape: pruned(dense, shape, setting["sparsity"]) for shape in shapes}
    networks = {"dense": dense, "masked": masked["unstructured"]}
    networks |= {shape: shipped(network, shape) for shape, network in masked.items()}
    for shape, network in masked.items():
        check_outputs(shape, networks[shape].forward(images), network.forward(images))
    result: dict[str, float] = {}
    for name, network in networks.items():
        n_bytes, value_bytes = shipped_bytes(network)
        result |= {f"{name}_bytes": n_bytes, f"{name}_index_bytes": n_bytes - value_bytes}
    with pinned(1):
        passes = {name: partial(network.forward, images) for name, network in networks.items()}
        times = compare(passes | _peer(dense, images), repeats=setting.get("repeats", REPEATS))
    for name, measured in times.items():
        result[f"{name}_seconds"] = measured.median
        result[f"{name}_speedup"] = speedup(times["dense"], measured).median
    return result


def check_outputs(name: str, y: np.ndarray, expected: np.ndarray) -> None:
    """Refuse outputs that differ by more than rounding, so that nothing wrong is timed.

    Parameters
    ----------
    name : str
        Whose they are.
    y, expected : ndarray of float32, shape (batch, 10)
        Outputs of the network that is timed, and of the masked one.

    Raises
    ------
    ValueError
        If one is off by more than a hundred-thousandth of the largest.
    """
    worst = float(np.abs(y - expected).max() / np.abs(expected).max())
    if not worst <= 1e-5:
        where, advice = "granularity_latency", "correct it before timing it"
        requirement = "compute what the masked network does, to 1e-5"
        raise bad_argument(where, name, requirement, f"{worst:.1e}", advice)


def _peer(network: Network, images: np.ndarray) -> dict[str, Callable[[], Any]]:
    module = torch()
    if not isinstance(module, ModuleType):
        return {}
    nn = module.nn
    theirs = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip
    for mine, parameter in zip(network.parameters(), theirs.parameters(), strict=True):
        parameter.data = module.from_numpy(mine.value.copy())
    x = module.from_numpy(images)

    def forward() -> Any:
        with module.no_grad():
            return theirs(x)

    check_outputs("torch", forward().numpy(), network.forward(images))
    return {"torch": forward}
