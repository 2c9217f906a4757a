"""What error does LeNet-300-100 reach on MNIST when it is pruned before it is trained?

SNIP's experiment (Lee, Ajanthan and Torr 2019, table 1), with four other ways to choose the mask. A
tenth of the training images is set apart and says which step's weights count; the test set is only
measured with. Needs the MNIST files, see `refimpl.data.load_mnist`. A run takes seconds.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_mnist, standardize
from refimpl.experiments.at_initialization import METHODS, masks_by, one_batch, weights_left
from refimpl.experiments.sensitivity_budgets import set_apart
from refimpl.nn import SGD, Network, evaluate, fit, lenet_300_100
from refimpl.prune import apply_masks

SPARSITIES = (0.9, 0.95, 0.98, 0.99)
SETTINGS = (
    {"method": "dense", "sparsity": 0.0},
    *({"method": method, "sparsity": s} for s in SPARSITIES for method in METHODS),
)
SEEDS = tuple(range(5))
BATCH_SIZE = 100
LEARNING_RATES = 9 * (0.1,) + 6 * (0.01,) + 3 * (0.001,)  # of each epoch


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Initialise, prune, train with the mask held fixed, and take the test error.

    Parameters
    ----------
    setting : dict
        ``method``, ``"dense"`` or one of `refimpl.experiments.at_initialization.METHODS`, and
        ``sparsity``, of all weights. Fewer ``epochs`` than 18 make a quick trial.
    seed : int
        Draws the images set apart, the initial weights, the batch that SNIP and GraSP see, and
        the order of the examples; all methods share them.

    Returns
    -------
    dict
        Test errors in per cent. ``validated``: at the step of least validation error, of
        those looked at every 1080 steps. ``last``: at the last step. ``least``: the least of all,
        which selecting on the test set would report. And ``kept``, the weights left in each
        layer.

    Raises
    ------
    KeyError
        If the setting names another method.
    FileNotFoundError
        If MNIST is not on this machine.

    Notes
    -----
    SGD with momentum 0.9, weight decay 5e-4 and mini-batches of 100, 540 steps an epoch; the
    learning rate is 0.1 for 9 epochs, 0.01 for 6 and 0.001 for 3.
    """
    split, init, choice, order = np.random.default_rng(seed).spawn(4)
    data, validation = set_apart(standardize(load_mnist()), split, parts=10)
    network = lenet_300_100(rng=init)
    batch = one_batch(data, choice)
    if setting["method"] != "dense":
        masks = masks_by(setting["method"], network, batch, setting["sparsity"], choice)
        apply_masks(network, masks)
    epochs = setting.get("epochs", len(LEARNING_RATES))
    return test_errors(network, data, validation, epochs, order) | {"kept": weights_left(network)}


def test_errors(
    network: Network,
    data: Dataset,
    validation: tuple[np.ndarray, np.ndarray],
    epochs: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Train, look at validation and test images every 1080 steps, and report three test errors.

    Parameters
    ----------
    network : Network
        Is trained in place; its masks hold.
    data : Dataset
        Its training images are seen, its test images are measured with.
    validation : (ndarray, ndarray)
        Images and labels that choose the step.
    epochs : int
        Passes over the training images.
    rng : numpy.random.Generator
        Draws the order of the examples.

    Returns
    -------
    dict of str to float
        ``validated``, ``last`` and ``least``, see `run_once`, in per cent.
    """
    steps = math.ceil(len(data.train_labels) / BATCH_SIZE)  # of an epoch
    seen: list[tuple[float, float]] = []  # errors in validation and test

    def look(step: int) -> None:
        if step % (2 * steps) == 0 or step == epochs * steps:
            sets = (validation, (data.test_images, data.test_labels))
            errors = (100 - 100 * evaluate(network, *images).accuracy for images in sets)
            seen.append(tuple(round(error, 3) for error in errors))

    fit(
        network,
        SGD(network.parameters(), lr=LEARNING_RATES[0], momentum=0.9, weight_decay=5e-4),
        data.train_images,
        data.train_labels,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        rng=rng,
        schedule=lambda step: LEARNING_RATES[(step - 1) // steps],
        after_step=look,
    )
    chosen = min(seen, key=itemgetter(0))  # the first, on a tie
    tested = [error for _, error in seen]
    return {"validated": chosen[1], "last": tested[-1], "least": min(tested)}
