"""What do we prune on? Small image sets, split into a training and a test part.

And what did others prune? The places of the weights that were kept in larger networks.
"""

from __future__ import annotations

from .dataset import Dataset, standardize
from .digits import load_digits
from .dlmc import dlmc_files, read_smtx
from .idx import read_idx
from .mnist_family import load_fashion_mnist, load_mnist
from .monks import Monks, load_monks

__all__ = [
    "Dataset",
    "Monks",
    "dlmc_files",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_monks",
    "read_idx",
    "read_smtx",
    "standardize",
]
