"""One long vector of many named arrays, and back: what linear algebra asks of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, check_count, xp_of


def as_vector(arrays: Mapping[str, np.ndarray], *, leading: int = 0) -> np.ndarray:
    """Lay named arrays end to end, in the order of the mapping.

    Parameters
    ----------
    arrays : mapping of str to ndarray of float
        Such as the gradients of a network; at least one.
    leading : int
        How many first axes all arrays share and keep: 1 for a gradient of each example.

    Returns
    -------
    ndarray, shape (..., n)
        New, with n the entries of all arrays together; each array in C order.

    Raises
    ------
    TypeError
        If `arrays` is no mapping, or holds what is no array of floats.
    ValueError
        If it is empty, or the leading axes differ.

    Examples
    --------
    >>> import numpy as np
    >>> as_vector({"weight": np.array([[1.0, 2.0]]), "bias": np.array([3.0])})
    array([1., 2., 3.])
    """
    where = "as_vector"
    _check_arrays(where, "arrays", arrays)
    check_count(where, "leading", leading, 0)
    shared = next(iter(arrays.values())).shape[:leading]
    for name, array in arrays.items():
        if array.ndim < leading or array.shape[:leading] != shared:
            requirement = f"begin with the axes {shared}"
            advice = "give every array the same leading axes"
            raise bad_argument(where, f"arrays[{name!r}]", requirement, array.shape, advice)
    rows = [array.reshape(*shared, math.prod(array.shape[leading:])) for array in arrays.values()]
    return xp_of(*rows).concatenate(rows, axis=-1)


def as_arrays(vector: np.ndarray, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Cut a vector into named arrays: the way back from `as_vector`.

    Parameters
    ----------
    vector : ndarray of float, shape (..., n)
        Leading axes stay, and every array gets them.
    like : mapping of str to ndarray or Parameter
        Whose names and shapes the result has; `Network.named_parameters` returns one.

    Returns
    -------
    dict of str to ndarray
        Of shape ``(..., *like[name].shape)``; they share the memory of `vector` where its
        layout allows.

    Raises
    ------
    TypeError
        If `vector` is no array of floats, or `like` no mapping.
    ValueError
        If n is not the number of entries of `like`.

    Examples
    --------
    >>> import numpy as np
    >>> like = {"weight": np.zeros((1, 2)), "bias": np.zeros(1)}
    >>> as_arrays(np.array([1.0, 2.0, 3.0]), like)
    {'weight': array([[1., 2.]]), 'bias': array([3.])}
    """
    where = "as_arrays"
    check_array(where, "vector", vector, dtypes=FLOAT_DTYPES)
    _check_mapping(where, "like", like)
    sizes = [math.prod(item.shape) for item in like.values()]
    leading, n = vector.shape[:-1], sum(sizes)
    check_array(where, "vector", vector, shape=(*leading, n))
    ends = np.cumsum(sizes).tolist()
    return {
        name: vector[..., end - size : end].reshape(*leading, *item.shape)
        for (name, item), size, end in zip(like.items(), sizes, ends, strict=True)
    }


def _check_mapping(where: str, argument: str, mapping: Any) -> None:
    if not isinstance(mapping, Mapping):
        actual, advice = type(mapping).__name__, "pass a dict of names to arrays"
        raise bad_argument(where, argument, "be a mapping", actual, advice, kind=TypeError)
    if not mapping:
        raise bad_argument(where, argument, "hold an array", "an empty mapping", "add one")


def _check_arrays(where: str, argument: str, arrays: Any) -> None:
    _check_mapping(where, argument, arrays)
    for name, array in arrays.items():
        check_array(where, f"{argument}[{name!r}]", array, dtypes=FLOAT_DTYPES)
