"""The one tolerance for products: c * k * eps * (|A| @ |x|)."""

from __future__ import annotations

import numpy as np

SAFETY = 4  # c: room for the order of summation and for fused multiply-add


def product_bound(a: np.ndarray, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Largest honest rounding error of ``a @ x`` when it is returned as `dtype`."""
    finfo = np.finfo(dtype)
    k = a.shape[-1] + 1
    magnitude = np.abs(a.astype(np.float64)) @ np.abs(x.astype(np.float64))
    return SAFETY * k * (float(finfo.eps) * magnitude + float(finfo.smallest_subnormal))


def assert_product_close(actual: np.ndarray, a: np.ndarray, x: np.ndarray) -> None:
    """Compare `actual` with the dense product, entry by entry, within the bound."""
    exact = a.astype(np.float64) @ x.astype(np.float64)
    assert actual.shape == exact.shape
    error = np.abs(actual.astype(np.float64) - exact)
    bound = product_bound(a, x, actual.dtype)
    worst = float(np.max(error - bound, initial=-np.inf))
    assert worst <= 0, f"off by {worst:.3g} more than rounding allows"
