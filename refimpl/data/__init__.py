"""What do we prune on? Small image sets, split into a training and a test part.

And what did others prune? The places of the weights that were kept in larger networks.
"""

from __future__ import annotations

from .dataset import Dataset, standardize
from .digits import load_digits
from .dlmc import dlmc_files, read_smtx
from .idx import read_idx
from .mnist_family import load_fashion_mnist, load_mnist

__all__ = [
    "Dataset",
    "dlmc_files",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "read_idx",
    "read_smtx",
    "standardize",
]
