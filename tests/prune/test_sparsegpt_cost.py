"""How much memory SparseGPT takes, what it leaves alone, and what it refuses in a sentence."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from refimpl.prune import sparsegpt, sparsegpt_flops
from support.corruption import ONE_SENTENCE


def layer(n_out=8, n_in=16, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4 * n_in, n_in))
    return rng.normal(size=(n_out, n_in)).astype(dtype), (x.T @ x / len(x)).astype(dtype)


def test_sparsegpt_needs_less_than_three_more_matrices():
    w, hessian = layer(1024, 1024, np.float32)
    sparsegpt(w[:, :128], hessian[:128, :128], sparsity=0.5)  # compiles
    tracemalloc.start()
    sparsegpt(w, hessian, sparsity=0.5, block_size=32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 2 * w.nbytes < peak < 3 * w.nbytes


@pytest.mark.parametrize("pattern", [{"sparsity": 0.5}, {"n": 2, "m": 4}])
@pytest.mark.parametrize("dtypes", [(np.float32, np.float32), (np.float32, np.float64)])
def test_result_has_the_dtype_of_the_weight(dtypes, pattern):
    w, hessian = layer()
    exact = sparsegpt(w, hessian, **pattern)
    found = sparsegpt(w.astype(dtypes[0]), hessian.astype(dtypes[1]), **pattern)
    assert found.dtype == dtypes[0]
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


def test_arguments_are_left_alone():
    w, hessian = layer()
    hessian[2] = hessian[:, 2] = 0
    for array in (w, hessian):
        array.flags.writeable = False
    new_w = sparsegpt(w, hessian, sparsity=0.0)
    assert not np.shares_memory(new_w, w)
    assert new_w.flags.writeable


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_layout_of_the_weight_does_not_matter(order):
    w, hessian = layer()
    view = np.repeat(w, 2, axis=0)[::2] if order == "strided" else np.array(w, order=order)
    expected = sparsegpt(w, hessian, sparsity=0.5)
    np.testing.assert_array_equal(sparsegpt(view, hessian, sparsity=0.5), expected)


@pytest.mark.parametrize("pattern", [{"sparsity": 0.5}, {"n": 2, "m": 4}])
def test_byte_order_of_the_weight_does_not_matter(pattern):
    w, hessian = layer()
    swapped = sparsegpt(w.astype(w.dtype.newbyteorder()), hessian, **pattern)
    np.testing.assert_array_equal(swapped, sparsegpt(w, hessian, **pattern))


@pytest.mark.parametrize("pattern", [{"sparsity": 0.5}, {"n": 2, "m": 4}])
def test_layer_without_outputs_stays_one(pattern):
    w, hessian = layer(n_out=0)
    assert sparsegpt(w, hessian, **pattern).shape == (0, 16)


REFUSED = [
    ({}, "the pattern must be a sparsity or an n and an m, got sparsity=None, n=None, m=None"),
    ({"sparsity": 0.5, "n": 2, "m": 4}, "the pattern must be a sparsity or an n and an m"),
    ({"n": 2}, "the pattern must be a sparsity or an n and an m"),
    ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\), got 1.0"),
    ({"n": 5, "m": 4}, r"n must be in \[1, 4\], got 5"),
    ({"n": 0, "m": 4}, r"n must be in \[1, 4\], got 0"),
    ({"n": 2, "m": 5}, "the number of inputs must be a multiple of 5, got 16"),
    ({"sparsity": 0.5, "block_size": 0}, "block_size must be at least 1, got 0"),
    ({"sparsity": 0.5, "damping": -1.0}, "damping must be finite and at least 0, got -1.0"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_bad_options_are_refused_in_a_sentence(options, message):
    with pytest.raises(ValueError, match=message) as refused:
        sparsegpt(*layer(), **options)
    refused.match(ONE_SENTENCE)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda w, h: (w[:, 1:], h), ValueError, r"w must have shape \(any, 16\), got \(8, 15\)"),
        (lambda w, h: (w.astype(np.float16), h), TypeError, "w must be float32 or float64"),
        (lambda w, h: (np.where(w > 1, np.inf, w), h), ValueError, "w must be finite"),
        (lambda w, h: (w, h[:8]), ValueError, "hessian must be square"),
        (lambda w, h: (w, h * np.nan), ValueError, "hessian must be finite"),
        (lambda w, h: (w, np.triu(h)), ValueError, "hessian must be symmetric"),
    ],
    ids=["width", "float16", "infinite", "not square", "NaN", "not symmetric"],
)
def test_bad_arrays_are_refused_in_a_sentence(change, kind, message):
    with pytest.raises(kind, match=message) as refused:
        sparsegpt(*change(*layer()), sparsity=0.5)
    refused.match(ONE_SENTENCE)


@pytest.mark.parametrize("sizes", [(-1, 4), (4, -1)])
def test_flops_of_a_negative_size_are_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        sparsegpt_flops(*sizes)
