"""The stand-in for CuPy computes what NumPy does, and refuses what CuPy refuses."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from refimpl.arrays import xp_of
from support.device_arrays import (
    LIST,
    NAMES,
    DeviceModule,
    as_text,
    listed_names,
    names_of,
    ndarray,
)


@pytest.fixture
def cupy(monkeypatch):
    module = DeviceModule("cupy")
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def values(array: ndarray) -> list:
    assert type(array) is ndarray
    return array.get().tolist()


def test_device_array_is_taken_for_cupys(cupy):
    assert xp_of(cupy.zeros(3)) is cupy


def test_device_functions_compute_what_numpy_does(cupy):
    x = cupy.asarray(np.array([[4.0, -1.0], [0.0, 9.0]]))
    assert values(cupy.maximum(x, 0)) == [[4, 0], [0, 9]]
    assert values(np.sqrt(cupy.where(x > 0, x, 1))) == [[2, 1], [1, 3]]
    assert values(np.zeros_like(x)) == [[0, 0], [0, 0]]


def test_device_operators_compute_what_numpy_does(cupy):
    x = cupy.asarray(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert values(2 * x @ x.T - x / 2) == [[9.5, 21], [20.5, 48]]
    assert values(-x[1]) == [-3, -4]


def test_device_views_share_their_memory(cupy):
    x = cupy.zeros((2, 3))
    x[:, 1:] += 1
    row = x[0]
    row[...] = 7
    assert values(x) == [[7, 7, 7], [0, 1, 1]]


def test_device_reductions_return_arrays(cupy):
    total = cupy.arange(4).sum()
    assert values(total) == 6
    assert (int(total), float(total), bool(total)) == (6, 6.0, True)


def test_device_arrays_are_indexed_by_either_kind(cupy):
    x = cupy.arange(4)
    assert values(x[np.array([3, 1])]) == values(x[cupy.asarray(np.array([3, 1]))]) == [3, 1]


def test_device_arrays_of_several_axes_yield_their_rows(cupy):
    assert [values(row) for row in cupy.zeros((2, 3))] == [[0, 0, 0], [0, 0, 0]]
    assert len(cupy.zeros((2, 3))) == 2


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda _, x: np.asarray(x), "Implicit conversion to a NumPy array"),
        (lambda _, x: np.array([1.0, x[0]]), "Implicit conversion|only 0-dimensional|array is"),
        (lambda _, x: x + np.ones(2), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda _, x: np.ones(2) + x, "Unsupported type <class 'numpy.ndarray'>"),
        (lambda cupy, x: cupy.maximum(x, np.ones(2)), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda _, x: x.dot(np.ones(2)), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda _, x: x.__setitem__(0, np.ones(1)), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda _, x: np.add.reduce(x), "returned NotImplemented"),
        (lambda _, x: np.nanquantile(x, 0.5), "no implementation found for 'numpy.nanquantile'"),
        (lambda _, x: np.sum(x, where=x > 1), "unexpected keyword argument 'where'"),
    ],
    ids=["asarray", "array", "plus", "plus, reflected", "function", "method", "set", "reduce",
         "no such function", "no such argument"],
)  # fmt: skip
def test_device_array_refuses_what_cupys_does(cupy, misuse, message):
    with pytest.raises(TypeError, match=message):
        misuse(cupy, cupy.ones(2))


def test_device_module_lacks_what_cupy_lacks(cupy):
    with pytest.raises(AttributeError, match="module 'cupy' has no attribute 'nanquantile'"):
        cupy.nanquantile(cupy.ones(2), 0.5)


def test_device_array_lacks_what_cupys_lacks(cupy):
    with pytest.raises(AttributeError, match="'ndarray' object of CuPy has no attribute 'tobits'"):
        cupy.ones(2).tobits()


def test_device_arrays_come_back_as_copies(cupy):
    x = cupy.zeros(2)
    cupy.asnumpy(x)[0] = 7
    assert values(x) == [0, 0]


def test_list_of_names_is_what_the_writer_writes():
    assert as_text(listed_names()) == LIST.read_text("utf8")


def test_list_of_names_holds_what_everybody_knows():
    assert {"zeros", "where", "einsum", "ElementwiseKernel", "ndarray"} <= NAMES["cupy"]
    assert {"shape", "reshape", "sum", "get"} <= NAMES["ndarray"]
    assert not {"nanquantile", "errstate", "ma"} & NAMES["cupy"]


def test_list_of_names_is_that_of_the_cupy_installed():
    cupy = pytest.importorskip("cupy")
    if [cupy.__version__] != listed_names()["version"]:
        pytest.skip(f"the list is that of another version than {cupy.__version__}")
    assert names_of(cupy) == listed_names()
