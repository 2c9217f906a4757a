"""Hypothesis strategies for the matrices that break sparse code."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

FLOATS = (np.float16, np.float32, np.float64)
UINT_OF = {np.float16: np.uint16, np.float32: np.uint32, np.float64: np.uint64}
SPECIAL = [0.0, -0.0, 1.0, -1.0]
INFINITE = [*SPECIAL, math.inf, -math.inf]


def values(dtype: type) -> st.SearchStrategy[float]:
    """Finite values whose products stay finite in `dtype`, many of them equal, some -0.0."""
    ties = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0])
    width = {np.float16: 16, np.float32: 32, np.float64: 64}[dtype]
    return ties | st.floats(-8, 8, width=width, allow_subnormal=False)


@st.composite
def layouts(draw, array: np.ndarray) -> np.ndarray:
    """The same array C-contiguous, Fortran-ordered, or strided within a larger one."""
    kind = draw(st.sampled_from(["C", "F", "strided"]))
    if kind == "strided":
        room = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        view = room[tuple(slice(None, 2 * n, 2) for n in array.shape)]
        view[...] = array
        return view
    return np.array(array, order=kind)


@st.composite
def dense_matrices(
    draw, *, dtypes: tuple[type, ...] = FLOATS, max_side: int = 9, elements=None
) -> np.ndarray:
    """Matrices of every float dtype: 0 rows or columns, empty rows, all zero, all kept, ties."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.tuples(st.integers(0, max_side), st.integers(0, max_side)))
    elements = values(dtype) if elements is None else elements
    matrix = draw(hnp.arrays(dtype, shape, elements=elements))
    kept = draw(st.sampled_from(["some", "all", "none"]) | st.just("some"))
    if kept == "none":
        matrix = np.zeros_like(matrix)
    elif kept == "some":
        matrix = np.where(draw(hnp.arrays(np.bool_, shape)), matrix, dtype(0))
    return draw(layouts(matrix))


@st.composite
def bit_patterns(draw, *, max_side: int = 6) -> np.ndarray:
    """Matrices of any bits at all: NaN with every payload, infinities, subnormals, -0.0."""
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(st.tuples(st.integers(0, max_side), st.integers(0, max_side)))
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf], dtype).view(UINT_OF[dtype])
    elements = st.sampled_from(special.tolist()) | hnp.from_dtype(np.dtype(UINT_OF[dtype]))
    bits = draw(hnp.arrays(UINT_OF[dtype], shape, elements=elements))
    return draw(layouts(bits.view(dtype)))


def cropped(matrices, block_shape: tuple[int, int]):
    """The same strategy, each matrix cut down until blocks of this shape fill it."""

    def crop(dense: np.ndarray) -> np.ndarray:
        (m, n), (r, c) = dense.shape, block_shape
        return dense[: m - m % r, : n - n % c]

    return lambda **arguments: matrices(**arguments).map(crop)


@st.composite
def grouped(draw, matrices, pattern: tuple[int, int], **arguments) -> np.ndarray:
    """Matrices of a strategy, at most n of every m columns left; some fill words of indices."""
    n, m = pattern
    dense = draw(cropped(matrices, (1, m))(**arguments))
    groups = dense.reshape(dense.shape[0], dense.shape[1] // m, m)
    kept = np.where(np.cumsum(groups != 0, axis=-1) <= n, groups, dense.dtype.type(0))
    times = draw(st.sampled_from([1, 1, 1, 5, 17, 33]))
    return draw(layouts(np.tile(kept.reshape(dense.shape), (1, times))))


@st.composite
def tall(draw, matrices, **arguments) -> np.ndarray:
    """Matrices of a strategy, their rows moved apart by zeros: gaps around 16, and of more."""
    dense = draw(matrices(**arguments))
    m, n = dense.shape
    zeros = np.roll([0, 0, 0, 16, 15, 1, 17, 31, 14, 32], draw(st.integers(0, 9)))
    rows = np.arange(m + 1) + np.cumsum(np.resize(zeros, m + 1))  # the last is the end
    apart = np.zeros((rows[-1], n), dense.dtype)
    apart[rows[:-1]] = dense
    return draw(layouts(apart))


@st.composite
def few_values(draw, matrices, most: int, **arguments) -> np.ndarray:
    """Matrices of a strategy, none but a few of their different nonzero values left."""
    dense = draw(matrices(**arguments))
    bits = dense.view(UINT_OF[dense.dtype.type])
    kept = np.unique(bits[dense != 0])[:most]
    return draw(layouts(np.where(np.isin(bits, kept), dense, dense.dtype.type(0))))


@st.composite
def operands(draw, a: np.ndarray) -> np.ndarray:
    """What `a` can be multiplied with: a vector or a matrix, of the dtype of `a`."""
    batch = draw(st.none() | st.integers(0, 5))
    shape = (a.shape[1],) if batch is None else (a.shape[1], batch)
    return draw(layouts(draw(hnp.arrays(a.dtype, shape, elements=values(a.dtype.type)))))


@st.composite
def products(draw, *, dtypes: tuple[type, ...] = FLOATS) -> tuple[np.ndarray, np.ndarray]:
    """A matrix and what it can be multiplied with: a vector or a matrix of the same dtype."""
    a = draw(dense_matrices(dtypes=dtypes))
    return a, draw(operands(a))


@st.composite
def saliencies(draw, shape: tuple[int, ...], special: list[float] = INFINITE) -> np.ndarray:
    """Arrays of a shape, every dtype and layout, with many ties, no NaN."""
    dtype = draw(st.sampled_from(FLOATS))
    width = np.dtype(dtype).itemsize * 8
    elements = st.sampled_from(special) | st.floats(
        width=width, allow_nan=False, allow_infinity=math.inf in special
    )
    return draw(layouts(draw(hnp.arrays(dtype, shape, elements=elements))))


@st.composite
def whole_numbers(draw, n_arrays: int = 2) -> list[np.ndarray]:
    """Arrays of one shape, each of any dtype and layout; float64 products of them are exact."""
    shape = draw(hnp.array_shapes(max_dims=3, min_side=0, max_side=4))
    dtypes = [draw(st.sampled_from(FLOATS)) for _ in range(n_arrays)]
    whole = st.integers(-9, 9).map(float)
    return [draw(layouts(draw(hnp.arrays(dtype, shape, elements=whole)))) for dtype in dtypes]
