"""Everybody computes the same, into new memory; a peer that is missing has no column."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from refimpl.experiments import peer_products, peers
from support.tolerance import assert_product_close

needs_torch = pytest.mark.skipif(isinstance(peers.torch(), str), reason=str(peers.torch()))
needs_mkl = pytest.mark.skipif(
    isinstance(peers.sparse_dot_mkl(), str), reason=str(peers.sparse_dot_mkl())
)
MKL = [pytest.param(name, marks=needs_mkl) for name in ("mkl", "mkl_kept")]
TORCH = pytest.param("torch", marks=needs_torch)


def factors(shape=(12, 8), batch=5, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(shape, np.float32) * (rng.random(shape) < 0.4)
    return w, rng.standard_normal((shape[1], batch) if batch else (shape[1],), np.float32)


def stored(layout, w):
    if layout == "bsr":
        return scipy.sparse.bsr_array(w, blocksize=(4, 4))
    return scipy.sparse.csr_array(w)


@pytest.mark.parametrize("batch", [None, 1, 5, 64])
@pytest.mark.parametrize("name", ["dense", pytest.param("torch_dense", marks=needs_torch)])
def test_dense_product_is_right(name, batch):
    w, x = factors(batch=batch)
    y = peer_products.dense_products(w, x)[name]()
    assert_product_close(np.asarray(y), w, x)


@pytest.mark.parametrize("batch", [None, 5, 64])
@pytest.mark.parametrize("layout", ["csr", "bsr"])
@pytest.mark.parametrize("name", ["scipy", *MKL, TORCH])
def test_product_is_right(name, layout, batch):
    w, x = factors(batch=batch)
    y = peer_products.products(stored(layout, w), x)[name]()
    assert_product_close(np.asarray(y), w, x)


@pytest.mark.parametrize("name", ["scipy", MKL[1], TORCH])
def test_transposed_product_is_right(name):
    w, _ = factors()
    x = factors((8, 12))[1]
    y = peer_products.transposed_products(stored("csr", w), x)[name]()
    assert_product_close(np.asarray(y), w.T, x)


@needs_torch
def test_sampled_product_is_right():
    w, _ = factors()
    rng = np.random.default_rng(1)
    dy, x = (rng.standard_normal((5, n), np.float32) for n in w.shape)
    values = peer_products.sampled_products(dy, x, stored("csr", w))["torch"]()
    np.testing.assert_allclose(np.asarray(values), (dy.T @ x)[w != 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["scipy", *MKL, TORCH])
def test_product_goes_to_new_memory(name):
    w, x = factors()
    product = peer_products.products(stored("csr", w), x)[name]
    assert not np.shares_memory(np.asarray(product()), np.asarray(product()))


@needs_torch
def test_torch_matrix_shares_its_arrays():
    a = stored("csr", factors()[0])
    tensor = peer_products.torch_matrix(a)
    assert np.shares_memory(tensor.values().numpy(), a.data)


@pytest.fixture
def alone(monkeypatch):
    """A machine with SciPy only."""
    monkeypatch.setattr(peers, "torch", lambda: "torch is not installed")
    monkeypatch.setattr(peers, "sparse_dot_mkl", lambda: "mkl is not installed")


@pytest.mark.usefixtures("alone")
def test_missing_peers_have_no_product():
    w, x = factors()
    a = stored("csr", w)
    dy = np.ones((5, 12), np.float32)
    found = [
        peer_products.dense_products(w, x),
        peer_products.products(a, x),
        peer_products.transposed_products(a, factors((8, 12))[1]),
        peer_products.sampled_products(dy, x.T, a),
    ]
    assert [list(columns) for columns in found] == [["dense"], ["scipy"], ["scipy"], []]
