"""Which compiled kernels do dense layers run, and what is the definition of each?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import config

from refimpl.kernels import (
    numba_convolution,
    numba_normalization,
    numba_pooling,
    numba_update,
)

COMPILED_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))  # in the machine's byte order


@dataclass(frozen=True)
class LayerKernel:
    """A compiled function beside the clear one that says what it computes.

    Attributes
    ----------
    function : callable
        Of arrays and numbers, with the arrays that it writes last.
    clear : str
        Dotted name of the definition, in `refimpl.nn`, which stands above this package. It
        returns new arrays.
    """

    function: Callable[..., None]
    clear: str


# A kernel is a row here, and is tested because it is: against its definition, on every dtype.
LAYER_KERNELS: tuple[LayerKernel, ...] = (
    LayerKernel(numba_convolution.convolve, "refimpl.nn.convolution.convolve"),
    LayerKernel(
        numba_convolution.convolution_weight_gradient,
        "refimpl.nn.convolution.convolution_weight_gradient",
    ),
    LayerKernel(
        numba_convolution.convolution_image_gradient,
        "refimpl.nn.convolution.convolution_image_gradient",
    ),
    LayerKernel(numba_pooling.max_pool, "refimpl.nn.pooling.max_pool"),
    LayerKernel(numba_pooling.max_pool_gradient, "refimpl.nn.pooling.max_pool_gradient"),
    LayerKernel(
        numba_normalization.channel_statistics, "refimpl.nn.normalization.channel_statistics"
    ),
    LayerKernel(numba_normalization.normalize, "refimpl.nn.normalization.normalize"),
    LayerKernel(
        numba_normalization.normalization_sums, "refimpl.nn.normalization.normalization_sums"
    ),
    LayerKernel(
        numba_normalization.normalization_gradient,
        "refimpl.nn.normalization.normalization_gradient",
    ),
    LayerKernel(numba_update.sgd_update, "refimpl.nn.optim.sgd_update"),
    LayerKernel(numba_update.adam_update, "refimpl.nn.optim.adam_update"),
)


def compiled_for(array: Any) -> bool:
    """Say whether compiled kernels take an array: NumPy's, float32 or float64, and Numba compiles.

    Parameters
    ----------
    array : ndarray
        NumPy or CuPy.

    Returns
    -------
    bool
        False for a CuPy array, for float16 and the other byte order, and with
        ``NUMBA_DISABLE_JIT=1``: loops that nobody compiles are slower than the clear version.
    """
    if config.DISABLE_JIT or not isinstance(array, np.ndarray):
        return False
    return array.dtype in COMPILED_DTYPES
