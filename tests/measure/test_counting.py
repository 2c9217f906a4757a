"""The cost of a product: the worked numbers of a slide, brute force, and the bytes of arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import csr_bytes, dense_bytes
from refimpl.measure import (
    arithmetic_intensity,
    matmul_bytes,
    matmul_flops,
    roofline_bound,
)

SIZES = st.integers(0, 6)
SLIDE_MASK = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]], bool)


def test_matmul_flops_matches_the_slide():
    assert (matmul_flops(3, 3, 3), matmul_flops(3, 3, 3, nnz=5)) == (54, 30)


def test_slide_saves_sixteen_bytes_only_without_indices():
    nnz = int(SLIDE_MASK.sum())
    assert (dense_bytes((3, 3)), 4 * nnz, csr_bytes((3, 3), nnz)) == (36, 20, 56)


def test_slide_sparsity_is_four_ninths():
    assert round(float(1 - SLIDE_MASK.mean()), 3) == 0.444


@given(n_out=SIZES, n_in=SIZES, batch=SIZES)
def test_matmul_flops_counts_the_multiplications_and_additions_of_three_loops(n_out, n_in, batch):
    visited = sum(2 for _ in np.ndindex(n_out, n_in, batch))
    assert matmul_flops(n_out, n_in, batch) == visited


@given(n_out=SIZES, n_in=SIZES, batch=SIZES, data=st.data())
def test_matmul_flops_is_proportional_to_stored_weights(n_out, n_in, batch, data):
    nnz = data.draw(st.integers(0, n_out * n_in))
    assert matmul_flops(n_out, n_in, batch, nnz=nnz) * n_out * n_in == (
        matmul_flops(n_out, n_in, batch) * nnz
    )


def test_matmul_bytes_matches_the_arrays_of_a_product():
    w, x = np.ones((5, 7), np.float32), np.ones((7, 4), np.float32)
    touched = w.nbytes + x.nbytes + (w @ x).nbytes
    assert matmul_bytes(5, 7, 4, weight_bytes=w.nbytes) == touched


def test_matmul_flops_does_not_overflow_with_narrow_integers():
    big = np.int32(2**16)
    assert matmul_flops(big, big, big) == 2 * 2**48


def test_arithmetic_intensity_of_a_square_product_is_a_sixth_of_its_side():
    n = 96
    moved = matmul_bytes(n, n, n, weight_bytes=dense_bytes((n, n)))
    assert arithmetic_intensity(matmul_flops(n, n, n), moved) == n / 6


@pytest.mark.parametrize(
    ("intensity", "bound"), [(0.0, 0.0), (2.0, 20.0), (10.0, 100.0), (11.0, 100.0)]
)
def test_roofline_bound_is_the_lower_of_two_lines(intensity, bound):
    assert roofline_bound(intensity, peak_flops=100.0, bandwidth=10.0) == bound


@pytest.mark.parametrize("count", [-1, 10])
def test_matmul_flops_rejects_impossible_nnz(count):
    with pytest.raises(ValueError, match=r"matmul_flops: nnz must be in \[0, 9\], got"):
        matmul_flops(3, 3, 3, nnz=count)


@pytest.mark.parametrize("argument", ["n_out", "n_in", "batch"])
def test_matmul_flops_rejects_a_negative_size(argument):
    sizes = {"n_out": 3, "n_in": 3, "batch": 3} | {argument: -1}
    with pytest.raises(ValueError, match=f"matmul_flops: {argument} must be at least 0, got -1"):
        matmul_flops(**sizes)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_arithmetic_intensity_rejects_impossible_bytes(value):
    with pytest.raises(ValueError, match="bytes_moved must be finite and above 0, got"):
        arithmetic_intensity(1.0, value)


@pytest.mark.parametrize("value", ["1", None, True])
def test_arithmetic_intensity_rejects_what_is_no_number(value):
    with pytest.raises(TypeError, match="arithmetic_intensity: flops must be a number, got"):
        arithmetic_intensity(value, 1.0)


@pytest.mark.parametrize("argument", ["peak_flops", "bandwidth"])
def test_roofline_bound_rejects_an_impossible_machine(argument):
    machine = {"peak_flops": 1.0, "bandwidth": 1.0} | {argument: 0.0}
    with pytest.raises(ValueError, match=f"{argument} must be finite and above 0, got 0.0"):
        roofline_bound(1.0, **machine)
