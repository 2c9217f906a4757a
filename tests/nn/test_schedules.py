"""Learning rates: the published formulas, and no surprise at either end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import SGD, Parameter, cosine_lr, step_lr

RATES = st.floats(1e-6, 1e3)


@st.composite
def cosines(draw) -> dict:
    """Settings of `cosine_lr`: one step, no warm-up, nothing but warm-up, a flat cosine."""
    n_steps = draw(st.integers(1, 40))
    lr = draw(RATES)
    n_warmup = draw(st.integers(0, n_steps - 1))
    lowest = lr * draw(st.sampled_from([0.0, 0.1, 1.0]))
    return {"lr": lr, "n_steps": n_steps, "n_warmup": n_warmup, "lowest": lowest}


def rates(settings: dict) -> list[float]:
    return [cosine_lr(step, **settings) for step in range(1, settings["n_steps"] + 1)]


# --- cosine ----------------------------------------------------------------------------------


@given(cosines())
def test_cosine_lr_is_equation_five_of_sgdr(settings):
    lr, lowest, warmup = settings["lr"], settings["lowest"], settings["n_warmup"]
    period = settings["n_steps"] - warmup
    expected = [  # T_cur counts the steps behind us
        lowest + 0.5 * (lr - lowest) * (1 + math.cos(math.pi * t_cur / period))
        for t_cur in range(period)
    ]
    assert rates(settings)[warmup:] == pytest.approx(expected, rel=1e-12, abs=1e-15 * lr)


@given(cosines())
def test_cosine_lr_reaches_its_peak_exactly_after_the_warmup(settings):
    assert cosine_lr(settings["n_warmup"] + 1, **settings) == settings["lr"]


@given(cosines())
def test_cosine_lr_warms_up_in_equal_parts(settings):
    climb = [0.0, *rates(settings)[: settings["n_warmup"] + 1]]
    part = settings["lr"] / (settings["n_warmup"] + 1)
    assert np.diff(climb) == pytest.approx(part, rel=1e-11, abs=0)


@given(cosines())
def test_cosine_lr_falls_after_the_warmup_and_not_to_zero(settings):
    fall = rates(settings)[settings["n_warmup"] :]
    slack = 4 * np.finfo(float).eps * settings["lr"]
    assert (np.diff(fall) <= slack).all()
    assert fall[-1] > 0


def test_cosine_lr_of_a_long_run_does_not_end_at_zero():
    assert cosine_lr(10**9, lr=1.0, n_steps=10**9) == pytest.approx(
        (math.pi / 2e9) ** 2, rel=1e-6, abs=0
    )


def test_cosine_lr_counts_beyond_narrow_integers():
    narrow = {"n_steps": np.int16(300), "n_warmup": np.uint8(255)}
    assert cosine_lr(np.uint8(128), lr=1.0, **narrow) == 0.5


@pytest.mark.parametrize(
    ("step", "settings", "error", "message"),
    [
        (0, {}, ValueError, r"step must be in \[1, 10\], got 0; give"),
        (11, {}, ValueError, r"step must be in \[1, 10\], got 11; give"),
        (1.0, {}, TypeError, "step must be an integer, got 1.0; give"),
        (1, {"lr": 0}, ValueError, "lr must be finite and above 0, got 0; give"),
        (1, {"lr": math.nan}, ValueError, "lr must be finite and above 0, got nan; give"),
        (1, {"lr": "0.1"}, TypeError, "lr must be a number, got '0.1'; give"),
        (1, {"n_steps": 0}, ValueError, "n_steps must be at least 1, got 0; give"),
        (1, {"n_warmup": 10}, ValueError, r"n_warmup must be in \[0, 9\], got 10; give"),
        (1, {"n_warmup": None}, TypeError, "n_warmup must be an integer, got None; give"),
        (1, {"lowest": -1e-9}, ValueError, "lowest must be finite and at least 0, got -1e-09; g"),
        (1, {"lowest": 0.2}, ValueError, "lowest must be at most lr = 0.1, got 0.2; swap"),
    ],
)
def test_cosine_lr_rejects_bad_arguments(step, settings, error, message):
    with pytest.raises(error, match=f"cosine_lr: {message}"):
        cosine_lr(step, **({"lr": 0.1, "n_steps": 10} | settings))


# --- steps -----------------------------------------------------------------------------------


@given(RATES, st.sets(st.integers(1, 30)), st.floats(0.1, 2.0))
def test_step_lr_multiplies_once_after_every_milestone(lr, milestones, factor):
    settings = {"lr": lr, "milestones": sorted(milestones), "factor": factor}
    after = [factor if step in milestones else 1 for step in range(1, 31)]
    expected = lr * np.cumprod([1, *after])
    found = [step_lr(step, **settings) for step in range(1, 32)]
    assert found == pytest.approx(expected, rel=1e-13, abs=0)


@pytest.mark.parametrize(
    ("step", "lr"),
    [(1, 0.1), (32_000, 0.1), (32_001, 0.01), (48_000, 0.01), (48_001, 0.001), (64_000, 0.001)],
)
def test_step_lr_drops_where_the_residual_networks_of_cifar_did(step, lr):
    found = step_lr(step, lr=0.1, milestones=(32_000, 48_000), factor=0.1)
    assert found == pytest.approx(lr, rel=1e-15)


def test_step_lr_without_milestones_is_constant():
    assert {step_lr(step, lr=0.3, milestones=[], factor=0.1) for step in (1, 10, 1000)} == {0.3}


def test_step_lr_takes_milestones_from_an_array():
    assert step_lr(3, lr=1.0, milestones=np.array([2, 5]), factor=0.25) == 0.25


@pytest.mark.parametrize(
    ("step", "settings", "error", "message"),
    [
        (0, {}, ValueError, "step must be at least 1, got 0; give"),
        (1, {"lr": -1}, ValueError, "lr must be finite and above 0, got -1; give"),
        (1, {"factor": 0}, ValueError, "factor must be finite and above 0, got 0; give"),
        (1, {"milestones": 5}, TypeError, "milestones must be a sequence, got 5; list"),
        (1, {"milestones": [0]}, ValueError, r"milestones\[0\] must be at least 1, got 0; give"),
        (1, {"milestones": [0.5]}, TypeError, r"milestones\[0\] must be an integer, got 0.5; g"),
        (1, {"milestones": [5, 5]}, ValueError, r"milestones must increase, got \[5, 5\]; list"),
        (1, {"milestones": [6, 5]}, ValueError, r"milestones must increase, got \[6, 5\]; list"),
    ],
)
def test_step_lr_rejects_bad_arguments(step, settings, error, message):
    with pytest.raises(error, match=f"step_lr: {message}"):
        step_lr(step, **({"lr": 0.1, "milestones": [5], "factor": 0.1} | settings))


# --- PyTorch's -------------------------------------------------------------------------------


def rates_of_torch(torch, schedule, n_steps: int, **settings) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler, found = schedule(optimizer, **settings), []
    for _ in range(n_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_cosine_lr_is_that_of_pytorch(torch):
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = rates_of_torch(torch, schedule, 20, T_max=20, eta_min=0.01)
    ours = rates({"lr": 0.1, "n_steps": 20, "n_warmup": 0, "lowest": 0.01})
    assert ours == pytest.approx(expected, rel=1e-12)


def test_step_lr_is_that_of_pytorch(torch):
    schedule = torch.optim.lr_scheduler.MultiStepLR
    expected = rates_of_torch(torch, schedule, 20, milestones=[5, 12], gamma=0.3)
    ours = [step_lr(step, lr=0.1, milestones=[5, 12], factor=0.3) for step in range(1, 21)]
    assert ours == pytest.approx(expected, rel=1e-12)


def test_a_scheduled_rate_can_be_given_to_an_optimizer():
    SGD([Parameter(np.ones(1))], lr=cosine_lr(9, lr=0.1, n_steps=9))


def test_step_lr_takes_the_milestones_of_an_iterator():
    once = (milestone for milestone in (10, 20))
    assert step_lr(1000, lr=1.0, milestones=once, factor=0.1) == pytest.approx(0.01)
