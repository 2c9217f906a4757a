"""How wrong is the output? Each loss comes with its gradient."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import INDEX_DTYPES, bad_argument, check_array, check_fraction, xp_of
from refimpl.nn.layer import TRAINING_DTYPES


@np.errstate(over="ignore", invalid="ignore")  # an infinite logit shows in the loss
def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Measure how improbable the right classes are, and how each logit should change.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (batch, n_classes)
        Scores before the softmax.
    labels : ndarray of int32 or int64, shape (batch,)
        The right class of each example, in [0, n_classes).

    Returns
    -------
    loss : float
        Mean over the batch of minus the log-probability of the right class, in nats.
    dlogits : ndarray of float, shape (batch, n_classes)
        Gradient of `loss`, of the logits' dtype; each row sums to 0 up to rounding.

    Raises
    ------
    TypeError
        If the logits are no floats or the labels no integers.
    ValueError
        If the batch is empty, the shapes do not match, or a label names no class.

    Notes
    -----
    With ``p = exp(z) / sum(exp(z))`` the loss is ``-log p[label]`` and its gradient is
    ``p - one_hot(label)``, both over the batch size. The largest logit is subtracted first,
    which changes neither and lets no exponential overflow. Logits that are NaN or infinite
    give a loss that is NaN or infinite, without a warning; `fit` refuses such a loss.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dlogits = softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
    >>> round(loss, 4)  # log 2
    0.6931
    >>> dlogits
    array([[ 0.5, -0.5]])
    """
    _check_logits_and_labels("softmax_cross_entropy", logits, labels)
    xp, batch = xp_of(logits, labels), len(labels)
    right = xp.arange(batch), labels
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_total = xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
    dlogits = xp.exp(shifted - log_total)
    dlogits[right] -= 1
    loss = float((log_total[:, 0] - shifted[right]).mean())
    return loss, dlogits / batch


@np.errstate(over="ignore", invalid="ignore")
def smoothed_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, *, smoothing: float
) -> tuple[float, np.ndarray]:
    """Measure as `softmax_cross_entropy`, with labels that are not quite sure of themselves.

    Parameters
    ----------
    logits, labels : ndarray
        As for `softmax_cross_entropy`.
    smoothing : float
        In [0, 1), usually 0.1: the share of each label that all classes divide among
        themselves. With it filled in by ``functools.partial``, this is a loss for `fit`.

    Returns
    -------
    loss : float
        Mean over the batch of the cross-entropy with the smoothed labels, in nats.
    dlogits : ndarray of float, shape (batch, n_classes)
        Gradient of `loss`, of the logits' dtype; each row sums to 0 up to rounding.

    Raises
    ------
    TypeError, ValueError
        As `softmax_cross_entropy`, or if `smoothing` is out of range.

    Notes
    -----
    The label is ``q = (1 - s) * one_hot(label) + s / K`` of K classes, the loss
    ``-sum(q * log(p))`` and its gradient ``p - q``, both over the batch size. Written with the
    logits z, that is the cross-entropy plus ``s * (z[label] - mean(z))``: a price on how far
    the right logit leads the mean one. The least loss is the entropy of q, not 0.

    References
    ----------
    Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception architecture for
    computer vision", CVPR 2016, section 7.

    Examples
    --------
    >>> import numpy as np
    >>> logits, labels = np.log(np.array([[9.0, 1.0]])), np.array([0])
    >>> softmax_cross_entropy(logits, labels)[1].round(3)  # surer still
    array([[-0.1,  0.1]])
    >>> abs(smoothed_cross_entropy(logits, labels, smoothing=0.2)[1].round(3))  # sure enough
    array([[0., 0.]])
    """
    _check_logits_and_labels("smoothed_cross_entropy", logits, labels)
    check_fraction("smoothed_cross_entropy", "smoothing", smoothing)
    (batch, n_classes), smoothing = logits.shape, float(smoothing)
    right = xp_of(logits, labels).arange(batch), labels
    loss, dlogits = softmax_cross_entropy(logits, labels)
    lead = float((logits[right][:, np.newaxis] - logits).mean())
    dlogits[right] += smoothing / batch
    return loss + smoothing * lead, dlogits - smoothing / (n_classes * batch)


def mean_squared_error(prediction: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Average the squared differences over all entries.

    Parameters
    ----------
    prediction : ndarray of float32 or float64, any shape
        What the network says.
    target : ndarray, same shape and dtype
        What it should say.

    Returns
    -------
    loss : float
        ``mean((prediction - target)**2)``, over batch and outputs alike.
    dprediction : ndarray, same shape and dtype
        Gradient of `loss`: ``2 * (prediction - target) / size``.

    Raises
    ------
    TypeError
        If one is no array of floats, or the dtypes differ.
    ValueError
        If the shapes differ, or there is no entry.

    Examples
    --------
    >>> import numpy as np
    >>> mean_squared_error(np.array([[1.0, 4.0]]), np.array([[1.0, 2.0]]))
    (2.0, array([[0., 2.]]))
    """
    where = "mean_squared_error"
    check_array(where, "prediction", prediction, dtypes=TRAINING_DTYPES)
    dtypes = (prediction.dtype.type,)
    check_array(where, "target", target, shape=prediction.shape, dtypes=dtypes)
    if not prediction.size:
        advice = "leave empty batches out"
        raise bad_argument(where, "prediction", "have an entry", prediction.shape, advice)
    difference = prediction - target
    loss = float((difference * difference).mean())
    return loss, difference * (2 / difference.size)


def _check_logits_and_labels(where: str, logits: np.ndarray, labels: np.ndarray) -> None:
    check_array(where, "logits", logits, ndim=2, dtypes=TRAINING_DTYPES)
    batch, n_classes = logits.shape
    check_array(where, "labels", labels, shape=(batch,), dtypes=INDEX_DTYPES)
    if not batch:
        advice = "leave empty batches out"
        raise bad_argument(where, "logits", "hold an example", logits.shape, advice)
    n_outside = int(((labels < 0) | (labels >= n_classes)).sum())
    if n_outside:
        advice = "number the classes from 0"
        actual = f"{n_outside} of {batch} outside"
        raise bad_argument(where, "labels", f"be in [0, {n_classes})", actual, advice)
