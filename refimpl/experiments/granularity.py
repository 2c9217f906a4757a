"""What does the shape of what is removed cost: single weights, blocks, 2:4 or whole filters?

LeNet-5 is trained on the digits, enlarged to the 28x28 pixels that it takes, pruned in one cut to
an equal number of weights in every shape, and fine-tuned. Accuracy is taken before and after.
Bytes are those of the format that fits the shape. How fast each is, `granularity_latency`
measures. A run takes seconds.
"""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_digits, standardize
from refimpl.deploy import sparsify, weight_bytes
from refimpl.formats import BSR, CSR, TwoFour
from refimpl.masks import blocks, n_of_m, unstructured
from refimpl.nn import Adam, Network, evaluate, fit, lenet5
from refimpl.prune import apply_masks, as_matrix, prune_channels_to_cost, shaped_masks

BLOCK = (5, 5)  # divides all four weights as matrices
SPARSITIES = (0.5, 0.75, 0.9, 0.95)
STORES = {
    "unstructured": {"store": CSR.from_coo},
    "blocks": {"store": partial(BSR.from_coo, block_shape=BLOCK)},
    "2:4": {"store": TwoFour.from_coo, "channels_last": True},
}
EPOCHS, MORE_EPOCHS = 20, 10  # to train and to fine-tune
SETTINGS = (
    *({"shape": "unstructured", "sparsity": sparsity} for sparsity in SPARSITIES),
    {"shape": "2:4", "sparsity": 0.5},
    *({"shape": "blocks", "sparsity": sparsity} for sparsity in SPARSITIES),
    *({"shape": "filters", "sparsity": sparsity} for sparsity in SPARSITIES),
)
SEEDS = tuple(range(5))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Train, prune in one shape, fine-tune, and count bytes.

    Parameters
    ----------
    setting : dict
        ``shape``: "unstructured", "2:4", "blocks" of 5 by 5, or "filters"; and ``sparsity``,
        the fraction of weights to remove. Fewer ``epochs`` than 20 make a quick trial.
    seed : int
        Draws the split of the digits, the first weights and the order of the examples.
        The network before the cut is the same for every setting.

    Returns
    -------
    dict of str to float
        Test accuracies in ``[0, 1]``: ``dense``, ``one_shot`` right after the cut, and
        ``fine_tuned``. ``kept`` counts the weights that are left, ``bytes`` those of the weights
        as they are shipped, ``index_bytes`` how many of these say only where a value is.

    Raises
    ------
    KeyError, ValueError
        If the setting lacks a key, or names another shape.

    Notes
    -----
    Adam, learning rate 1e-3, mini-batches of 50, in training and in fine-tuning. Masks are
    chosen layer by layer, filters by their L2 norm, as many from every layer as leave that
    fraction of the weights. 2:4 leaves the first convolution whole: it has one input channel.
    """
    epochs = setting.get("epochs", EPOCHS)
    digits, dense, accuracy = _trained(epochs, seed)
    network = pruned(dense, setting["shape"], setting["sparsity"])
    result = {"dense": accuracy, "one_shot": _test_accuracy(network, digits)}
    _train(network, digits, min(epochs, MORE_EPOCHS), np.random.default_rng([seed, 1]))
    n_bytes, value_bytes = shipped_bytes(shipped(network, setting["shape"]))
    return result | {
        "fine_tuned": _test_accuracy(network, digits),
        "kept": sum(int(np.count_nonzero(w.value)) for w in network.weights().values()),
        "bytes": n_bytes,
        "index_bytes": n_bytes - value_bytes,
    }


def pruned(network: Network, shape: str, sparsity: float) -> Network:
    """Prune a copy of a network in one of the shapes.

    Parameters
    ----------
    network : Network
        LeNet-5; left as it is.
    shape : str
        "unstructured", "2:4", "blocks" or "filters".
    sparsity : float
        Fraction of the weights to remove, in ``[0, 1)``; 0.5 for 2:4.

    Returns
    -------
    Network
        With masks; of filters, a narrower network without.

    Raises
    ------
    KeyError
        If there is no such shape.
    """
    if shape == "filters":
        return prune_channels_to_cost(network, (1 - sparsity) * n_weights(network), cost=n_weights)
    rule = {
        "unstructured": partial(unstructured, sparsity=sparsity),
        "blocks": as_matrix(partial(blocks, block_shape=BLOCK, sparsity=sparsity)),
        "2:4": partial(n_of_m, n=2, m=4),
    }[shape]
    ignore = ["conv1.weight"] if shape == "2:4" else []
    network = copy.deepcopy(network)
    apply_masks(network, shaped_masks(network, rule, ignore=ignore))
    return network


def n_weights(network: Network) -> int:
    """Count the weights of a dense network, biases apart."""
    return sum(weight.size for weight in network.weights().values())


def shipped(network: Network, shape: str) -> Network:
    """Store a pruned network in the format that fits its shape.

    Parameters
    ----------
    network : Network
        From `pruned`.
    shape : str
        The same.

    Returns
    -------
    Network
        Sparse; of filters, `network` itself, which is small and dense.
    """
    return network if shape == "filters" else sparsify(network, **STORES[shape])


def shipped_bytes(network: Network) -> tuple[int, int]:
    """Count the bytes of all weights, and those of them that are values.

    Parameters
    ----------
    network : Network
        From `shipped`.

    Returns
    -------
    n_bytes, value_bytes : int
        Biases apart; the difference says where the values are.
    """
    parameters = network.named_parameters().items()
    values = (item.value.nbytes for name, item in parameters if not name.endswith("bias"))
    return weight_bytes(network), sum(values)


def enlarged(images: np.ndarray) -> np.ndarray:
    """Make 28x28 pixels of 8x8: each pixel three by three times, and a frame of zeros.

    Parameters
    ----------
    images : ndarray of float, shape (n, 1, 8, 8)
        The digits, standardised.

    Returns
    -------
    ndarray, shape (n, 1, 28, 28)
        New.
    """
    large = images.repeat(3, axis=2).repeat(3, axis=3)
    return np.pad(large, ((0, 0), (0, 0), (2, 2), (2, 2)))


@cache
def _trained(epochs: int, seed: int) -> tuple[Dataset, Network, float]:
    """The data, the network and its accuracy, of a seed, trained once a process."""
    split, init, order = np.random.default_rng(seed).spawn(3)
    digits = standardize(load_digits(rng=split))
    digits = digits._replace(
        train_images=enlarged(digits.train_images), test_images=enlarged(digits.test_images)
    )
    network = lenet5(rng=init)
    _train(network, digits, epochs, order)
    return digits, network, _test_accuracy(network, digits)


def _train(network: Network, data: Dataset, epochs: int, rng: np.random.Generator) -> None:
    adam = Adam(network.parameters(), lr=1e-3)
    images, labels = data.train_images, data.train_labels
    fit(network, adam, images, labels, epochs=epochs, batch_size=50, rng=rng)


def _test_accuracy(network: Network, data: Dataset) -> float:
    return evaluate(network, data.test_images, data.test_labels).accuracy
