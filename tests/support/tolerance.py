"""The one tolerance for products: c * k * eps * (|A| @ |x|), and one rounding of the result.

Sums are kept in float32 at least, so `eps` is float32's where the result is float16.
"""

from __future__ import annotations

import numpy as np

SAFETY = 4  # c: room for the order of summation and for fused multiply-add


def product_bound(a: np.ndarray, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Largest honest rounding error of ``a @ x`` when it is returned as `dtype`."""
    a, x = a.astype(np.float64), x.astype(np.float64)
    summed, returned = np.finfo(np.result_type(dtype, np.float32)), np.finfo(dtype)
    terms = float(summed.eps) * (np.abs(a) @ np.abs(x)) + float(summed.smallest_subnormal)
    rounding = float(returned.eps) * np.abs(a @ x) + float(returned.smallest_subnormal)
    return SAFETY * (a.shape[-1] + 1) * terms + rounding


def assert_product_close(actual: np.ndarray, a: np.ndarray, x: np.ndarray) -> None:
    """Compare `actual` with the dense product, entry by entry, within the bound."""
    exact = a.astype(np.float64) @ x.astype(np.float64)
    assert actual.shape == exact.shape
    error = np.abs(actual.astype(np.float64) - exact)
    bound = product_bound(a, x, actual.dtype)
    worst = float(np.max(error - bound, initial=-np.inf))
    assert worst <= 0, f"off by {worst:.3g} more than rounding allows"
