"""The MONK's problems: three rules about 432 robots, generated from the rules themselves."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from refimpl.arrays import check_count

_LEVELS = (3, 3, 2, 3, 4, 2)  # how many values each of the attributes a1 to a6 takes


class Monks(NamedTuple):
    """One MONK's problem: inputs and labels to train on, and all 432 states to test on.

    Parameters
    ----------
    train_inputs, test_inputs : ndarray of float32, shape (n, 17)
        One-hot codes of the six attributes, side by side: each row holds six ones.
    train_labels, test_labels : ndarray of int64, shape (n,)
        0 or 1.

    Examples
    --------
    >>> load_monks(1)
    Monks(124 training and 432 test states of 17 inputs)
    """

    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    def __repr__(self) -> str:
        counts = f"{len(self.train_inputs)} training and {len(self.test_inputs)} test states"
        return f"Monks({counts} of {self.test_inputs.shape[1]} inputs)"


def load_monks(problem: int) -> Monks:
    """Generate one of the three MONK's problems, equal to the published files.

    Parameters
    ----------
    problem : int
        1, 2 or 3.

    Returns
    -------
    Monks
        124, 169 or 122 training states, and all 432 states, with their true labels, to test
        on. States stand in lexicographic order. New arrays.

    Raises
    ------
    TypeError, ValueError
        If `problem` is none of the three.

    Notes
    -----
    Six attributes take 3, 3, 2, 3, 4 and 2 values: 432 states, 17 inputs. A state has label 1

    1. if ``a1 = a2`` or ``a5 = 1``;
    2. if exactly two of the six attributes are 1;
    3. if ``a5 = 3`` and ``a4 = 1``, or ``a5 != 4`` and ``a2 != 3``. Of the training labels, 6
       are wrong on purpose.

    Nothing is read: the training states are a set of 54 bytes, a bit for each state.

    References
    ----------
    S. Thrun and others (1991), The MONK's problems: a performance comparison of different
    learning algorithms, CMU-CS-91-197; the files are at the UCI Machine Learning Repository.

    Examples
    --------
    >>> monks = load_monks(2)
    >>> monks.train_inputs.shape, monks.test_inputs.shape
    ((169, 17), (432, 17))
    >>> monks.test_inputs[0].astype(int)  # the state 1 1 1 1 1 1
    array([1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0])
    >>> int(monks.test_labels.sum())
    142
    """
    check_count("load_monks", "problem", problem, 1, len(_PROBLEMS))
    rule, training_states, wrong_ids = _PROBLEMS[problem - 1]
    states = np.indices(_LEVELS).reshape(len(_LEVELS), -1).T + 1  # (432, 6)
    inputs, labels = _one_hot(states), rule(*states.T).astype(np.int64)
    chosen = _as_set(training_states)
    noisy = labels.copy()
    noisy[np.array(wrong_ids, np.int64) - 1] ^= 1  # an id counts from 1
    return Monks(inputs[chosen], noisy[chosen], inputs, labels)


def _one_hot(states: np.ndarray) -> np.ndarray:
    codes = [np.eye(n)[column - 1] for n, column in zip(_LEVELS, states.T, strict=True)]
    return np.concatenate(codes, axis=1, dtype=np.float32)  # (432, 17)


def _as_set(text: str) -> np.ndarray:
    """Bit k - 1, lowest first, says whether id k is in the training part."""
    octets = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(octets, bitorder="little").astype(bool)


def _first_rule(a1, a2, _a3, _a4, a5, _a6) -> np.ndarray:
    return (a1 == a2) | (a5 == 1)


def _second_rule(*attributes) -> np.ndarray:
    return np.sum([a == 1 for a in attributes], axis=0) == 2


def _third_rule(_a1, a2, _a3, a4, a5, _a6) -> np.ndarray:
    return ((a5 == 3) & (a4 == 1)) | ((a5 != 4) & (a2 != 3))


class _Problem(NamedTuple):
    rule: Callable[..., np.ndarray]
    training_states: str  # base64 of the set's bits
    wrong_ids: tuple[int, ...]


_PROBLEMS = (
    _Problem(
        _first_rule,
        "MAAkDFAClrGECOA4RETaCOrFMNtAmJBIHCCr4QRAARGSIAcgAwkICSgIgYIAIwBFhaCO4QCq",
        (),
    ),
    _Problem(
        _second_rule,
        "SFdEA9AKAnr7RFDzOmyYcKIEGQhqSYSrkBFw6RmNI7FGliWwQOor+QSOOgY1OS2hNSAAATWF",
        (),
    ),
    _Problem(
        _third_rule,
        "XokAiMgzEBxvkA0NRGARh6BAwwNoCEACoAa5CDJAEC0QSpCFFYCCBKABSBACKAJhYIBNAyih",
        (5, 61, 203, 213, 214, 391),
    ),
)
