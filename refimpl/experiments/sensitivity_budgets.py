"""Does a scan of the layers share out the weights better than a formula does.

Each network learns the 8x8 digits, a fifth of the training images set apart. A scan of the trained
network on these says in two ways how many weights each layer keeps; four other budgets look at
shapes or magnitudes only. All keep the same total, choose by magnitude within a layer, and are
fine-tuned for 4 epochs. A run takes seconds to minutes.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_digits, standardize
from refimpl.experiments.layer_sensitivity import NETWORKS, train
from refimpl.masks import erdos_renyi_kernel_counts, uniform_counts
from refimpl.nn import Network, evaluate
from refimpl.prune import apply_masks, budgeted_masks, global_masks, sensitivity_scan
from refimpl.saliency import lamp

SCANNED = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.998)
SPARSITIES = (0.7, 0.8, 0.9, 0.95)
SETTINGS = tuple({"network": network} for network in NETWORKS)
SEEDS = tuple(range(5))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, share out the weights in six ways, prune, fine-tune, and take the test accuracy.

    Parameters
    ----------
    setting : dict
        ``network``, a name among those of `refimpl.experiments.layer_sensitivity`. Fewer
        ``epochs`` than 20 make a quick trial.
    seed : int
        Draws the split of the digits, the first weights and the order of the examples.

    Returns
    -------
    dict
        Test accuracies in ``[0, 1]``: ``dense``, and for each budget lists with an entry for each
        of `SPARSITIES`: ``..._cut`` right after pruning, ``..._tuned``, and ``..._kept``, the
        counts by layer.

    Raises
    ------
    KeyError
        If the setting names another network.

    Notes
    -----
    Adam, learning rate 1e-3, mini-batches of 50, as in `layer_sensitivity`; all networks of a
    seed are fine-tuned with the examples in the same order.
    """
    split, init, order, again = np.random.default_rng(seed).spawn(4)
    digits, held_out = set_apart(standardize(load_digits(rng=split)), split)
    network = NETWORKS[setting["network"]](rng=init)
    epochs, same_order = setting.get("epochs", 20), int(again.integers(2**63))
    train(network, digits, epochs, order)
    on_test = partial(evaluate, x=digits.test_images, labels=digits.test_labels)
    result: dict[str, Any] = {"dense": on_test(network).accuracy}
    for name, by_sparsity in masks_by_budget(network, held_out).items():
        cut, tuned, kept = [], [], []
        for masks in by_sparsity:
            pruned = copy.deepcopy(network)
            apply_masks(pruned, masks)
            cut.append(on_test(pruned).accuracy)
            train(pruned, digits, epochs // 5, np.random.default_rng(same_order))
            tuned.append(on_test(pruned).accuracy)
            kept.append([int(mask.sum()) for mask in masks.values()])
        result |= {f"{name}_cut": cut, f"{name}_tuned": tuned, f"{name}_kept": kept}
    return result


def masks_by_budget(
    network: Network, held_out: tuple[np.ndarray, np.ndarray]
) -> dict[str, list[dict[str, np.ndarray]]]:
    """Choose masks of one total in six ways.

    Parameters
    ----------
    network : Network
        Trained; it is left as it is.
    held_out : (ndarray, ndarray)
        Images and labels that the scan measures with.

    Returns
    -------
    dict of str to list of dict
        For each budget the masks at each of `SPARSITIES`: ``uniform``, ``erk``,
        ``threshold`` and ``marginal`` of the scan, ``magnitude`` and ``lamp`` of one ranking.
    """
    images, labels = held_out
    on_held_out = partial(evaluate, x=images, labels=labels)
    scan = sensitivity_scan(network, on_held_out, sparsities=SCANNED)
    ways = {
        "uniform": partial(budgeted_masks, budget=uniform_counts),
        "erk": partial(budgeted_masks, budget=erdos_renyi_kernel_counts),
        "threshold": partial(budgeted_masks, budget=scan.threshold_counts),
        "marginal": partial(budgeted_masks, budget=scan.marginal_counts),
        "magnitude": partial(global_masks, allow_empty=False),
        "lamp": partial(global_masks, saliency=lamp),
    }
    return {name: [way(network, s) for s in SPARSITIES] for name, way in ways.items()}


def set_apart(
    digits: Dataset, rng: np.random.Generator, *, parts: int = 5
) -> tuple[Dataset, tuple[np.ndarray, np.ndarray]]:
    """Take a part of the training images out of training.

    Parameters
    ----------
    digits : Dataset
        Whole.
    rng : numpy.random.Generator
        Draws which.
    parts : int
        One of this many parts, rounded down, is taken.

    Returns
    -------
    Dataset
        Without them.
    (ndarray, ndarray)
        Their images and labels.
    """
    shuffled = rng.permutation(len(digits.train_labels))
    apart, rest = np.split(shuffled, [len(shuffled) // parts])
    images, labels = digits.train_images, digits.train_labels
    smaller = digits._replace(train_images=images[rest], train_labels=labels[rest])
    return smaller, (images[apart], labels[apart])
