"""How is a result kept, so that any program can read it for ever?"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument

# A list without texts, lists or dicts in it. Within a text a line break is written as \n.
_NUMBERS = re.compile(r"\[\n([^\[\]{}\"]*)\]")


def encode(value: Any) -> str:
    """Write a result as JSON text that any program can read.

    Parameters
    ----------
    value : dict, list, tuple, ndarray, number, bool, str or None
        Dicts have text keys; what they hold is of these kinds again.

    Returns
    -------
    str
        JSON, one item a line; a list of numbers is one. NumPy numbers and arrays become numbers
        and lists. NaN and infinities, which JSON does not have, become ``{"float": "nan"}``,
        ``{"float": "inf"}`` and ``{"float": "-inf"}``.

    Raises
    ------
    TypeError
        If something in it is of another kind; the message says where.
    ValueError
        If a dict in it is what a NaN or an infinity would become.

    Examples
    --------
    >>> import numpy as np
    >>> print(encode({"kept": np.array([5, 3]), "loss": np.nan}))
    {
     "kept": [5, 3],
     "loss": {
      "float": "nan"
     }
    }
    <BLANKLINE>
    """
    text = json.dumps(_plain(value, "value"), indent=1, allow_nan=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def decode(text: str) -> Any:
    """Read what `encode` wrote.

    Parameters
    ----------
    text : str
        JSON.

    Returns
    -------
    object
        Every finite number with the same bits; NaN and infinities as floats again.

    Raises
    ------
    ValueError
        If the text is no JSON.

    Examples
    --------
    >>> decode(encode({"loss": float("inf"), "kept": 5}))
    {'loss': inf, 'kept': 5}
    """
    return json.loads(text, object_hook=_float_again)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, dict) and value != _float_again(value):
        actual, advice = repr(value), "give the number itself, or another key"
        raise bad_argument("encode", where, "not look like a written NaN", actual, advice)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    advice = "use numbers, text, arrays, and lists or dicts with text keys of them"
    actual = f"{type(value).__name__} {value!r}"
    raise bad_argument("encode", where, "be what JSON can hold", actual, advice, kind=TypeError)


def _float_again(item: dict[str, Any]) -> Any:
    if item.keys() == {"float"} and item["float"] in ("nan", "inf", "-inf"):
        return float(item["float"])
    return item
