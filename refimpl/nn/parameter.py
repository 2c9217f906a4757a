"""A trainable array, and the mask that keeps its pruned weights at zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, xp_of


class Parameter:
    """Hold an array that training changes, its gradient, and a mask of what is kept.

    The parameter owns its mask: wherever the mask says pruned, the value is exactly
    ``+0.0`` after every assignment.

    Parameters
    ----------
    value : ndarray of float, any shape
        The initial value, NumPy or CuPy; it is copied.

    Raises
    ------
    TypeError
        If `value` is no array of floats.

    Notes
    -----
    Assignment (``parameter.value = w``, ``parameter.value -= step``) applies the mask. Writing
    into the array (``parameter.value[0] = 1``) goes past it; call `enforce_mask` afterwards.

    Examples
    --------
    >>> import numpy as np
    >>> w = Parameter(np.array([3.0, -1.0, 2.0]))
    >>> w.mask = np.array([True, False, True])
    >>> w.value -= 0.5
    >>> w.value
    array([2.5, 0. , 1.5])
    """

    def __init__(self, value: np.ndarray) -> None:
        check_array("Parameter", "value", value, dtypes=FLOAT_DTYPES)
        self._value = value.copy()
        self._grad: np.ndarray | None = None
        self._mask: np.ndarray | None = None

    @property
    def value(self) -> np.ndarray:
        """The array itself, not a copy; assignment copies into it and applies the mask."""
        return self._value

    @value.setter
    def value(self, value: np.ndarray) -> None:
        self._check_like_value("value", value)
        self._value[...] = value
        self.enforce_mask()

    @property
    def grad(self) -> np.ndarray | None:
        """The gradient of the loss, pruned places included; None before the first backward pass.

        The gradient is dense because a method that regrows weights has to see it where no
        weight is. Assignment keeps the array that it is given, without a copy.
        """
        return self._grad

    @grad.setter
    def grad(self, grad: np.ndarray | None) -> None:
        if grad is not None:
            self._check_like_value("grad", grad)
        self._grad = grad

    @property
    def mask(self) -> np.ndarray | None:
        """True where a weight is kept, False where it is pruned; None if nothing is pruned.

        Reading gives a read-only view. Assignment copies the mask and zeroes the pruned
        values at once; None lifts the mask and leaves the values as they are.
        """
        return None if self._mask is None else _read_only(self._mask)

    @mask.setter
    def mask(self, mask: np.ndarray | None) -> None:
        if mask is not None:
            where = "Parameter.mask"
            check_array(where, "mask", mask, shape=self.shape, dtypes=(np.bool_,))
            _check_same_device(where, "mask", mask, self._value)
            mask = mask.copy()
        self._mask = mask
        self.enforce_mask()

    def enforce_mask(self) -> None:
        """Set every pruned value to ``+0.0``, whatever it was.

        Notes
        -----
        A product with the mask is not enough: ``-2.0 * 0`` is ``-0.0``, and ``nan * 0`` is
        ``nan``. This writes the zero.
        """
        if self._mask is not None:
            xp_of(self._value).copyto(self._value, 0, where=~self._mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self._value.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self._value.dtype

    @property
    def size(self) -> int:
        """The number of entries, pruned ones included."""
        return self._value.size

    def __repr__(self) -> str:
        pruned = "" if self._mask is None else f", kept={int(self._mask.sum())} of {self.size}"
        return f"Parameter(shape={self.shape}, dtype={self.dtype.name}{pruned})"

    def _check_like_value(self, argument: str, array: Any) -> None:
        where = f"Parameter.{argument}"
        check_array(where, argument, array, shape=self.shape, dtypes=(self.dtype.type,))
        _check_same_device(where, argument, array, self._value)


class Buffer:
    """Hold an array that a layer's forward pass keeps up to date, and no optimiser moves.

    Parameters
    ----------
    value : ndarray of float, any shape
        The initial value, NumPy or CuPy; it is copied.

    Raises
    ------
    TypeError
        If `value` is no array of floats.

    Examples
    --------
    >>> import numpy as np
    >>> running_mean = Buffer(np.zeros(3))
    >>> running_mean.value = np.ones(3)
    >>> running_mean
    Buffer(shape=(3,), dtype=float64)
    """

    def __init__(self, value: np.ndarray) -> None:
        check_array("Buffer", "value", value, dtypes=FLOAT_DTYPES)
        self._value = value.copy()

    @property
    def value(self) -> np.ndarray:
        """The array itself, not a copy; assignment copies into it."""
        return self._value

    @value.setter
    def value(self, value: np.ndarray) -> None:
        where, dtypes = "Buffer.value", (self.dtype.type,)
        check_array(where, "value", value, shape=self.shape, dtypes=dtypes)
        _check_same_device(where, "value", value, self._value)
        self._value[...] = value

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self._value.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self._value.dtype

    def __repr__(self) -> str:
        return f"Buffer(shape={self.shape}, dtype={self.dtype.name})"


def _check_same_device(where: str, argument: str, array: Any, owner: Any) -> None:
    home, wanted = xp_of(array), xp_of(owner)
    if home is not wanted:
        advice = "move it with cupy.asarray or cupy.asnumpy"
        requirement, actual = f"be a {wanted.__name__} array", f"a {home.__name__} array"
        raise bad_argument(where, argument, requirement, actual, advice, kind=TypeError)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    if isinstance(view, np.ndarray):  # CuPy has no such flag
        view.flags.writeable = False
    return view


def distinct_parameters(where: str, parameters: Any) -> list[Parameter]:
    """List the parameters, or refuse what is no list of different parameters.

    Parameters
    ----------
    where : str
        Named in the error.
    parameters : sequence of Parameter
        At least one, each once.

    Returns
    -------
    list of Parameter
        A new list of the same parameters.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    advice = "pass network.parameters()"
    listed = isinstance(parameters, list | tuple)
    items = parameters if listed else [parameters]
    strangers = [item for item in items if not (listed and isinstance(item, Parameter))]
    if strangers:
        actual = type(strangers[0]).__name__
        raise bad_argument(
            where, "parameters", "be a list of Parameter", actual, advice, kind=TypeError
        )
    n_distinct = len({id(parameter) for parameter in parameters})
    if not parameters or n_distinct < len(parameters):
        actual = f"{len(parameters)} with {n_distinct} distinct"
        raise bad_argument(where, "parameters", "be at least one, each once", actual, advice)
    return list(parameters)
