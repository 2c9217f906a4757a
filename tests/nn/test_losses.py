"""Each loss is the number that its formula says, and its gradient belongs to it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from refimpl.nn import mean_squared_error, smoothed_cross_entropy, softmax_cross_entropy
from support.differences import assert_gradient_close, central_differences
from support.strategies import layouts

DTYPES = (np.float32, np.float64)


@st.composite
def classifications(draw, *, dtypes=DTYPES, spread=10.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels: batches of 1, a single class, both index dtypes, any layout."""
    batch, n_classes = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(dtypes))
    logits = (spread * rng.standard_normal((batch, n_classes))).astype(dtype)
    labels = rng.integers(0, n_classes, batch, dtype=draw(st.sampled_from([np.int32, np.int64])))
    return draw(layouts(logits)), labels


def cross_entropy_by_scipy(logits: np.ndarray, labels: np.ndarray) -> float:
    z = logits.astype(np.float64)
    return float(np.mean(logsumexp(z, axis=1) - z[np.arange(len(z)), labels]))


# --- softmax cross-entropy -------------------------------------------------------------------


@given(classifications())
def test_cross_entropy_matches_scipy(case):
    logits, labels = case
    loss, _ = softmax_cross_entropy(logits, labels)
    # At most 10 roundings: numbers up to the largest difference of logits, and logs up to 2.
    bound = 10 * float(np.finfo(logits.dtype).eps) * (2 + np.ptp(logits.astype(np.float64)))
    assert abs(loss - cross_entropy_by_scipy(logits, labels)) <= bound


@given(classifications(dtypes=(np.float64,), spread=2.0))
def test_cross_entropy_gradient_matches_central_differences(case):
    logits, labels = case
    _, dlogits = softmax_cross_entropy(logits, labels)
    f = lambda: softmax_cross_entropy(logits, labels)[0]  # noqa: E731 - a formula, not a function
    assert_gradient_close(dlogits, central_differences(f, logits))


@given(classifications())
def test_cross_entropy_gradient_rows_sum_to_zero(case):
    logits, labels = case
    _, dlogits = softmax_cross_entropy(logits, labels)
    assert np.abs(dlogits.sum(axis=1)).max() < 100 * np.finfo(logits.dtype).eps


@given(classifications())
def test_cross_entropy_gradient_is_negative_at_the_right_class_only(case):
    logits, labels = case
    _, dlogits = softmax_cross_entropy(logits, labels)
    right = np.arange(logits.shape[1]) == labels[:, np.newaxis]
    assert (dlogits[right] <= 0).all()
    assert (dlogits[~right] >= 0).all()


@given(classifications())
def test_cross_entropy_keeps_the_dtype(case):
    logits, labels = case
    loss, dlogits = softmax_cross_entropy(logits, labels)
    assert (type(loss), dlogits.dtype, dlogits.shape) == (float, logits.dtype, logits.shape)


@given(classifications())
def test_cross_entropy_leaves_its_arguments_as_they_were(case):
    logits, labels = case
    before = logits.tobytes(), labels.tobytes()
    softmax_cross_entropy(logits, labels)
    assert (logits.tobytes(), labels.tobytes()) == before


@pytest.mark.parametrize("n_classes", [1, 2, 10, 1000])
def test_cross_entropy_of_equal_logits_is_the_log_of_the_classes(n_classes):
    loss, _ = softmax_cross_entropy(np.full((3, n_classes), 5.0), np.zeros(3, int))
    assert loss == pytest.approx(math.log(n_classes), rel=1e-14)


def test_cross_entropy_matches_the_numbers_by_hand():
    # softmax of (log 1, log 2, log 5) is (1, 2, 5) / 8.
    loss, dlogits = softmax_cross_entropy(np.log([[1.0, 2.0, 5.0]]), np.array([1]))
    assert loss == pytest.approx(math.log(4), rel=1e-14)
    np.testing.assert_allclose(dlogits, [[1 / 8, -6 / 8, 5 / 8]], rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("label", "loss"), [(0, 0.0), (1, 20_000.0)])
def test_cross_entropy_of_huge_logits_is_exact(dtype, label, loss):
    found, dlogits = softmax_cross_entropy(np.array([[1e4, -1e4]], dtype), np.array([label]))
    assert found == loss
    assert math.copysign(1, found) == 1
    np.testing.assert_array_equal(dlogits, [[[0, 0], [1, -1]][label]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_rows_far_apart_is_exact(dtype):
    logits = np.array([[1e4, 1e4], [-1e4, -1e4]], dtype)
    loss, dlogits = softmax_cross_entropy(logits, np.array([0, 1]))
    assert loss == float(np.log(dtype(2)))
    np.testing.assert_array_equal(dlogits, [[-0.25, 0.25], [0.25, -0.25]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_does_not_change_when_all_logits_shift(dtype):
    # Small integers and a power of two, so that the shifted logits are exact.
    logits, labels = np.array([[1, -3, 2], [0, 4, -1]], dtype), np.array([0, 2])
    here, shifted = (softmax_cross_entropy(logits + by, labels) for by in (dtype(0), dtype(4096)))
    assert here[0] == shifted[0]
    np.testing.assert_array_equal(here[1], shifted[1])


def test_cross_entropy_is_a_mean_over_the_batch():
    logits, labels = np.array([[1.0, -3.0, 2.0], [0.0, 4.0, -1.0]]), np.array([0, 2])
    once, d_once = softmax_cross_entropy(logits, labels)
    twice, d_twice = softmax_cross_entropy(np.tile(logits, (2, 1)), np.tile(labels, 2))
    assert twice == pytest.approx(once, rel=1e-15)
    np.testing.assert_array_equal(d_twice, np.tile(d_once / 2, (2, 1)))


def test_cross_entropy_of_nan_is_nan():
    loss, _ = softmax_cross_entropy(np.array([[np.nan, 1.0]]), np.array([0]))
    assert math.isnan(loss)


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (np.ones((4, 3)), [0, 1, 2, 0], TypeError, "labels must be an array, got list"),
        (np.ones((4, 3)), np.ones(4), TypeError, "labels must be int32 or int64, got float64"),
        (np.ones((4, 3)), np.ones(4, np.uint8), TypeError, "labels must be .*, got uint8; conv"),
        (np.ones((4, 3)), np.ones(3, int), ValueError, r"labels must have shape \(4,\), got \(3,"),
        (np.ones((4, 3)), np.eye(4, 3, dtype=int), ValueError, r"labels must have shape \(4,\), "),
        (np.ones((4, 3)), np.array([0, 3, -1, 2]), ValueError, r"in \[0, 3\), got 2 of 4 outside"),
        (np.ones((4, 0)), np.zeros(4, int), ValueError, r"in \[0, 0\), got 4 of 4 outside"),
        (np.ones((0, 3)), np.zeros(0, int), ValueError, r"logits must hold an example, got \(0, 3"),
        (np.ones(3), np.zeros(3, int), ValueError, r"logits must have 2 axes, got shape \(3,\)"),
        (np.ones((1, 3), int), np.zeros(1, int), TypeError, "logits must be .*, got int64; conv"),
        ([[1.0]], np.zeros(1, int), TypeError, "logits must be an array, got list"),
    ],
)
def test_cross_entropy_rejects_bad_arguments(logits, labels, error, message):
    with pytest.raises(error, match=f"softmax_cross_entropy: .*{message}"):
        softmax_cross_entropy(logits, labels)


# --- label smoothing -------------------------------------------------------------------------

SMOOTHINGS = st.sampled_from([0.0, 1e-9, 0.1, 0.5, 0.99])


def smoothed_labels(labels: np.ndarray, n_classes: int, smoothing: float) -> np.ndarray:
    return (1 - smoothing) * np.eye(n_classes)[labels] + smoothing / n_classes


@given(classifications(), SMOOTHINGS)
def test_smoothed_cross_entropy_is_that_with_smoothed_labels(case, smoothing):
    logits, labels = case
    loss, _ = smoothed_cross_entropy(logits, labels, smoothing=smoothing)
    z = logits.astype(np.float64)
    log_p = z - logsumexp(z, axis=1, keepdims=True)
    expected = -(smoothed_labels(labels, logits.shape[1], smoothing) * log_p).sum(axis=1).mean()
    # The bound of softmax_cross_entropy, twice: the lead has as many roundings as the loss.
    assert abs(loss - expected) <= 20 * float(np.finfo(logits.dtype).eps) * (2 + np.ptp(z))


@given(classifications(dtypes=(np.float64,), spread=2.0), SMOOTHINGS)
def test_smoothed_cross_entropy_gradient_matches_central_differences(case, smoothing):
    logits, labels = case
    loss = partial(smoothed_cross_entropy, smoothing=smoothing)
    _, dlogits = loss(logits, labels)
    f = lambda: loss(logits, labels)[0]  # noqa: E731 - a formula, not a function
    assert_gradient_close(dlogits, central_differences(f, logits))


@given(classifications(), SMOOTHINGS)
def test_smoothed_cross_entropy_gradient_is_probability_minus_label(case, smoothing):
    logits, labels = case
    _, dlogits = smoothed_cross_entropy(logits, labels, smoothing=smoothing)
    z = logits.astype(np.float64)
    p = np.exp(z - logsumexp(z, axis=1, keepdims=True))
    expected = (p - smoothed_labels(labels, logits.shape[1], smoothing)) / len(labels)
    bound = 10 * float(np.finfo(logits.dtype).eps) * (2 + np.ptp(z))
    np.testing.assert_allclose(dlogits, expected, rtol=0, atol=bound)


@given(classifications())
def test_smoothed_cross_entropy_without_smoothing_is_softmax_cross_entropy(case):
    (loss, dlogits), plain = (
        smoothed_cross_entropy(*case, smoothing=0.0),
        softmax_cross_entropy(*case),
    )
    assert loss == plain[0]
    np.testing.assert_array_equal(dlogits, plain[1])


@given(classifications(), st.sampled_from([0.1, np.float64(0.1), 0]))
def test_smoothed_cross_entropy_keeps_the_dtype(case, smoothing):
    logits, labels = case
    loss, dlogits = smoothed_cross_entropy(logits, labels, smoothing=smoothing)
    assert (type(loss), dlogits.dtype, dlogits.shape) == (float, logits.dtype, logits.shape)


@given(classifications())
def test_smoothed_cross_entropy_leaves_its_arguments_as_they_were(case):
    before = case[0].tobytes(), case[1].tobytes()
    smoothed_cross_entropy(*case, smoothing=0.1)
    assert (case[0].tobytes(), case[1].tobytes()) == before


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothed_cross_entropy_is_least_at_the_smoothed_label(smoothing):
    labels = np.array([2])
    q = smoothed_labels(labels, 5, smoothing)
    loss, dlogits = smoothed_cross_entropy(np.log(q), labels, smoothing=smoothing)
    assert loss == pytest.approx(-(q * np.log(q)).sum(), rel=1e-14)  # the entropy of q
    np.testing.assert_allclose(dlogits, 0, atol=1e-15)


def test_smoothed_cross_entropy_matches_the_numbers_by_hand():
    # As without smoothing, p = (1, 2, 5) / 8; q = (1, 7, 1) / 9 at smoothing 1/3.
    logits, labels = np.log([[1.0, 2.0, 5.0]]), np.array([1])
    loss, dlogits = smoothed_cross_entropy(logits, labels, smoothing=1 / 3)
    assert loss == pytest.approx(math.log(8) - (7 * math.log(2) + math.log(5)) / 9, rel=1e-14)
    np.testing.assert_allclose(dlogits, [[1 / 72, -38 / 72, 37 / 72]], rtol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothed_cross_entropy_is_that_of_pytorch(smoothing):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    z, labels = 5 * rng.normal(size=(20, 7)), rng.integers(0, 7, 20)
    logits = torch.tensor(z, requires_grad=True)
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, torch.tensor(labels))
    theirs.backward()
    loss, dlogits = smoothed_cross_entropy(z, labels, smoothing=smoothing)
    assert loss == pytest.approx(theirs.item(), rel=1e-13)
    np.testing.assert_allclose(dlogits, logits.grad.numpy(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_smoothed_cross_entropy_of_a_logit_that_is_not_finite_is_not_finite(wild, place):
    logits = np.zeros((2, 3))
    logits[0, place] = wild
    loss, _ = smoothed_cross_entropy(logits, np.array([0, 2]), smoothing=0.1)
    assert not math.isfinite(loss)


@pytest.mark.parametrize(
    ("logits", "smoothing", "error", "message"),
    [
        (np.ones((2, 3)), 1.0, ValueError, r"smoothing must be in \[0, 1\), got 1.0; 90 %"),
        (np.ones((2, 3)), -0.1, ValueError, r"smoothing must be in \[0, 1\), got -0.1; 90 %"),
        (np.ones((2, 3)), "0.1", TypeError, "smoothing must be a number, got '0.1'; give"),
        (np.ones((3, 3)), 0.1, ValueError, r"labels must have shape \(3,\), got \(2,\); check"),
    ],
)
def test_smoothed_cross_entropy_rejects_bad_arguments(logits, smoothing, error, message):
    with pytest.raises(error, match=f"smoothed_cross_entropy: {message}"):
        smoothed_cross_entropy(logits, np.array([0, 1]), smoothing=smoothing)


# --- mean squared error ----------------------------------------------------------------------


@st.composite
def regressions(draw, *, dtypes=DTYPES) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(dtypes))
    prediction, target = rng.standard_normal((2, *shape)).astype(dtype)
    return draw(layouts(prediction)), draw(layouts(target))


@given(regressions())
def test_squared_error_is_the_mean_over_all_entries(case):
    prediction, target = case
    loss, _ = mean_squared_error(prediction, target)
    pairs = zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True)
    expected = math.fsum((p - t) ** 2 for p, t in pairs) / prediction.size
    # Relative error of a sum of at most 64 squares of rounded differences.
    assert abs(loss - expected) <= 70 * float(np.finfo(prediction.dtype).eps) * expected


@given(regressions(dtypes=(np.float64,)))
def test_squared_error_gradient_matches_central_differences(case):
    prediction, target = case
    _, gradient = mean_squared_error(prediction, target)
    f = lambda: mean_squared_error(prediction, target)[0]  # noqa: E731 - a formula, not a function
    assert_gradient_close(gradient, central_differences(f, prediction))


@given(regressions())
def test_squared_error_keeps_the_dtype(case):
    prediction, target = case
    loss, gradient = mean_squared_error(prediction, target)
    described = type(loss), gradient.dtype, gradient.shape
    assert described == (float, prediction.dtype, prediction.shape)


@given(regressions())
def test_squared_error_of_the_target_is_zero(case):
    _, target = case
    loss, gradient = mean_squared_error(target, target)
    assert loss == 0
    assert not gradient.any()


def test_squared_error_matches_the_numbers_by_hand():
    loss, gradient = mean_squared_error(np.array([[1.0], [4.0]]), np.array([[3.0], [3.0]]))
    assert loss == 2.5  # (4 + 1) / 2
    np.testing.assert_array_equal(gradient, [[-2.0], [1.0]])


@pytest.mark.parametrize(
    ("prediction", "target", "error", "message"),
    [
        (np.ones(3), np.ones(2), ValueError, r"target must have shape \(3,\), got \(2,\)"),
        (np.ones((3, 1)), np.ones(3), ValueError, r"target must have shape \(3, 1\), got \(3,\)"),
        (np.ones(3), np.ones(3, np.float32), TypeError, "target must be float64, got float32"),
        (np.ones(3), np.ones(3, int), TypeError, "target must be float64, got int64"),
        (np.ones(3, int), np.ones(3, int), TypeError, "prediction must be .*, got int64"),
        (np.ones(0), np.ones(0), ValueError, r"prediction must have an entry, got \(0,\); leave"),
        (1.0, 1.0, TypeError, "prediction must be an array, got float"),
    ],
)
def test_squared_error_rejects_bad_arguments(prediction, target, error, message):
    with pytest.raises(error, match=f"mean_squared_error: {message}"):
        mean_squared_error(prediction, target)


@pytest.mark.parametrize("logit", [np.inf, -np.inf, np.nan])
def test_cross_entropy_of_a_logit_that_is_not_finite_is_not_finite(logit):
    loss, _ = softmax_cross_entropy(np.array([[logit, 0.0]]), np.array([0]))
    assert not math.isfinite(loss)
