"""The generated MONK's problems equal the published ones, state by state."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from refimpl.data import load_monks

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("REFIMPL_DATA", ROOT.parent / "shared" / "data")) / "monks"
VALUES = [(1, 2, 3), (1, 2, 3), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2)]
STATES = list(product(*VALUES))
FLIPPED = {5, 61, 203, 213, 214, 391}

every_problem = pytest.mark.parametrize("problem", [1, 2, 3])
every_part = pytest.mark.parametrize("part", ["train", "test"])
needs_files = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="no MONK's files: neither $REFIMPL_DATA nor ../shared/data has a folder monks",
)


def code(state: tuple[int, ...]) -> list[int]:
    """One-hot code of a state, attribute by attribute."""
    return [int(a == v) for a, values in zip(state, VALUES, strict=True) for v in values]


def rule(problem: int, state: tuple[int, ...]) -> int:
    """The published rules, in Python's words."""
    a1, a2, _, a4, a5, _ = state
    if problem == 1:
        return int(a1 == a2 or a5 == 1)
    if problem == 2:
        return int(state.count(1) == 2)
    return int((a5 == 3 and a4 == 1) or (a5 != 4 and a2 != 3))


def ids(inputs: np.ndarray) -> list[int]:
    """Number the states of one-hot rows as the files do: from 1, a6 fastest."""
    number = {tuple(code(state)): k for k, state in enumerate(STATES, start=1)}
    return [number[tuple(row)] for row in inputs.astype(int).tolist()]


def part_of(monks, part: str) -> tuple[np.ndarray, np.ndarray]:
    return getattr(monks, f"{part}_inputs"), getattr(monks, f"{part}_labels")


@pytest.mark.parametrize(
    ("problem", "n_train", "n_train_positive", "n_test_positive"),
    [(1, 124, 62, 216), (2, 169, 64, 142), (3, 122, 60, 228)],
)
def test_monks_counts_are_the_published_ones(problem, n_train, n_train_positive, n_test_positive):
    monks = load_monks(problem)
    assert monks.train_inputs.shape == (n_train, 17)
    assert monks.test_inputs.shape == (432, 17)
    assert monks.train_labels.sum() == n_train_positive
    assert monks.test_labels.sum() == n_test_positive


@every_problem
def test_monks_test_part_is_every_state_in_order(problem):
    assert load_monks(problem).test_inputs.tolist() == [code(state) for state in STATES]


@every_problem
def test_monks_test_labels_follow_the_rule(problem):
    labels = [rule(problem, state) for state in STATES]
    assert load_monks(problem).test_labels.tolist() == labels


@pytest.mark.parametrize(("problem", "wrong"), [(1, set()), (2, set()), (3, FLIPPED)])
def test_monks_training_labels_follow_the_rule_but_for_the_flipped_ones(problem, wrong):
    monks = load_monks(problem)
    numbers = ids(monks.train_inputs)
    labels = zip(numbers, monks.train_labels.tolist(), strict=True)
    assert {k for k, label in labels if label != rule(problem, STATES[k - 1])} == wrong


@every_problem
def test_monks_training_states_are_in_order_and_differ(problem):
    numbers = ids(load_monks(problem).train_inputs)
    assert numbers == sorted(set(numbers))


@every_problem
@every_part
def test_monks_dtypes_are_those_of_the_image_sets(problem, part):
    inputs, labels = part_of(load_monks(problem), part)
    assert (inputs.dtype, labels.dtype) == (np.float32, np.int64)


def test_each_call_gives_arrays_of_its_own():
    load_monks(1).test_inputs[:] = 7
    assert load_monks(1).test_inputs.max() == 1


@needs_files
@every_problem
@every_part
def test_monks_equal_the_published_files(problem, part):
    lines = (FOLDER / f"monks-{problem}.{part}").read_text("ascii").split("\n")
    rows = [line.split() for line in lines if line.strip()]
    inputs, labels = part_of(load_monks(problem), part)
    assert labels.tolist() == [int(row[0]) for row in rows]
    assert inputs.tolist() == [code(tuple(map(int, row[1:7]))) for row in rows]
    assert [f"data_{k}" for k in ids(inputs)] == [row[7] for row in rows]


@pytest.mark.parametrize(
    ("problem", "kind", "message"),
    [
        (0, ValueError, r"load_monks: problem must be in \[1, 3\], got 0;"),
        (4, ValueError, r"load_monks: problem must be in \[1, 3\], got 4;"),
        ("1", TypeError, "load_monks: problem must be an integer, got '1';"),
    ],
)
def test_load_monks_refuses_with_a_sentence(problem, kind, message):
    with pytest.raises(kind, match=message):
        load_monks(problem)
