"""Are a network's first and last layers the most sensitive ones: a scan of six digits networks.

Each network learns the 8x8 digits. Then one layer at a time loses its smallest weights, without
any retraining, and the test loss is taken: at an equal fraction of each layer, at an equal number
of weights of each layer, and with whole channels. `tally` counts where the first and the last
layer lead, and how often they would by chance. A run takes seconds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.data import Dataset, load_digits, standardize
from refimpl.masks import channels, count_kept, keep_top_k
from refimpl.nn import (
    Adam,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Network,
    ReLU,
    evaluate,
    fit,
    mlp,
    small_resnet,
    small_vgg,
)
from refimpl.prune import SensitivityScan, apply_masks, layerwise_masks, sensitivity_scan

SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
SEEDS = tuple(range(10))


def small_lenet(*, rng: np.random.Generator) -> Network:
    """Build a LeNet for 8x8 images: two convolutions with pooling, and two linear layers.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the weights, layer by layer.

    Returns
    -------
    Network
        With 72, 1,152, 3,200 and 500 weights.
    """
    return Network(
        {
            "conv1": Conv2d(1, 8, 3, padding=1, rng=rng),
            "pool1": MaxPool2d(2),
            "conv2": Conv2d(8, 16, 3, padding=1, rng=rng),
            "pool2": MaxPool2d(2),
            "flatten": Flatten(),
            "fc1": Linear(64, 50, rng=rng),
            "relu1": ReLU(),
            "fc2": Linear(50, 10, rng=rng),
        }
    )


NETWORKS = {
    "300-100": partial(mlp, (64, 300, 100, 10)),
    "bottleneck": partial(mlp, (64, 300, 12, 300, 10)),
    "equal": partial(mlp, (64, 64, 64, 64, 64, 10)),
    "small_lenet": small_lenet,
    "small_vgg": small_vgg,
    "small_resnet": small_resnet,
}
SETTINGS = tuple({"network": network} for network in NETWORKS)


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network, and scan its layers.

    Parameters
    ----------
    setting : dict
        ``network``, a name among `NETWORKS`. Fewer ``epochs`` than 20 make a quick trial.
    seed : int
        Draws the split of the digits, the first weights and the order of the examples.

    Returns
    -------
    dict
        As `scan_every_way`.

    Raises
    ------
    KeyError
        If the setting names another network.

    Notes
    -----
    Adam, learning rate 1e-3, mini-batches of 50.
    """
    split, init, order = np.random.default_rng(seed).spawn(3)
    digits = standardize(load_digits(rng=split))
    network = NETWORKS[setting["network"]](rng=init)
    train(network, digits, setting.get("epochs", 20), order)
    return scan_every_way(network, digits)


def train(network: Network, digits: Dataset, epochs: int, rng: np.random.Generator) -> None:
    """Train with Adam, learning rate 1e-3, in mini-batches of 50.

    Parameters
    ----------
    network : Network
        Changes in place.
    digits : Dataset
        Its training images are seen.
    epochs : int
        Passes over them.
    rng : numpy.random.Generator
        Draws the order of the examples.
    """
    adam = Adam(network.parameters(), lr=1e-3)
    images, labels = digits.train_images, digits.train_labels
    fit(network, adam, images, labels, epochs=epochs, batch_size=50, rng=rng)


def scan_every_way(network: Network, data: Dataset) -> dict[str, Any]:
    """Prune each layer by magnitude in three ways, and all layers at once.

    Parameters
    ----------
    network : Network
        Trained; it is left as it is.
    data : Dataset
        Its test images measure.

    Returns
    -------
    dict
        ``names`` and ``sizes`` of the weights. Tables, a row for each weight and a column for
        sparsity 0 and each of `SPARSITIES`: ``fraction_loss`` and ``fraction_accuracy`` at that
        sparsity; ``number_...`` without as many weights as the smallest layer loses at that
        sparsity; ``channels_...`` without that fraction of the filters or neurons, without a
        row for the last weight, whose channels are the classes; ``seen_loss`` as
        ``fraction_loss``, on as many training images. Rows: ``together_loss`` and
        ``together_accuracy`` with every layer at that sparsity. Rounded to 5 decimals.
    """
    # [scans start]
    on_test = partial(evaluate, x=data.test_images, labels=data.test_labels)
    n = len(data.test_labels)
    on_seen = partial(evaluate, x=data.train_images[:n], labels=data.train_labels[:n])
    scan = partial(sensitivity_scan, network, on_test, sparsities=SPARSITIES)
    scans = {
        "fraction": scan(),
        "number": scan(choose=as_many_as_the_smallest(network)),
        "channels": scan(choose=channels, ignore=list(network.weights())[-1:]),
    }
    seen = sensitivity_scan(network, on_seen, sparsities=SPARSITIES)
    together = [on_test(pruned_everywhere(network, s)) for s in (0.0, *SPARSITIES)]
    # [scans end]
    return {
        "names": scans["fraction"].names,
        "sizes": [math.prod(shape) for shape in scans["fraction"].shapes],
        **{key: table for way, found in scans.items() for key, table in _tables(way, found)},
        "seen_loss": np.round(seen.loss, 5),
        "together_loss": [round(found.loss, 5) for found in together],
        "together_accuracy": [round(found.accuracy, 5) for found in together],
    }


def as_many_as_the_smallest(network: Network) -> Callable[[np.ndarray, float], np.ndarray]:
    """Prune as many weights of any layer as the network's smallest layer loses.

    Parameters
    ----------
    network : Network
        Says how many weights the smallest layer has.

    Returns
    -------
    callable
        ``choose(saliency, sparsity) -> mask``, where the sparsity is that of the smallest layer.

    Examples
    --------
    >>> import numpy as np
    >>> choose = as_many_as_the_smallest(mlp((8, 5, 2), rng=np.random.default_rng(0)))
    >>> int((~choose(np.arange(40.0), 0.5)).sum())  # half of 10 weights
    5
    """
    smallest = min(weight.size for weight in network.weights().values())

    def choose(saliency: np.ndarray, sparsity: float) -> np.ndarray:
        n_removed = smallest - count_kept(smallest, sparsity)
        return keep_top_k(saliency, saliency.size - n_removed)

    return choose


def pruned_everywhere(network: Network, sparsity: float) -> Network:
    """Copy a network, and prune every layer to one sparsity by magnitude.

    Parameters
    ----------
    network : Network
        It is left as it is.
    sparsity : float
        Of each layer, in ``[0, 1)``.

    Returns
    -------
    Network
        A new one.
    """
    pruned = copy.deepcopy(network)
    apply_masks(pruned, layerwise_masks(pruned, sparsity))
    return pruned


class Tally(NamedTuple):
    """In how many networks a claim about the most sensitive layers holds, and by chance would.

    Attributes
    ----------
    seen : int
        Networks in which it holds.
    expected : float
        Networks in which it would if every order of the layers were as likely as any other.
    chance : float
        Probability that it would then hold in `seen` networks or more.
    """

    seen: int
    expected: float
    chance: float


def tally(costs: Iterable[Sequence[float]]) -> dict[str, Tally]:
    """Count how often the ends of a network are its most sensitive layers.

    Parameters
    ----------
    costs : iterable of sequence of float
        For each network, what each layer costs when it alone is pruned, from the first layer to
        the last; three layers or more.

    Returns
    -------
    dict of str to Tally
        ``first`` and ``last``: that layer costs most. ``either``: one of the two does.
        ``both``: the two cost more than all others.

    Raises
    ------
    ValueError
        If a network has fewer than three layers: with two, both ends lead always.

    Notes
    -----
    Of `L` layers in random order the first leads with probability :math:`1 / L`, and the two
    ends are the first two, in one order or the other, with :math:`2 / (L (L - 1))`. Networks
    count as independent, and a tie goes to the earlier layer.

    Examples
    --------
    >>> tally([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])["both"]
    Tally(seen=1, expected=0.6666666666666666, chance=0.5555555555555556)
    """
    held, odds = [], []
    for network in costs:
        n = len(network)
        if n < 3:
            advice = "leave it out"
            raise bad_argument("tally", "each network", "have 3 layers or more", n, advice)
        leader, second = np.argsort(-np.asarray(network), kind="stable")[:2].tolist()
        first, last, both = leader == 0, leader == n - 1, {leader, second} == {0, n - 1}
        held.append((first, last, first or last, both))
        odds.append((1 / n, 1 / n, 2 / n, 2 / (n * (n - 1))))
    claims = ("first", "last", "either", "both")
    columns = zip(claims, zip(*held, strict=True), zip(*odds, strict=True), strict=True)
    return {claim: Tally(sum(h), sum(p), _at_least(sum(h), p)) for claim, h, p in columns}


def _at_least(n: int, odds: Iterable[float]) -> float:
    """Probability of `n` or more successes in trials of these odds."""
    distribution = np.ones(1)
    for p in odds:
        distribution = np.convolve(distribution, [1 - p, p])
    return float(distribution[n:].sum())


def _tables(way: str, scan: SensitivityScan) -> list[tuple[str, np.ndarray]]:
    tables = {"loss": scan.loss, "accuracy": scan.accuracy}
    return [(f"{way}_{name}", np.round(table, 5)) for name, table in tables.items()]
