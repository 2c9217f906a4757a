"""Which mask, chosen before training, leaves a network that learns the 8x8 digits?

A 64-300-100-10 perceptron is pruned right after its weights are drawn, in five ways, and trained
with the mask held fixed. All ways of a seed share the split, the initial weights and the order of
the examples. A run takes seconds.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_digits, standardize
from refimpl.experiments.layer_sensitivity import train
from refimpl.nn import Network, evaluate, mlp, softmax_cross_entropy
from refimpl.prune import (
    apply_masks,
    global_masks,
    grasp_masks,
    layerwise_masks,
    snip_masks,
    synflow_masks,
)
from refimpl.saliency import random

METHODS = ("random", "magnitude", "snip", "grasp", "synflow")
SETTINGS = tuple({"sparsity": sparsity} for sparsity in (0.9, 0.95, 0.98))
SEEDS = tuple(range(10))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Initialise, prune in five ways, train each, and take the test accuracies.

    Parameters
    ----------
    setting : dict
        ``sparsity``, of all weights. Fewer ``epochs`` than 50 make a quick trial.
    seed : int
        Draws the split of the digits, the initial weights, the batch that SNIP and GraSP see,
        and the order of the examples.

    Returns
    -------
    dict
        Test accuracies in ``[0, 1]`` after the last step: ``dense`` and one for each of
        `METHODS`; and ``..._kept``, the weights left in each layer.

    Notes
    -----
    Adam, learning rate 1e-3, 1450 steps with mini-batches of 50.
    """
    split, init, choice, order = np.random.default_rng(seed).spawn(4)
    digits = standardize(load_digits(rng=split))
    fresh = mlp((64, 300, 100, 10), rng=init)
    epochs, same_order = setting.get("epochs", 50), int(order.integers(2**63))
    batch = one_batch(digits, choice)
    on_test = partial(evaluate, x=digits.test_images, labels=digits.test_labels)
    result: dict[str, Any] = {}
    for method in ("dense", *METHODS):
        network = copy.deepcopy(fresh)
        if method != "dense":
            apply_masks(network, masks_by(method, network, batch, setting["sparsity"], choice))
            result[f"{method}_kept"] = weights_left(network)
        train(network, digits, epochs, np.random.default_rng(same_order))
        result[method] = on_test(network).accuracy
    return result


def masks_by(
    method: str,
    network: Network,
    batch: tuple[np.ndarray, np.ndarray],
    sparsity: float,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Choose masks for a network that has not been trained.

    Parameters
    ----------
    method : str
        ``"random"``, the same sparsity in each layer; ``"magnitude"``, ``"snip"``, ``"grasp"``
        or ``"synflow"``, one ranking over all layers.
    network : Network
        It is left as it is.
    batch : (ndarray, ndarray)
        Examples and labels that SNIP and GraSP look at.
    sparsity : float
        In ``[0, 1)``.
    rng : numpy.random.Generator
        Draws the random masks.

    Returns
    -------
    dict of str to ndarray of bool
        For `refimpl.prune.apply_masks`.

    Raises
    ------
    KeyError
        If `method` is another name.
    """
    x, labels = batch
    ways = {
        "random": partial(layerwise_masks, saliency=lambda w: random(w.shape, rng)),
        "magnitude": global_masks,
        "snip": lambda network, s: snip_masks(network, x, labels, s),
        "grasp": lambda network, s: grasp_masks(network, x, labels, s, loss=heated_cross_entropy),
        "synflow": lambda network, s: synflow_masks(network, x.shape[1:], s),
    }
    return ways[method](network, sparsity)


def heated_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Cross-entropy of the logits divided by a temperature of 200, as GraSP's code takes it.

    Parameters
    ----------
    logits : ndarray of float, shape (batch, n_classes)
        Outputs of the network.
    labels : ndarray of int, shape (batch,)
        Classes.

    Returns
    -------
    float
        Mean loss.
    ndarray
        Its gradient with respect to `logits`.
    """
    loss, gradient = softmax_cross_entropy(logits / 200, labels)
    return loss, gradient / 200


def one_batch(data: Dataset, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw 100 training images with their labels.

    Parameters
    ----------
    data : Dataset
        Of 100 training images or more.
    rng : numpy.random.Generator
        Draws which.

    Returns
    -------
    (ndarray, ndarray)
        Images and labels.
    """
    rows = rng.choice(len(data.train_labels), 100, replace=False)
    return data.train_images[rows], data.train_labels[rows]


def weights_left(network: Network) -> list[int]:
    """Count the weights that a network's masks keep, layer by layer.

    Parameters
    ----------
    network : Network
        With masks on some weights, or on none.

    Returns
    -------
    list of int
        In the order of the layers.
    """
    weights = network.weights().values()
    return [w.size if w.mask is None else int(w.mask.sum()) for w in weights]
