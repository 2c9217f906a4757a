"""Every criterion on the layers of LeNet-300-100 and LeNet-5, at 90 % without retraining.

`refimpl.experiments.reconstruction_digits` with MNIST. Needs the MNIST files, see
`refimpl.data.load_mnist`. A run takes a minute or two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.data import load_mnist
from refimpl.experiments.reconstruction_digits import compare
from refimpl.nn import Adam, fit, lenet5, lenet_300_100

NETWORKS = {"lenet_300_100": lenet_300_100, "lenet5": lenet5}
SETTINGS = tuple({"network": name, "sparsity": 0.9} for name in NETWORKS)
SEEDS = (0, 1, 2)


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network, prune it by every method, and measure on every fifth test image.

    Parameters
    ----------
    setting : dict
        ``network``, a name among `NETWORKS`, and ``sparsity``. Fewer ``images`` to train on than
        60,000 make a quick trial.
    seed : int
        Draws the first weights, the order of the examples and the random masks.

    Returns
    -------
    dict
        As `refimpl.experiments.reconstruction_digits.compare`, with the first 1,000 training
        images for calibration.

    Raises
    ------
    FileNotFoundError
        If MNIST is not on this machine.
    KeyError
        If the setting names another network.

    Notes
    -----
    Adam, learning rate 1e-3, mini-batches of 100, 2 epochs, pixels in [0, 1].
    """
    init, order, rng = np.random.default_rng(seed).spawn(3)
    network = NETWORKS[setting["network"]](rng=init)
    mnist = load_mnist()
    n = setting.get("images", len(mnist.train_labels))
    images, labels = mnist.train_images[:n], mnist.train_labels[:n]
    adam = Adam(network.parameters(), lr=1e-3)
    fit(network, adam, images, labels, epochs=2, batch_size=100, rng=order)
    few = mnist._replace(test_images=mnist.test_images[::5], test_labels=mnist.test_labels[::5])
    return compare(network, few, setting["sparsity"], rng, n_calibration=min(n, 1000))
