"""What to try the kernels of dense layers on: for each row of the table, a strategy of cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.kernels import numba_convolution
from refimpl.kernels.layer_kernels import LayerKernel
from refimpl.nn.pooling import max_pool
from support.images import whole_numbers
from support.strategies import values

DTYPES = (np.float32, np.float64)
SPECIAL = (np.nan, np.inf, -np.inf)


class Case(NamedTuple):
    """How a kernel and its definition are called on the same numbers.

    Attributes
    ----------
    given : tuple
        Arguments of the definition.
    arguments : tuple
        Those of the kernel, but for the arrays that it writes.
    written : tuple of ndarray, optional
        What these hold before, where that matters; they have the results' shapes.
    most_columns : int
        Patches in a tile of a convolution, at most.
    """

    given: tuple[Any, ...]
    arguments: tuple[Any, ...]
    written: tuple[np.ndarray, ...] | None = None
    most_columns: int = numba_convolution.MOST_COLUMNS


@st.composite
def windows(draw, most_padding: int) -> tuple[tuple[int, int], int, int, tuple[int, int]]:
    """Kernel shape, stride and padding, and the sides of an image that has room for them."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, most_padding))
    spare = draw(st.integers(0, 4)), draw(st.integers(0, 5) | st.sampled_from([8, 17, 40]))
    sides = tuple(max(k - 2 * padding, 1) + s for k, s in zip(kernel, spare, strict=True))
    return kernel, stride, padding, sides


@st.composite
def numbers(draw, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Whole numbers, whose products have exact sums in any order, and a few that are not finite."""
    array = whole_numbers(shape, dtype, np.random.default_rng(draw(st.integers(0, 999))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3])) if array.size else 0):
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(SPECIAL))
    return array


@st.composite
def convolutions(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int, int]:
    """Images, weight, gradient at their convolution, stride, padding, and most columns."""
    (kh, kw), stride, padding, (height, width) = draw(windows(2))
    batch, c_in, c_out = (draw(st.integers(low, 3)) for low in (0, 1, 1))
    batch = draw(st.sampled_from([batch, batch, batch, 11]))  # more than there are groups
    h_out = (height + 2 * padding - kh) // stride + 1
    w_out = (width + 2 * padding - kw) // stride + 1
    dtype = draw(st.sampled_from(DTYPES))
    shapes = (batch, c_in, height, width), (c_out, c_in, kh, kw), (batch, c_out, h_out, w_out)
    most = draw(st.sampled_from([1, 7, 40, numba_convolution.MOST_COLUMNS]))
    return *(draw(numbers(shape, dtype)) for shape in shapes), stride, padding, most


@st.composite
def convolve_cases(draw) -> Case:
    """With and without a bias."""
    images, weight, dy, stride, padding, most = draw(convolutions())
    bias = draw(st.none() | numbers((len(weight),), dy.dtype.type))
    arguments = images, weight, stride, padding, bias
    return Case(arguments, arguments, most_columns=most)


@st.composite
def weight_gradient_cases(draw) -> Case:
    """The kernel reads the shape of the weight from what it writes."""
    images, weight, dy, stride, padding, most = draw(convolutions())
    given = dy, images, weight.shape[2:], stride, padding
    return Case(given, (dy, images, stride, padding), most_columns=most)


@st.composite
def image_gradient_cases(draw) -> Case:
    """The kernel reads the shape of the images from what it writes."""
    images, weight, dy, stride, padding, most = draw(convolutions())
    given = dy, weight, images.shape, stride, padding
    return Case(given, (dy, weight, stride, padding), most_columns=most)


@st.composite
def pooled(draw) -> tuple[np.ndarray, tuple[int, int], int]:
    """Images full of ties, and windows that tile them, overlap or leave gaps."""
    kernel, stride, _, sides = draw(windows(0))
    kernel, stride = draw(st.sampled_from([(kernel, stride), ((2, 2), 2)]))
    sides = tuple(max(side, k) for side, k in zip(sides, kernel, strict=True))
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 3)), *sides)
    dtype = draw(st.sampled_from(DTYPES))
    elements = st.sampled_from([0.0, -0.0, 1.0, *SPECIAL]) | values(dtype)
    return draw(hnp.arrays(dtype, shape, elements=elements)), kernel, stride


@st.composite
def max_pool_cases(draw) -> Case:
    """The same arguments for both."""
    case = draw(pooled())
    return Case(case, case)


@st.composite
def max_pool_gradient_cases(draw) -> Case:
    """Gradients of what was really chosen."""
    images, kernel, stride = draw(pooled())
    chosen = max_pool(images, kernel, stride)[1]
    dy = draw(numbers(chosen.shape, images.dtype.type))
    given = dy, chosen, images.shape, kernel, stride
    return Case(given, (dy, chosen, kernel, stride))


@st.composite
def channels(draw, n_images: int, n_vectors: int) -> list[np.ndarray]:
    """Batches of images, and vectors of a number for each channel: all whole."""
    shape = *(draw(st.integers(low, 4)) for low in (0, 1, 1)), draw(st.integers(1, 20))
    dtype = draw(st.sampled_from(DTYPES))
    images = [draw(numbers(shape, dtype)) for _ in range(n_images)]
    return images + [draw(numbers(shape[1:2], dtype)) for _ in range(n_vectors)]


@st.composite
def channel_statistics_cases(draw) -> Case:
    """Images beside their reflections at a whole number, so that the means are whole too."""
    (images,) = draw(channels(1, 0))
    images = images if len(images) else np.ones((1, *images.shape[1:]), images.dtype)
    arguments = (np.concatenate([images, 2 * draw(st.integers(-9, 9)) - images]),)
    return Case(arguments, arguments)


@st.composite
def normalize_cases(draw) -> Case:
    """A scale of any sign."""
    arguments = tuple(draw(channels(1, 4)))
    return Case(arguments, arguments)


@st.composite
def normalization_sums_cases(draw) -> Case:
    """Gradients at the images and the images themselves."""
    arguments = tuple(draw(channels(2, 2)))
    return Case(arguments, arguments)


@st.composite
def normalization_gradient_cases(draw) -> Case:
    """Sums that need not be those of the gradients."""
    arguments = tuple(draw(channels(2, 5)))
    return Case(arguments, arguments)


@st.composite
def weights(draw, n_buffers: int) -> list[np.ndarray | None]:
    """A gradient, a mask or none, the value and what is remembered; NaN and infinities too."""
    dtype, n = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 40))
    elements = values(dtype) | st.sampled_from(SPECIAL)
    grad, *state = (draw(hnp.arrays(dtype, n, elements=elements)) for _ in range(n_buffers + 2))
    return [grad, draw(st.none() | hnp.arrays(np.bool_, n)), *state]


RATES = st.sampled_from([0.1, 1.0, 3e-3])
DECAYS = st.sampled_from([0.0, 0.5, 1e-4])


@st.composite
def sgd_cases(draw) -> Case:
    """With and without momentum and weight decay."""
    grad, mask, *state = draw(weights(draw(st.integers(0, 1))))
    momentum = draw(st.sampled_from([0.9, 0.3])) if len(state) > 1 else 0.0
    arguments = grad, mask, draw(RATES), momentum, draw(DECAYS)
    return Case((*arguments, *state), arguments, tuple(state))


@st.composite
def adam_cases(draw) -> Case:
    """The first step and later ones, with an epsilon that vanishes in float32 as well."""
    grad, mask, *state = draw(weights(2))
    state[2] = abs(state[2])
    betas = draw(st.sampled_from([(0.9, 0.999), (0.5, 0.7), (0.0, 0.0)]))
    epsilon, t = draw(st.sampled_from([1e-8, 0.1, 1e-60])), draw(st.sampled_from([1, 2, 1000]))
    arguments = grad, mask, draw(RATES), *betas, epsilon, draw(DECAYS), t
    return Case((*arguments, *state), arguments, tuple(state))


CASES: dict[str, Callable[[], st.SearchStrategy[Case]]] = {
    "convolve": convolve_cases,
    "convolution_weight_gradient": weight_gradient_cases,
    "convolution_image_gradient": image_gradient_cases,
    "max_pool": max_pool_cases,
    "max_pool_gradient": max_pool_gradient_cases,
    "channel_statistics": channel_statistics_cases,
    "normalize": normalize_cases,
    "normalization_sums": normalization_sums_cases,
    "normalization_gradient": normalization_gradient_cases,
    "sgd_update": sgd_cases,
    "adam_update": adam_cases,
}


def cases_of(row: LayerKernel) -> st.SearchStrategy[Case]:
    """The strategy for a row; a row without one is an error."""
    name = row.clear.rpartition(".")[2]
    assert name in CASES, f"no cases for {name}: add a strategy to CASES"
    return CASES[name]()
