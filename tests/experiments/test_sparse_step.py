"""Nothing wrong is timed, and the record says what was timed."""

from __future__ import annotations

import copy

import numba
import numpy as np
import pytest

from refimpl import nn
from refimpl.deploy import sparsify
from refimpl.experiments import sparse_step
from refimpl.experiments.sparse_step import (
    SETTINGS,
    check_products,
    check_same_weights,
    run_once,
)
from refimpl.measure import compare

STEP = {"measured": "step", "sparsity": 0.9, "widths": (20, 15, 10), "repeats": 2}
GRADIENT = {"measured": "gradient", "batch": 18, "sparsity": 0.9, "size": 30, "repeats": 2}
KERNELS = ("cache_blocks", "four_entries", "sixteen_sums")
NAMES = {
    "step": {
        *("dense", "masked", "sparse"),
        *(
            f"{product}_{kind}"
            for product in ("forward", "dx", "dw")
            for kind in ("dense", "sparse")
        ),
    },
    "gradient": {
        *("dense", "masked", "sddmm", "sddmm_with_copies", "csr_sddmm"),
        *(f"csr_sddmm_{technique}" for technique in KERNELS),
    },
}
both = pytest.mark.parametrize("setting", [STEP, GRADIENT], ids=["step", "gradient"])


@both
def test_record_holds_seconds_and_speedup_of_each_contender(setting):
    result = run_once(setting, seed=0)
    kinds = ("seconds", "speedup")
    assert set(result) == {f"{n}_{kind}" for n in NAMES[setting["measured"]] for kind in kinds}
    assert all(value > 0 for value in result.values())


@both
def test_dense_is_its_own_yardstick(setting):
    result = run_once(setting, seed=0)
    assert all(v == 1 for name, v in result.items() if name.endswith("dense_speedup"))


@both
def test_everything_is_timed_on_one_thread(setting, monkeypatch):
    threads = set()

    def spy(functions, **settings):
        threads.add(numba.get_num_threads())
        return compare(functions, **settings)

    monkeypatch.setattr(sparse_step, "compare", spy)
    run_once(setting, seed=0)
    assert threads == {1}


def never(*_, **__):
    pytest.fail("something wrong was timed")


@pytest.mark.parametrize("name", sorted(NAMES["gradient"] - {"dense"}))
def test_wrong_gradient_is_never_timed(monkeypatch, name):
    gradients = sparse_step._gradients
    monkeypatch.setattr(
        sparse_step,
        "_gradients",
        lambda *factors: gradients(*factors) | {name: lambda: 1.001 * gradients(*factors)[name]()},
    )
    monkeypatch.setattr(sparse_step, "compare", never)
    with pytest.raises(ValueError, match=f": {name} must equal the dense product to rounding"):
        run_once(GRADIENT, seed=0)


def test_wrong_step_is_never_timed(monkeypatch):
    right = sparse_step._networks

    def damaged(*arguments):
        networks = right(*arguments)
        networks["sparse"].layers["fc2"].values.value[3] += 1e-3
        return networks

    monkeypatch.setattr(sparse_step, "_networks", damaged)
    monkeypatch.setattr(sparse_step, "compare", never)
    with pytest.raises(ValueError, match="sparse_step: fc2 must be the masked network's after a"):
        run_once(STEP, seed=0)


def layer_and_products():
    rng = np.random.default_rng(0)
    layer = nn.Linear(12, 5, rng=rng)
    layer.weight.mask = rng.random((5, 12)) < 0.3
    w = sparsify(nn.Network({"fc1": layer})).layers["fc1"].weight
    x, dy = rng.random((7, 12), np.float32), rng.random((7, 5), np.float32)
    return sparse_step._products(w, x, dy), w.to_dense(), x, dy


def test_right_products_pass():
    check_products(*layer_and_products())


@pytest.mark.parametrize("name", ["forward", "dx", "dw"])
def test_wrong_product_is_refused(name):
    products, *factors = layer_and_products()
    result = 1.001 * products[name][f"{name}_sparse"]()
    products[name][f"{name}_sparse"] = lambda: result
    with pytest.raises(ValueError, match=f": {name} must equal the dense product to rounding"):
        check_products(products, *factors)


def test_networks_that_agree_pass():
    rng = np.random.default_rng(0)
    networks = sparse_step._networks((6, 5, 4), 0.5, rng)
    assert networks["dense"].layers["fc1"].weight.mask is None
    check_same_weights(networks["masked"], copy.deepcopy(networks["sparse"]))


def test_settings_cover_every_sparsity():
    steps = [setting for setting in SETTINGS if setting["measured"] == "step"]
    gradients = [setting for setting in SETTINGS if setting["measured"] == "gradient"]
    assert len(steps) == len({setting["sparsity"] for setting in steps}) == 5
    pairs = {(setting["batch"], setting["sparsity"]) for setting in gradients}
    assert len(gradients) == len(pairs) == 15
