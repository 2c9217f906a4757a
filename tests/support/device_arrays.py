"""Arrays that NumPy cannot touch, under CuPy's name: the GPU path of the engine without a GPU.

The stand-in keeps its numbers in a NumPy array and computes with NumPy, but where CuPy refuses,
it refuses: a NumPy array among its arguments, conversion to one behind the caller's back, and
names that CuPy does not have. Those that it has are listed in ``cupy_names.txt``, which
``python tests/support/device_arrays.py`` writes where CuPy is installed; importing it takes no
GPU.
"""

from __future__ import annotations

import re
import textwrap
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

LIST = Path(__file__).with_name("cupy_names.txt")
MAKERS = ("array", "asarray", "ascontiguousarray")  # they move NumPy arrays to the device


def listed_names() -> dict[str, list[str]]:
    """The sections of the list: ``version``, ``cupy`` and ``ndarray``."""
    sections = re.split(r"^(\w+):", LIST.read_text("utf8"), flags=re.M)[1:]
    return {name: text.split() for name, text in zip(sections[::2], sections[1::2], strict=True)}


def names_of(cupy: types.ModuleType) -> dict[str, list[str]]:
    """What the list should say of an installed CuPy."""
    public = (
        (key, sorted(name for name in dir(owner) if not name.startswith("_")))
        for key, owner in (("cupy", cupy), ("ndarray", cupy.ndarray))
    )
    return {"version": [cupy.__version__], **dict(public)}


def as_text(sections: dict[str, list[str]]) -> str:
    """Write the list; `listed_names` reads it."""
    fill = partial(textwrap.fill, width=96, initial_indent="  ", subsequent_indent="  ")
    return "".join(f"{name}:\n{fill(' '.join(names))}\n" for name, names in sections.items())


NAMES = {section: frozenset(names) for section, names in listed_names().items()}


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """A NumPy array in disguise. Scalars that a NumPy function returns become arrays, too."""

    __module__ = "cupy"

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or ufunc.__name__ not in NAMES["cupy"]:
            return NotImplemented
        result = call(ufunc, *inputs, **kwargs)
        return kwargs["out"][0] if "out" in kwargs else result

    def __array_function__(self, function, types, args, kwargs):
        if function.__module__ != "numpy" or function.__name__ not in NAMES["cupy"]:
            return NotImplemented
        return call(function, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES["ndarray"]:
            raise AttributeError(f"'ndarray' object of CuPy has no attribute {name!r}")
        found = getattr(self._host, name)
        return partial(call, found) if callable(found) else on_device(found)

    def __getitem__(self, index: Any) -> ndarray:
        return on_device(self._host[on_host(index, numpy_allowed=True)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._host[on_host(index, numpy_allowed=True)] = on_host(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self):
        return map(on_device, self._host)

    def __bool__(self) -> bool:
        return bool(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def get(self) -> np.ndarray:
        """The way back that CuPy offers."""
        return self._host.copy()


def call(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function of NumPy's with the hidden arrays, and hide what it returns."""
    name = function.__name__
    if "where" in kwargs and name != "copyto":
        raise TypeError(f"{name}() of CuPy got an unexpected keyword argument 'where'")
    args, kwargs = on_host((args, kwargs), numpy_allowed=name in MAKERS)
    return on_device(function(*args, **kwargs))


def on_host(item: Any, *, numpy_allowed: bool = False) -> Any:
    """Bring out the arrays in an argument, and refuse those of NumPy."""
    if isinstance(item, ndarray):
        return item._host
    if isinstance(item, np.ndarray) and not numpy_allowed:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    reach = partial(on_host, numpy_allowed=numpy_allowed)
    if isinstance(item, tuple | list):
        return type(item)(map(reach, item))
    return {key: reach(value) for key, value in item.items()} if isinstance(item, dict) else item


def on_device(item: Any) -> Any:
    """Hide the arrays in a result."""
    if isinstance(item, np.ndarray | np.generic):
        return ndarray(np.asarray(item))
    if isinstance(item, tuple) and any(isinstance(part, np.ndarray) for part in item):
        return tuple(map(on_device, item))
    return item


class DeviceModule(types.ModuleType):
    """CuPy's functions, as far as NumPy has them and CuPy's list names them."""

    ndarray = ndarray

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES["cupy"]:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        found = getattr(np, name)
        return partial(call, found) if callable(found) and not isinstance(found, type) else found

    @staticmethod
    def asnumpy(array: Any) -> np.ndarray:
        """Move an array to the host."""
        return array.get() if isinstance(array, ndarray) else np.asarray(array)


if __name__ == "__main__":
    import cupy

    LIST.write_text(as_text(names_of(cupy)), "utf8")
