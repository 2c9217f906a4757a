"""What does a digits network lose with most of its channels, and do its weights matter then?

A small VGG and a small ResNet learn the 8x8 digits. Channels of least L2 norm are removed until the
network costs half, a quarter or a tenth of the FLOPs, and what is left is fine-tuned. Two controls
have the same widths: one loses channels at random, one starts from new weights and trains as long
as both trainings together. A run takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_digits, standardize
from refimpl.measure import network_cost
from refimpl.nn import Adam, Network, evaluate, fit, small_resnet, small_vgg
from refimpl.prune import channel_groups, prune_channels_to_cost

NETWORKS = {"small_vgg": small_vgg, "small_resnet": small_resnet}
SETTINGS = tuple(
    {"network": network, "flops": flops} for network, flops in product(NETWORKS, (0.5, 0.25, 0.1))
)
SEEDS = tuple(range(5))

Phases = Sequence[tuple[int, float]]  # epochs and the learning rate of Adam, one after the other


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, cut to a fraction of the FLOPs, fine-tune, and take the test accuracy at each stage.

    Parameters
    ----------
    setting : dict
        ``network``, "small_vgg" or "small_resnet", and ``flops``, the fraction that may be left.
        Fewer ``epochs`` than 8 make a quick trial.
    seed : int
        Draws the split of the digits and all that `compare_ways` draws.

    Returns
    -------
    dict
        As `compare_ways`.

    Raises
    ------
    KeyError
        If the setting lacks a key, or names another network.

    Notes
    -----
    Adam with learning rate 2e-3 and mini-batches of 50: 8 epochs, then 4 of fine-tuning.
    """
    split, rng = np.random.default_rng(seed).spawn(2)
    digits = standardize(load_digits(rng=split))
    epochs = setting.get("epochs", 8)
    return compare_ways(
        NETWORKS[setting["network"]],
        digits,
        setting["flops"],
        train_phases=[(epochs, 2e-3)],
        tune_phases=[(epochs // 2, 2e-3)],
        batch_size=50,
        rng=rng,
    )


def compare_ways(
    build: Callable[..., Network],
    data: Dataset,
    flops: float,
    *,
    train_phases: Phases,
    tune_phases: Phases,
    batch_size: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Prune the channels of one network in three ways, to one cost.

    Parameters
    ----------
    build : callable
        ``build(rng=rng)`` makes the network.
    data : Dataset
        To train and test on.
    flops : float
        Fraction of the network's FLOPs that may be left.
    train_phases, tune_phases : sequence of (int, float)
        Epochs and learning rate of each phase, before and after the cut.
    batch_size : int
        Examples a step.
    rng : numpy.random.Generator
        Draws first weights, order of examples, random scores and new weights.

    Returns
    -------
    dict
        Test accuracies in ``[0, 1]``: ``dense``; ``cut`` and ``fine_tuned`` by L2 norm;
        ``random_fine_tuned``; ``new_weights``. The ``widths`` of all three by group, and the
        fractions ``flops`` and ``parameters`` that are left.
    """
    # [comparison starts]
    init, order, chance, fresh, *again = rng.spawn(7)
    learn = partial(_train, data=data, batch_size=batch_size)
    cost = partial(network_cost, input_shape=data.train_images.shape[1:])
    test = partial(_accuracy, data=data)
    network = build(rng=init)
    learn(network, train_phases, rng=order)
    result = {"dense": test(network)}
    cut_down = partial(
        prune_channels_to_cost,
        network,
        flops * cost(network).flops,
        cost=lambda smaller: cost(smaller).flops,
    )
    pruned, by_chance = cut_down(), cut_down(score=partial(_random_scores, rng=chance))
    result |= {"cut": test(pruned)}
    renewed = new_weights(cut_down(), fresh)
    learn(pruned, tune_phases, rng=again[0])
    learn(by_chance, tune_phases, rng=again[1])
    learn(renewed, [*train_phases, *tune_phases], rng=again[2])
    # [comparison ends]
    left, whole = cost(pruned), cost(network)
    return result | {
        "fine_tuned": test(pruned),
        "random_fine_tuned": test(by_chance),
        "new_weights": test(renewed),
        "widths": {name: group.size for name, group in channel_groups(pruned).items()},
        "flops": left.flops / whole.flops,
        "parameters": left.parameters / whole.parameters,
    }


def new_weights(network: Network, rng: np.random.Generator) -> Network:
    """Draw every weight of a network anew, as its layers were drawn first.

    Parameters
    ----------
    network : Network
        Changes in place. Its biases and shifts become 0, its scales and running variances 1.
    rng : numpy.random.Generator
        Draws He-normal weights, in the order of the layers.

    Returns
    -------
    Network
        The same one.
    """
    for name, item in (network.named_parameters() | network.named_buffers()).items():
        kind = name.rpartition(".")[2]
        value = np.full(item.shape, float(kind in ("gamma", "running_var")))
        if kind == "weight":
            value = rng.standard_normal(item.shape) * math.sqrt(2 / math.prod(item.shape[1:]))
        item.value = value.astype(item.dtype)
    return network


def _train(
    network: Network, phases: Phases, *, data: Dataset, batch_size: int, rng: np.random.Generator
) -> None:
    images, labels = data.train_images, data.train_labels
    for epochs, lr in phases:
        adam = Adam(network.parameters(), lr=lr)
        fit(network, adam, images, labels, epochs=epochs, batch_size=batch_size, rng=rng)


def _accuracy(network: Network, data: Dataset) -> float:
    return evaluate(network, data.test_images, data.test_labels).accuracy


def _random_scores(network: Network, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: rng.random(group.size) for name, group in channel_groups(network).items()}
