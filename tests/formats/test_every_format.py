"""What every format promises; a new format joins with one row of support.formats.FORMATS."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from support.corruption import ONE_SENTENCE
from support.formats import DENSE, arrays_of, corrupted, every_dtype, every_format, fields_of
from support.strategies import UINT_OF, operands
from support.tolerance import assert_product_close

# Round trips


@every_format
@given(data=st.data())
def test_roundtrip_keeps_every_bit_but_the_sign_of_zero(fmt, data):
    dense = data.draw(fmt.bits())
    unsigned = UINT_OF[dense.dtype.type]
    expected = np.ascontiguousarray(dense).view(unsigned)
    expected[dense == 0] = 0
    back = fmt.from_dense(dense).to_dense()
    assert back.dtype == dense.dtype
    np.testing.assert_array_equal(back.view(unsigned), expected)


@every_format
@given(data=st.data())
def test_from_dense_describes_one_matrix(fmt, data):
    matrix = fmt.from_dense(data.draw(fmt.matrices()))
    assert fmt.judge(**fields_of(matrix))


@every_format
@given(data=st.data())
def test_from_dense_leaves_its_argument_alone(fmt, data):
    dense = data.draw(fmt.matrices())
    before = dense.copy()
    fmt.from_dense(dense)
    assert dense.tobytes() == before.tobytes()


@every_format
def test_to_dense_returns_a_new_writeable_array(fmt):
    matrix = fmt.from_dense(DENSE)
    matrix.to_dense()[...] = 7
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)


@every_format
@every_dtype
def test_from_dense_accepts_the_other_byte_order(fmt, dtype):
    swapped = DENSE.astype(dtype).astype(np.dtype(dtype).newbyteorder())
    matrix = fmt.from_dense(swapped)
    assert matrix.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)


@every_format
@pytest.mark.parametrize(
    ("dense", "error", "match"),
    [
        (DENSE.astype(int), TypeError, "dense must be float16 or float32 or float64, got int64"),
        (DENSE > 0, TypeError, "dense must be float16 .* got bool"),
        (DENSE.astype(complex), TypeError, "dense must be float16 .* got complex128"),
        (DENSE.tolist(), TypeError, "dense must be an array, got list"),
        (DENSE[0], ValueError, r"dense must have 2 axes, got shape \(4,\)"),
        (DENSE[None], ValueError, r"dense must have 2 axes, got shape \(1, 4, 4\)"),
    ],
    ids=["int", "bool", "complex", "list", "vector", "three axes"],
)
def test_from_dense_refuses(fmt, dense, error, match):
    with pytest.raises(error, match=f"^{fmt.kind.__name__}.from_dense: {match}"):
        fmt.from_dense(dense)


# Products


@every_format
@given(data=st.data())
def test_matmul_matches_dense_algebra(fmt, data):
    dense = data.draw(fmt.matrices())
    x = data.draw(operands(dense))
    assert_product_close(fmt.from_dense(dense) @ x, dense, x)


@every_format
@every_dtype
@pytest.mark.parametrize("x_dtype", UINT_OF, ids=lambda dtype: dtype.__name__)
def test_matmul_returns_the_common_dtype(fmt, dtype, x_dtype):
    x = np.ones((4, 2), x_dtype)
    assert (fmt.from_dense(DENSE.astype(dtype)) @ x).dtype == np.result_type(dtype, x_dtype)


@every_format
@pytest.mark.parametrize("rest", [(), (1,)], ids=["vector", "batch"])
def test_half_precision_sums_are_kept_in_single_precision(fmt, rest):
    ones = fmt.from_dense(np.tile(np.array([1, 1, 0, 0], np.float16), (2, 2048)))
    assert (ones @ np.ones((8192, *rest), np.float16) == 4096).all()


@every_format
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_matmul_skips_what_meets_no_stored_entry(fmt, value):
    two_blocks = np.kron(np.eye(2), np.ones((2, 2)))
    y = fmt.from_dense(two_blocks) @ np.array([1, 1, 1, value])
    np.testing.assert_array_equal(y, [2, 2, value, value])


@every_format
def test_matmul_overflows_to_infinity_without_a_warning(fmt):
    huge = fmt.from_dense(np.tile(np.array([6e4, 6e4, 0, 0], np.float16), (2, 1)))
    assert np.isposinf(huge @ np.ones(4, np.float16)).all()


@every_format
def test_matmul_leaves_its_argument_alone(fmt):
    x = np.arange(8.0, dtype=np.float32).reshape(4, 2)
    fmt.from_dense(DENSE).matmul(x)
    np.testing.assert_array_equal(x, np.arange(8.0).reshape(4, 2))


@every_format
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (np.ones(3), ValueError, r"x must have 4 rows, .* got shape \(3,\)"),
        (np.ones((2, 4)), ValueError, r"x must have 4 rows, .* got shape \(2, 4\)"),
        (np.ones((4, 2, 1)), ValueError, r"x must have 1 or 2 axes, got shape \(4, 2, 1\)"),
        (np.ones(()), ValueError, r"x must have 1 or 2 axes, got shape \(\)"),
        (np.ones(4, int), TypeError, "x must be float16 or float32 or float64, got int64"),
        (np.ones(4, complex), TypeError, "x must be float16 .* got complex128"),
        ([1.0, 2, 3, 4], TypeError, "x must be an array, got list"),
        (2.0, TypeError, "x must be an array, got float"),
    ],
)
def test_matmul_refuses(fmt, x, error, match):
    with pytest.raises(error, match=f"^{fmt.kind.__name__}.matmul: {match}"):
        fmt.from_dense(DENSE) @ x


@every_format
def test_dense_times_sparse_is_a_type_error(fmt):
    with pytest.raises(TypeError, match="unsupported operand"):
        DENSE @ fmt.from_dense(DENSE)


# What construction guarantees


def fuzz(fmt, max_examples, phases=tuple(Phase)):
    """Build matrices from corrupt fields: a product where the judge agrees, else one sentence."""

    @settings(max_examples=max_examples, phases=phases, report_multiple_bugs=False)
    @given(corrupted(fmt))
    def battery(fields):
        if fmt.judge(**fields):
            matrix = fmt.kind(**fields)
            x = np.arange(1.0, fields["shape"][1] + 1, dtype=np.float32)
            np.testing.assert_array_equal(matrix @ x, matrix.to_dense() @ x)
        else:
            with pytest.raises((TypeError, ValueError), match=ONE_SENTENCE):
                fmt.kind(**fields)

    battery()


@every_format
@pytest.mark.parametrize("n_cases", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_corrupt_fields_are_refused_in_one_sentence(fmt, n_cases):
    fuzz(fmt, n_cases)


@every_format
def test_fuzz_finds_a_format_that_checks_no_structure(fmt, monkeypatch):
    monkeypatch.setattr(fmt.kind, "_check_structure", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        fuzz(fmt, 500, phases=[Phase.generate])


@every_format
def test_construction_copies_its_arrays(fmt):
    arrays = {k: v.copy() for k, v in arrays_of(fmt.from_dense(DENSE)).items()}
    matrix = fmt.kind(**fields_of(fmt.from_dense(DENSE)) | arrays)
    for array in arrays.values():
        array[...] = 1
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)


@every_format
def test_arrays_cannot_be_written(fmt):
    flags = {name: a.flags.writeable for name, a in arrays_of(fmt.from_dense(DENSE)).items()}
    assert not any(flags.values()), flags


@every_format
@pytest.mark.parametrize("position", [0, -1])
def test_arrays_cannot_be_made_writeable(fmt, position):
    array = list(arrays_of(fmt.from_dense(DENSE)).values())[position]
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


@every_format
def test_arrays_cannot_be_reached_through_their_base(fmt):
    bases = {type(a.base) for a in arrays_of(fmt.from_dense(DENSE)).values()}
    assert bases == {bytes}


@every_format
@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")  # newer NumPy warns first
@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize(
    ("what", "other"),
    [("dtype", lambda array: f"V{array.itemsize}"), ("shape", lambda _: (-1, 1))],
    ids=["dtype", "shape"],
)
def test_arrays_cannot_be_reinterpreted_in_place(fmt, position, what, other):
    matrix = fmt.from_dense(DENSE)
    array = getattr(matrix, matrix.arrays[position].name)
    setattr(array, what, other(array))
    matrix.check()
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)


@every_format
def test_unknown_attributes_are_named(fmt):
    match = f"'{fmt.kind.__name__}' object has no attribute 'toarray'"
    with pytest.raises(AttributeError, match=match):
        fmt.from_dense(DENSE).toarray()


@every_format
def test_arrays_are_offered_for_completion(fmt):
    matrix = fmt.from_dense(DENSE)
    assert set(arrays_of(matrix)) <= set(dir(matrix))


@every_format
@pytest.mark.parametrize("name", ["shape", "nnz", "dtype"])
def test_fields_cannot_be_replaced(fmt, name):
    with pytest.raises(AttributeError, match=name):
        setattr(fmt.from_dense(DENSE), name, None)


COPIES = {
    "pickle": lambda matrix: pickle.loads(pickle.dumps(matrix)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "replace": dataclasses.replace,
}


@every_format
@pytest.mark.parametrize("way", COPIES)
def test_copies_are_equal_and_frozen(fmt, way):
    matrix = COPIES[way](fmt.from_dense(DENSE))
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)
    assert {type(a.base) for a in arrays_of(matrix).values()} == {bytes}


@every_format
@pytest.mark.parametrize("way", COPIES)
def test_copies_are_validated_again(fmt, way):
    matrix = fmt.from_dense(DENSE)
    object.__setattr__(matrix, "shape", (1, 1))  # behind Python's back
    with pytest.raises(ValueError, match=ONE_SENTENCE):
        COPIES[way](matrix)


@every_format
def test_check_sees_what_was_changed_behind_its_back(fmt):
    matrix = fmt.from_dense(DENSE)
    matrix.check()
    name = matrix.counted
    object.__setattr__(matrix, name, getattr(matrix, name)[:-1])
    with pytest.raises(ValueError, match=ONE_SENTENCE):
        matrix.check()


@every_format
def test_shape_becomes_python_integers(fmt):
    fields = fields_of(fmt.from_dense(DENSE)) | {"shape": (np.int64(4), np.int32(4))}
    matrix = fmt.kind(**fields)
    assert [type(n) for n in matrix.shape] == [int, int]


# What a matrix says of itself


@every_format
@given(data=st.data())
def test_nbytes_counts_every_stored_byte(fmt, data):
    matrix = fmt.from_dense(data.draw(fmt.matrices()))
    assert matrix.nbytes == sum(len(array.tobytes()) for array in arrays_of(matrix).values())


@every_format
def test_density_is_the_stored_fraction(fmt):
    matrix = fmt.from_dense(DENSE)
    assert matrix.density == matrix.nnz / 16


@every_format
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_density_of_no_entries_is_zero(fmt, shape):
    assert fmt.from_dense(np.zeros(shape)).density == 0.0


@every_format
def test_repr_is_one_line_of_facts(fmt):
    matrix = fmt.from_dense(DENSE)
    facts = f"(shape=(4, 4), nnz={matrix.nnz}, dtype=float32, nbytes={matrix.nbytes})"
    assert re.fullmatch(rf"{fmt.kind.__name__}{re.escape(facts)}", repr(matrix))


@every_format
def test_index_arrays_are_int32_where_that_is_enough(fmt):
    arrays = arrays_of(fmt.from_dense(DENSE))
    assert {a.dtype for a in arrays.values() if a.dtype.kind == "i"} <= {np.dtype(np.int32)}
