"""Argument checks: what passes, what is refused, and in which words."""

from __future__ import annotations

import re
import sys
import types

import numpy as np
import pytest

from refimpl import arrays

TEMPLATE = re.compile(r"^f: .+ must .+, got .+; .+$")


@pytest.fixture
def fake_cupy(monkeypatch):
    """A module named cupy with an array class, so that dispatch is tested without a GPU."""
    module = types.ModuleType("cupy")
    module.ndarray = type("ndarray", (), {"__module__": "cupy"})
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_bad_argument_fills_the_template():
    error = arrays.bad_argument("f", "x", "be even", 3, "add one")
    assert str(error) == "f: x must be even, got 3; add one"


def test_bad_argument_is_a_value_error_by_default():
    assert type(arrays.bad_argument("f", "x", "be even", 3, "add one")) is ValueError


def test_bad_argument_takes_the_kind():
    error = arrays.bad_argument("f", "x", "be even", 3, "add one", kind=TypeError)
    assert type(error) is TypeError


@pytest.mark.parametrize("array", [np.zeros(2), [1.0], 3.0, None])
def test_xp_of_is_numpy_for_all_but_cupy(array):
    assert arrays.xp_of(array) is np


def test_xp_of_finds_cupy_by_the_class(fake_cupy):
    assert arrays.xp_of(fake_cupy.ndarray()) is fake_cupy


def test_xp_of_refuses_a_mix(fake_cupy):
    with pytest.raises(TypeError, match="xp_of: arrays must all live on one device"):
        arrays.xp_of(np.zeros(2), fake_cupy.ndarray())


@pytest.mark.parametrize(
    "accepted",
    [
        {},
        {"ndim": 2},
        {"ndim": (1, 2)},
        {"shape": (2, 3)},
        {"shape": (-1, 3)},
        {"dtypes": arrays.FLOAT_DTYPES},
    ],
)
def test_check_array_passes_what_fits(accepted):
    assert arrays.check_array("f", "x", np.zeros((2, 3), np.float32), **accepted) is None


@pytest.mark.parametrize(
    ("array", "required", "kind", "message"),
    [
        ([1.0], {}, TypeError, "f: x must be an array, got list; convert it with np.asarray"),
        (np.eye(2).view(np.matrix), {}, TypeError, "must be a plain array, got matrix; use"),
        (np.ma.zeros(3), {}, TypeError, "f: x must be a plain array, got MaskedArray; say with"),
        (np.zeros(3), {"ndim": 2}, ValueError, "f: x must have 2 axes, got shape (3,); reshape it"),
        (np.zeros(3), {"ndim": (0, 2)}, ValueError, "f: x must have 0 or 2 axes, got shape (3,);"),
        (np.zeros((2, 3)), {"shape": (3, 2)}, ValueError, "must have shape (3, 2), got (2, 3);"),
        (np.zeros((2, 3)), {"shape": (-1, 2)}, ValueError, "shape (any, 2), got (2, 3);"),
        (np.zeros(3), {"shape": (3, 1)}, ValueError, "must have shape (3, 1), got (3,);"),
        (
            np.zeros(3, int),
            {"dtypes": arrays.FLOAT_DTYPES},
            TypeError,
            "must be float16 or float32 or float64, got int64; convert it with .astype(np.float64)",
        ),
    ],
)
def test_check_array_refuses_what_does_not_fit(array, required, kind, message):
    with pytest.raises(kind, match=re.escape(message)) as caught:
        arrays.check_array("f", "x", array, **required)
    assert TEMPLATE.match(str(caught.value))


def test_check_no_nan_lets_infinities_pass():
    assert arrays.check_no_nan("f", "x", np.array([np.inf, -np.inf])) is None


def test_check_no_nan_counts_what_it_found():
    with pytest.raises(ValueError, match="f: x must hold no NaN, got 2 of 3; look for"):
        arrays.check_no_nan("f", "x", np.array([np.nan, 1.0, np.nan]))


@pytest.mark.parametrize("count", [0, 3, np.int64(2)])
def test_check_count_passes_whole_numbers_within_bounds(count):
    assert arrays.check_count("f", "k", count, 0, 3) is None


@pytest.mark.parametrize("count", [True, 1.0, np.float64(1), "1", None])
def test_check_count_refuses_what_is_no_integer(count):
    with pytest.raises(TypeError, match=r"f: k must be an integer, got .+; give a count"):
        arrays.check_count("f", "k", count, 0, 3)


@pytest.mark.parametrize(
    ("count", "high", "message"),
    [(-1, None, "be at least 0, got -1"), (4, 3, r"be in \[0, 3\], got 4")],
)
def test_check_count_refuses_what_is_out_of_bounds(count, high, message):
    with pytest.raises(ValueError, match=message):
        arrays.check_count("f", "k", count, 0, high)


@pytest.mark.parametrize("fraction", [0, 0.0, 0.5, np.float32(0.25), 0.999999])
def test_check_fraction_passes_fractions(fraction):
    assert arrays.check_fraction("f", "sparsity", fraction) is None


def test_check_fraction_passes_one_where_an_empty_result_means_something():
    assert arrays.check_fraction("f", "sparsity", 1, one_allowed=True) is None


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, 90, float("nan"), float("inf")])
def test_check_fraction_refuses_what_is_out_of_range(fraction):
    with pytest.raises(ValueError, match=r"f: sparsity must be in \[0, 1\), got .+; 90 % is"):
        arrays.check_fraction("f", "sparsity", fraction)


@pytest.mark.parametrize("fraction", ["0.5", None, True, [0.5], np.complex128(0.5)])
def test_check_fraction_refuses_what_is_no_number(fraction):
    with pytest.raises(TypeError, match="f: sparsity must be a number"):
        arrays.check_fraction("f", "sparsity", fraction)


@pytest.mark.parametrize("number", [1, 0.1, np.float32(1e-3), np.int64(2), 5e-324])
def test_check_positive_passes_positive_numbers(number):
    assert arrays.check_positive("f", "lr", number) is None


def test_check_positive_passes_zero_where_zero_means_something():
    assert arrays.check_positive("f", "weight_decay", 0.0, zero_allowed=True) is None


@pytest.mark.parametrize("number", [0, -0.1, float("nan"), float("inf"), -float("inf")])
def test_check_positive_refuses_what_is_out_of_range(number):
    with pytest.raises(ValueError, match=r"f: lr must be finite and above 0, got .+; give a"):
        arrays.check_positive("f", "lr", number)


@pytest.mark.parametrize("number", [-0.1, float("nan"), float("inf")])
def test_check_positive_refuses_negatives_where_zero_is_allowed(number):
    with pytest.raises(ValueError, match="f: lr must be finite and at least 0, got"):
        arrays.check_positive("f", "lr", number, zero_allowed=True)


@pytest.mark.parametrize("number", ["0.5", None, True, [0.5], 1j, np.complex128(1)])
def test_check_positive_refuses_what_is_no_real_number(number):
    with pytest.raises(TypeError, match="f: lr must be a number"):
        arrays.check_positive("f", "lr", number)


def test_check_rng_passes_a_generator():
    assert arrays.check_rng("f", np.random.default_rng(0)) is None


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)])
def test_check_rng_refuses_seeds_and_legacy_states(rng):
    with pytest.raises(TypeError, match=r"f: rng must be a numpy.random.Generator, got \w+; pass"):
        arrays.check_rng("f", rng)


def test_frozen_copy_equals_its_source_bit_for_bit():
    source = np.array([[-0.0, np.nan], [np.inf, 5e-324]])[:, ::-1]
    assert arrays.frozen_copy(source).tobytes() == source.tobytes()


def test_frozen_copy_shares_no_memory():
    source = np.zeros(3)
    assert not np.shares_memory(arrays.frozen_copy(source), source)


def test_frozen_copy_cannot_be_made_writeable_again():
    with pytest.raises(ValueError, match="WRITEABLE"):
        arrays.frozen_copy(np.zeros(3)).flags.writeable = True


def test_frozen_copy_cannot_be_written_through_its_base():
    assert isinstance(arrays.frozen_copy(np.zeros(3)).base, bytes)
