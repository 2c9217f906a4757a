"""What every function asks of its arguments, and how it says no.

A refusal is one sentence with four parts::

    {where}: {argument} must {requirement}, got {actual}; {what to do}
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

FLOAT_DTYPES = (np.float16, np.float32, np.float64)
INDEX_DTYPES = (np.int32, np.int64)


def bad_argument(
    where: str,
    argument: str,
    requirement: str,
    actual: object,
    advice: str,
    *,
    kind: type[Exception] = ValueError,
) -> Exception:
    """Build the error for an argument that breaks a requirement; the caller raises it.

    Parameters
    ----------
    where : str
        The public function that was called, ``CSR.from_dense``.
    argument : str
        The argument's name.
    requirement : str
        What follows "must".
    actual : object
        What came instead.
    advice : str
        What the caller can do.
    kind : type of Exception
        `ValueError`, or `TypeError` for the wrong kind of object.

    Returns
    -------
    Exception
        Of type `kind`, with the one-sentence message of this module.

    Examples
    --------
    >>> print(bad_argument("TwoFour.from_dense", "columns", "be a multiple of 4", 10,
    ...                    "pad with zeros or use CSR"))
    TwoFour.from_dense: columns must be a multiple of 4, got 10; pad with zeros or use CSR
    """
    return kind(f"{where}: {argument} must {requirement}, got {actual}; {advice}")


def xp_of(*arrays: Any) -> ModuleType:
    """Name the array module (NumPy or CuPy) that the arrays live in.

    Parameters
    ----------
    *arrays : ndarray
        NumPy or CuPy arrays; anything that is no CuPy array counts as NumPy's.

    Returns
    -------
    module
        ``numpy`` or ``cupy``. CuPy is never imported here: whoever made a CuPy array has
        imported it already.

    Raises
    ------
    TypeError
        If NumPy and CuPy arrays are mixed.

    Examples
    --------
    >>> xp_of(np.zeros(3)).__name__
    'numpy'
    """
    for array in arrays:
        if type(array) is not np.ndarray:
            break
    else:
        return np
    homes = {type(array).__module__.partition(".")[0] == "cupy" for array in arrays}
    if homes == {True, False}:
        raise bad_argument(
            "xp_of",
            "arrays",
            "all live on one device",
            "a mix of NumPy and CuPy",
            "move them with cupy.asarray or cupy.asnumpy",
            kind=TypeError,
        )
    return sys.modules["cupy"] if homes == {True} else np


def check_array(
    where: str,
    argument: str,
    array: Any,
    *,
    ndim: int | Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
    dtypes: Sequence[type] | None = None,
) -> None:
    """Refuse what is no plain array, or an array of the wrong rank, shape or dtype.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    array : ndarray
        NumPy or CuPy array to look at; nothing is converted.
    ndim : int or sequence of int, optional
        Allowed numbers of axes.
    shape : sequence of int, optional
        Required shape; -1 stands for any length.
    dtypes : sequence of type, optional
        Allowed dtypes.

    Raises
    ------
    TypeError
        If `array` is no array, or one with gaps (`numpy.ma`), or its dtype is not allowed.
    ValueError
        If its rank or shape is not allowed.
    """
    if type(array) is not np.ndarray:
        _check_plain(where, argument, array)
    if dtypes is not None and array.dtype.type not in dtypes:
        names = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        advice = f"convert it with .astype(np.{np.dtype(dtypes[-1]).name})"
        raise bad_argument(where, argument, f"be {names}", array.dtype.name, advice, kind=TypeError)
    ranks = (ndim,) if isinstance(ndim, int) else ndim
    if ranks is not None and array.ndim not in ranks:
        axes = " or ".join(str(rank) for rank in ranks)
        advice = "reshape it"
        raise bad_argument(where, argument, f"have {axes} axes", f"shape {array.shape}", advice)
    if shape is not None and not _shape_fits(array.shape, shape):
        wanted = str(tuple(shape)).replace("-1", "any")
        advice = "check which axis is which"
        raise bad_argument(where, argument, f"have shape {wanted}", array.shape, advice)


def _check_plain(where: str, argument: str, array: Any) -> None:
    if not isinstance(array, xp_of(array).ndarray):
        advice = "convert it with np.asarray"
        actual = type(array).__name__
        raise bad_argument(where, argument, "be an array", actual, advice, kind=TypeError)
    if isinstance(array, np.ma.MaskedArray | np.matrix):  # they redefine indexing and products
        masked = isinstance(array, np.ma.MaskedArray)
        advice = "say with .filled(value) what its gaps hold" if masked else "use np.asarray"
        actual = type(array).__name__
        raise bad_argument(where, argument, "be a plain array", actual, advice, kind=TypeError)


def _shape_fits(actual: tuple[int, ...], wanted: Sequence[int]) -> bool:
    return actual == tuple(wanted) or (
        len(actual) == len(wanted)
        and all(w in (-1, a) for a, w in zip(actual, wanted, strict=True))
    )


def check_no_nan(where: str, argument: str, array: Any) -> None:
    """Refuse an array that holds NaN, which no order can rank.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    array : ndarray of float
        NumPy or CuPy array; infinities pass.

    Raises
    ------
    ValueError
        If any entry is NaN; the message counts them.
    """
    n_nan = int(xp_of(array).isnan(array).sum())
    if n_nan:
        advice = "look for a division by zero or an overflow where it was computed"
        raise bad_argument(where, argument, "hold no NaN", f"{n_nan} of {array.size}", advice)


def check_count(where: str, argument: str, count: Any, low: int, high: int | None = None) -> None:
    """Refuse what is no whole number in ``[low, high]``.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    count : int
        A Python or NumPy integer; bool and float are refused.
    low, high : int
        Inclusive bounds; no upper bound without `high`.

    Raises
    ------
    TypeError
        If `count` is no integer.
    ValueError
        If it is out of bounds.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer):
        advice = "give a count, not a fraction"
        raise bad_argument(where, argument, "be an integer", repr(count), advice, kind=TypeError)
    if count < low or (high is not None and count > high):
        bounds = f"be at least {low}" if high is None else f"be in [{low}, {high}]"
        raise bad_argument(where, argument, bounds, count, "give a count within these bounds")


def check_fraction(where: str, argument: str, fraction: Any, *, one_allowed: bool = False) -> None:
    """Refuse what is no number in ``[0, 1)``, or in ``[0, 1]`` if `one_allowed`.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    fraction : float
        Such as a sparsity: the fraction of zeros.
    one_allowed : bool
        Whether 1 is in range, where an empty result means something.

    Raises
    ------
    TypeError
        If `fraction` is no real number.
    ValueError
        If it is out of range or NaN.
    """
    _check_real(where, argument, fraction, "give a fraction such as 0.9")
    if not (0 <= fraction < 1 or (one_allowed and fraction == 1)):
        interval = "[0, 1]" if one_allowed else "[0, 1)"
        advice = "90 % is written 0.9"
        raise bad_argument(where, argument, f"be in {interval}", fraction, advice)


def check_positive(where: str, argument: str, number: Any, *, zero_allowed: bool = False) -> None:
    """Refuse what is no finite number above 0, or at least 0 if `zero_allowed`.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    number : float
        Such as a learning rate.
    zero_allowed : bool
        Whether 0 is in range, where it means something.

    Raises
    ------
    TypeError
        If `number` is no real number.
    ValueError
        If it is out of range, infinite or NaN.
    """
    _check_real(where, argument, number, "give a number such as 0.1")
    if not (0 < number < np.inf or (zero_allowed and number == 0)):
        bound = "at least 0" if zero_allowed else "above 0"
        raise bad_argument(
            where, argument, f"be finite and {bound}", number, f"give a finite number {bound}"
        )


def _check_real(where: str, argument: str, number: Any, advice: str) -> None:
    real = isinstance(number, int | float | np.integer | np.floating)
    if not real or isinstance(number, bool):
        raise bad_argument(where, argument, "be a number", repr(number), advice, kind=TypeError)


def check_rng(where: str, rng: Any) -> None:
    """Refuse a source of randomness that is no `numpy.random.Generator`.

    Parameters
    ----------
    where : str
        Named in the error.
    rng : numpy.random.Generator
        As `numpy.random.default_rng` returns.

    Raises
    ------
    TypeError
        If `rng` is anything else, such as a bare seed.
    """
    if not isinstance(rng, np.random.Generator):
        advice = "pass np.random.default_rng(seed)"
        raise bad_argument(
            where, "rng", "be a numpy.random.Generator", type(rng).__name__, advice, kind=TypeError
        )


def frozen_copy(array: np.ndarray) -> np.ndarray:
    """Copy an array into memory that nobody can write to any more.

    Parameters
    ----------
    array : ndarray
        Any array.

    Returns
    -------
    ndarray
        C-contiguous, equal bit for bit, read-only for good: its memory belongs to a `bytes`
        object. A read-only array that owns its memory, or a view of one, can be made
        writeable again, by itself or through its ``.base``.

    Examples
    --------
    >>> frozen_copy(np.ones(2)).flags.writeable
    False
    """
    return np.ndarray(array.shape, array.dtype, array.tobytes())
