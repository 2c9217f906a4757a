"""Are the first and last layers of two LeNets the most sensitive ones on MNIST.

`refimpl.experiments.layer_sensitivity` with LeNet-300-100 and Caffe's LeNet-5. Needs the MNIST
files, see `refimpl.data.load_mnist`. A run takes minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.data import load_mnist, standardize
from refimpl.experiments.layer_sensitivity import scan_every_way
from refimpl.nn import Adam, fit, lenet5, lenet_300_100

NETWORKS = {"lenet_300_100": lenet_300_100, "lenet5": lenet5}
SETTINGS = tuple({"network": network} for network in NETWORKS)
SEEDS = tuple(range(5))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network, and scan its layers on every tenth test image.

    Parameters
    ----------
    setting : dict
        ``network``, a name among `NETWORKS`. Fewer ``images`` to train on make a quick trial.
    seed : int
        Draws the first weights and the order of the examples.

    Returns
    -------
    dict
        As `refimpl.experiments.layer_sensitivity.scan_every_way`.

    Raises
    ------
    FileNotFoundError
        If MNIST is not on this machine.
    KeyError
        If the setting names another network.

    Notes
    -----
    Adam, learning rate 1e-3, mini-batches of 100, 2 epochs.
    """
    init, order = np.random.default_rng(seed).spawn(2)
    network = NETWORKS[setting["network"]](rng=init)
    mnist = standardize(load_mnist())
    n = setting.get("images", len(mnist.train_labels))
    images, labels = mnist.train_images[:n], mnist.train_labels[:n]
    adam = Adam(network.parameters(), lr=1e-3)
    fit(network, adam, images, labels, epochs=2, batch_size=100, rng=order)
    test_images, test_labels = mnist.test_images[::10], mnist.test_labels[::10]
    few = mnist._replace(test_images=test_images, test_labels=test_labels)
    return scan_every_way(network, few)
