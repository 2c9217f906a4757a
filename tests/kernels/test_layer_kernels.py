"""Every kernel of the dense layers is its definition, in every number, and stays in bounds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from numba import config
from numpy.lib.stride_tricks import as_strided

from refimpl.kernels import layer_kernels, numba_convolution
from refimpl.kernels.layer_kernels import LAYER_KERNELS, LayerKernel, compiled_for
from support.guards import assert_guards_hold, guarded, nonsense
from support.layer_kernels import Case, cases_of

N_CASES = 25 if config.DISABLE_JIT else 100
ENOUGH = 2_000  # cases to fail a wrong kernel, which ends the search
ROWS = {row.clear.rpartition(".")[2]: row for row in LAYER_KERNELS}
SWAPPED = np.dtype(np.float32).newbyteorder()
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def definition(row: LayerKernel) -> Callable:
    module, _, name = row.clear.rpartition(".")
    return getattr(importlib.import_module(module), name)


def check_case(row: LayerKernel, case: Case) -> None:
    """The definition's numbers, whatever lies around the arrays; arguments are left alone."""
    expected = definition(row)(*case.given)
    expected = expected if isinstance(expected, tuple) else (expected,)
    start = case.written or [np.full_like(e, nonsense(e.dtype)) for e in expected]
    outs = [guarded(array) for array in start]
    arguments = [guarded(a)[0] if isinstance(a, np.ndarray) else a for a in case.arguments]
    row.function(*arguments, *(out for out, _ in outs))
    for (out, room), wanted in zip(outs, expected, strict=True):
        np.testing.assert_array_equal(out, wanted, strict=True)
        assert_guards_hold(room)
    for argument, before in zip(arguments, case.arguments, strict=True):
        np.testing.assert_array_equal(argument, before)


def check_kernel(row: LayerKernel, n_cases: int, phases: tuple = tuple(Phase)) -> None:
    @settings(
        max_examples=n_cases,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(cases_of(row))
    def battery(case):
        with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
            patch.setattr(numba_convolution, "MOST_COLUMNS", case.most_columns)
            check_case(row, case)

    battery()


@every_row
def test_kernel_is_its_definition(row):
    check_kernel(row, N_CASES)


def test_a_row_without_cases_fails():
    row = LayerKernel(print, "refimpl.nn.layers.unheard_of")
    with pytest.raises(AssertionError, match="no cases for unheard_of: add a strategy to CASES"):
        check_kernel(row, 1)


# --- what the battery has to notice ------------------------------------------------------------


def past_the_end(array: np.ndarray) -> np.ndarray:
    return as_strided(array, (array.size + 1,), (array.itemsize,))[-1:]


def last_entry_off(*arguments):
    out = arguments[-1]
    if out.size:
        out.flat[-1] += 1


def writes_past_the_end(*arguments):
    past_the_end(arguments[-1])[...] = 0


def reads_past_the_end(*arguments):
    arrays = [a for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    if arrays[-1].size:
        arrays[-1].flat[0] += past_the_end(arrays[0])[0]


def overwrites_an_argument(*arguments):
    arguments[0][...] = 0


@every_row
@pytest.mark.parametrize(
    "error", [last_entry_off, writes_past_the_end, reads_past_the_end, overwrites_an_argument]
)
def test_battery_fails_a_kernel_with(row, error):
    def wrong(*arguments):
        row.function(*arguments)
        error(*arguments)

    with pytest.raises(AssertionError):
        check_kernel(replace(row, function=wrong), ENOUGH, phases=(Phase.generate,))


def takes_the_last_of_ties(images, kernel_shape, stride, largest, chosen):
    turned = np.ascontiguousarray(images[:, :, ::-1, ::-1])
    ROWS["max_pool"].function(turned, kernel_shape, stride, largest, chosen)
    largest[...] = largest[:, :, ::-1, ::-1].copy()
    chosen[...] = kernel_shape[0] * kernel_shape[1] - 1 - chosen[:, :, ::-1, ::-1]


def ignores_nan(images, kernel_shape, stride, largest, chosen):
    finite = np.nan_to_num(images, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    ROWS["max_pool"].function(finite, kernel_shape, stride, largest, chosen)


def forgets_shared_pixels(dy, chosen, kernel_shape, stride, dx):
    dx[...] = 0
    for b, c, p, q in np.ndindex(dy.shape):
        i, j = divmod(int(chosen[b, c, p, q]), kernel_shape[1])
        dx[b, c, p * stride + i, q * stride + j] = dy[b, c, p, q]


def multiplies_by_the_mask(grad, mask, *rest):
    kept = 1 if mask is None else mask.astype(grad.dtype)
    ROWS["sgd_update"].function(grad * kept, None, *rest)
    rest[3][...] *= kept


def leaves_the_mean_of_pruned_weights(grad, mask, *rest):
    before = rest[-2].copy()
    ROWS["adam_update"].function(grad, mask, *rest)
    if mask is not None:
        rest[-2][~mask] = before[~mask]


def forgets_the_padding(images, weight, stride, padding, bias, out):
    crop = slice(padding, -padding or None)
    ROWS["convolve"].function(images, weight, stride, padding, bias, out)
    inner = out[:, :, crop, crop].copy()
    out[...] = 0
    out[:, :, crop, crop] = inner


def skips_an_image(dy, images, stride, padding, out):
    few = slice(0, max(len(images) - 1, 0))
    ROWS["convolution_weight_gradient"].function(dy[few], images[few], stride, padding, out)


def turns_the_kernels(dy, weight, stride, padding, out):
    turned = np.ascontiguousarray(weight[:, :, ::-1, ::-1])
    ROWS["convolution_image_gradient"].function(dy, turned, stride, padding, out)


def takes_the_unbiased_variance(x, mean, var):
    ROWS["channel_statistics"].function(x, mean, var)
    n = x.size // x.shape[1]
    var[...] *= n / (n - 1)


def shifts_before_it_scales(x, mean, scale, gamma, beta, out):
    ROWS["normalize"].function(x, mean, scale, gamma, beta, out)
    out[...] += (scale * beta - beta)[:, None, None]


def sums_over_the_images_only(dy, x, mean, scale, dgamma, dbeta):
    ROWS["normalization_sums"].function(dy, x, mean, scale, dgamma, dbeta)
    dbeta[...] = dy[:, :, 0, 0].sum(axis=0)


def takes_the_mean_for_a_constant(dy, x, mean, scale, gamma, dgamma, dbeta, out):
    rest = scale, gamma, dgamma, np.zeros_like(dbeta), out
    ROWS["normalization_gradient"].function(dy, x, mean, *rest)


WRONG = {
    "channel_statistics": [takes_the_unbiased_variance],
    "normalize": [shifts_before_it_scales],
    "normalization_sums": [sums_over_the_images_only],
    "normalization_gradient": [takes_the_mean_for_a_constant],
    "max_pool": [takes_the_last_of_ties, ignores_nan],
    "max_pool_gradient": [forgets_shared_pixels],
    "sgd_update": [multiplies_by_the_mask],
    "adam_update": [leaves_the_mean_of_pruned_weights],
    "convolve": [forgets_the_padding],
    "convolution_weight_gradient": [skips_an_image],
    "convolution_image_gradient": [turns_the_kernels],
}


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, found in WRONG.items() for wrong in found]
)
def test_battery_fails_a_kernel_that(name, wrong):
    with pytest.raises(AssertionError):
        check_kernel(replace(ROWS[name], function=wrong), ENOUGH, phases=(Phase.generate,))


# --- who takes the kernels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "taken"), [("f2", False), ("=f4", True), ("=f8", True), (SWAPPED, False)]
)
def test_kernels_take_arrays_of_these_dtypes(dtype, taken, monkeypatch):
    monkeypatch.setattr(layer_kernels.config, "DISABLE_JIT", 0)
    assert compiled_for(np.zeros(3, dtype)) is taken


def test_kernels_take_no_foreign_array(monkeypatch):
    monkeypatch.setattr(layer_kernels.config, "DISABLE_JIT", 0)
    assert not compiled_for([1.0])


def test_kernels_that_nobody_compiles_take_nothing(monkeypatch):
    monkeypatch.setattr(layer_kernels.config, "DISABLE_JIT", 1)
    assert not compiled_for(np.zeros(3))
