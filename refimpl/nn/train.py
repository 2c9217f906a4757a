"""How does a network learn from a data set, and when should it stop?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from refimpl.arrays import bad_argument, check_array, check_count, check_positive, check_rng
from refimpl.nn.clipping import clip_gradients
from refimpl.nn.losses import softmax_cross_entropy
from refimpl.nn.network import Network, check_network
from refimpl.nn.optim import Optimizer

# A training that diverges overflows long before its loss is NaN; `fit` then says one sentence
# instead of NumPy's many warnings.
_TOLD_BY_THE_LOSS = {"over": "ignore", "invalid": "ignore"}

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


class Evaluation(NamedTuple):
    """How well a network does on a data set.

    Attributes
    ----------
    loss : float
        Mean over all examples.
    accuracy : float
        Fraction of examples whose largest output is at the label, in [0, 1]; NaN where
        the targets are no class labels, that is, no integers.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True)
class History:
    """What `fit` saw: one entry for each evaluation, oldest first.

    Attributes
    ----------
    steps : tuple of int
        Steps taken when the evaluation was made; the first step is number 1.
    train_loss : tuple of float
        Mean loss of the examples trained on since the evaluation before, each measured
        just before the step that used it.
    validation_loss, validation_accuracy : tuple of float
        Of the validation data; empty without them.
    """

    steps: tuple[int, ...]
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]

    @property
    def early_stop_step(self) -> int | None:
        """Step of the least validation loss, the first on a tie; None without validation."""
        if not self.validation_loss:
            return None
        return self.steps[self.validation_loss.index(min(self.validation_loss))]


def fit(
    network: Network,
    optimizer: Optimizer,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    loss: Loss = softmax_cross_entropy,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    evaluate_every: int | None = None,
    schedule: Callable[[int], float] | None = None,
    max_gradient_norm: float | None = None,
    after_backward: Callable[[int], bool | None] | None = None,
    after_step: Callable[[int], None] | None = None,
    progress: bool = False,
) -> History:
    """Train a network in place: shuffle, cut into mini-batches, step, again.

    Parameters
    ----------
    network : Network
        Changes in place.
    optimizer : Optimizer
        Made over ``network.parameters()``.
    x : ndarray, shape (n, ...)
        Examples, n >= 1, of the network's dtype.
    y : ndarray, shape (n, ...)
        Labels, or whatever `loss` compares outputs with.
    epochs : int
        Passes over the data, >= 0.
    batch_size : int
        Examples a step, >= 1. The last batch of an epoch holds the rest.
    rng : numpy.random.Generator
        Draws a new order for each epoch.
    loss : callable
        ``loss(outputs, targets) -> (mean loss of the batch, its gradient)``.
    validation : (ndarray, ndarray), optional
        Examples and labels that are evaluated and never trained on.
    evaluate_every : int, optional
        Steps between evaluations; once an epoch if not given. The end is always evaluated.
    schedule : callable, optional
        ``schedule(step)`` is the learning rate of that step, >= 0, such as
        ``functools.partial(cosine_lr, lr=0.1, n_steps=900)``. Steps count from 1 in every call
        of `fit`. It is put into ``optimizer.lr``, where the last one stays.
    max_gradient_norm : float, optional
        > 0: each step's gradient is shortened to it by `clip_gradients`, over all parameters
        that `optimizer` moves.
    after_backward : callable, optional
        Called as ``after_backward(step)`` when the gradients are there, before they are clipped
        and `optimizer` takes the step. It may change them, and the weights that are to move. If
        it returns True, it has taken the step itself: `optimizer` takes none.
    after_step : callable, optional
        Called as ``after_step(step)`` when the step is done, before any evaluation. It may
        set masks, change the learning rate or keep a copy of the state.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    History
        What was seen at each evaluation.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or lengths differ.
    FloatingPointError
        If the loss is NaN or infinite, or a gradient that is to be clipped: the message names
        the step. The step is not taken, so the weights are those of the step before. Also if
        the last step overflows a weight.

    Notes
    -----
    One step is ``outputs = forward(x)``, ``loss, dy = loss(outputs, y)``, ``backward(dy)``,
    `clip_gradients` if asked for, ``optimizer.step()``. For a network of :math:`p` weights in
    linear layers and a batch of :math:`b` it costs about :math:`6 p b` FLOPs: :math:`2 p b`
    forward, twice that back.

    The same seed gives the same bits on the same machine with as many BLAS threads. With
    another number of threads, products are summed in another order and round differently.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import SGD, evaluate, fit
    >>> from refimpl.nn.models import mlp
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> xor = np.array([0, 1, 1, 0])
    >>> network = mlp((2, 8, 2), rng=np.random.default_rng(0), dtype=np.float64)
    >>> optimizer = SGD(network.parameters(), lr=0.5)
    >>> history = fit(network, optimizer, x, xor, epochs=200, batch_size=4,
    ...               rng=np.random.default_rng(1), validation=(x, xor))
    >>> history.steps[-1], history.validation_accuracy[-1]
    (200, 1.0)
    """
    check_network("fit", network)
    _check_examples("fit", "x", x, "y", y)
    _check_validation(validation)
    _check_settings(epochs, batch_size, evaluate_every, max_gradient_norm, rng)
    _check_optimizer(optimizer, network)
    epochs, batch_size = int(epochs), int(batch_size)  # NumPy's small integers would overflow
    steps_per_epoch = math.ceil(len(x) / batch_size)
    n_steps = epochs * steps_per_epoch
    every = evaluate_every or steps_per_epoch
    recorder = _Recorder()
    with tqdm(total=n_steps, unit="step", disable=not progress) as bar:
        for step, rows in enumerate(_mini_batches(len(x), batch_size, epochs, rng), start=1):
            if schedule is not None:
                optimizer.lr = _lr_of(schedule, step)
            batch = x[rows], y[rows]
            batch_loss = _train_step(
                network, optimizer, batch, loss, step, after_backward, max_gradient_norm
            )
            recorder.add(batch_loss, len(rows))
            if after_step is not None:
                after_step(step)
            if step % every == 0 or step == n_steps:
                seen = _validate(network, optimizer, validation, loss, step)
                bar.set_postfix(loss=f"{recorder.close(step, seen):.4g}", refresh=False)
            bar.update()
    if not all(np.isfinite(parameter.value).all() for parameter in network.parameters()):
        raise _diverged("every weight", "NaN or infinity after the last step", optimizer)
    return recorder.history()


def evaluate(
    network: Network,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 1024,
    loss: Loss = softmax_cross_entropy,
) -> Evaluation:
    """Measure mean loss and accuracy, batch by batch, without training.

    Parameters
    ----------
    network : Network
        Runs with ``training=False``; its weights do not change.
    x : ndarray, shape (n, ...)
        Examples, n >= 1.
    labels : ndarray, shape (n, ...)
        Class labels, or whatever `loss` compares outputs with.
    batch_size : int
        Examples at a time, >= 1: more memory for fewer calls. The result is the mean over
        all examples whatever the batch size.
    loss : callable
        ``loss(outputs, targets) -> (mean loss of the batch, its gradient)``.

    Returns
    -------
    Evaluation
        The named pair ``(loss, accuracy)``.

    Raises
    ------
    TypeError, ValueError
        If there is no example, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Flatten, Network, evaluate
    >>> logits = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    >>> result = evaluate(Network({"flatten": Flatten()}), logits, np.array([0, 1, 0]))
    >>> round(result.accuracy, 3)
    0.667
    """
    check_network("evaluate", network)
    _check_examples("evaluate", "x", x, "labels", labels)
    check_count("evaluate", "batch_size", batch_size, 1)
    batch_size = int(batch_size)  # NumPy's small integers would overflow
    classes = np.issubdtype(labels.dtype, np.integer)
    total_loss, n_right = 0.0, 0
    for start in range(0, len(x), batch_size):
        targets = labels[start : start + batch_size]
        outputs = network.forward(x[start : start + batch_size], training=False)
        total_loss += loss(outputs, targets)[0] * len(targets)
        n_right += int((outputs.argmax(axis=1) == targets).sum()) if classes else 0
    accuracy = n_right / len(x) if classes else math.nan
    return Evaluation(loss=total_loss / len(x), accuracy=accuracy)


class _Recorder:
    """Collects what `History` will hold."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, float, Evaluation | None]] = []
        self._loss_sum, self._n_seen = 0.0, 0

    def add(self, batch_loss: float, n: int) -> None:
        """Take in one step; a short last batch counts for what it holds."""
        self._loss_sum += batch_loss * n
        self._n_seen += n

    def close(self, step: int, validation: Evaluation | None) -> float:
        """Make an entry of the steps since the last one; return their loss."""
        train_loss = self._loss_sum / self._n_seen
        self._seen.append((step, train_loss, validation))
        self._loss_sum, self._n_seen = 0.0, 0
        return train_loss

    def history(self) -> History:
        validated = [v for _, _, v in self._seen if v is not None]
        return History(
            steps=tuple(step for step, _, _ in self._seen),
            train_loss=tuple(loss for _, loss, _ in self._seen),
            validation_loss=tuple(v.loss for v in validated),
            validation_accuracy=tuple(v.accuracy for v in validated),
        )


def _mini_batches(
    n: int, batch_size: int, epochs: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Rows of one batch after the other, in a new order each epoch."""
    for _ in range(epochs):
        order = rng.permutation(n)
        for start in range(0, n, batch_size):
            yield order[start : start + batch_size]


def _lr_of(schedule: Callable[[int], float], step: int) -> float:
    lr = schedule(step)
    check_positive("fit", f"schedule({step})", lr, zero_allowed=True)
    return float(lr)


def _train_step(
    network: Network,
    optimizer: Optimizer,
    batch: tuple[np.ndarray, np.ndarray],
    loss: Loss,
    step: int,
    after_backward: Callable[[int], bool | None] | None,
    max_norm: float | None,
) -> float:
    """Forward, loss, backward, update; return the loss before the update."""
    x, y = batch
    with np.errstate(**_TOLD_BY_THE_LOSS):
        outputs = network.forward(x, training=True)
        batch_loss, dy = loss(outputs, y)
        if not math.isfinite(batch_loss):
            raise _diverged("loss", f"{batch_loss} at step {step}", optimizer)
        network.backward_parameters(dy)
        if after_backward is not None and after_backward(step) is True:
            return batch_loss
        if max_norm is not None:
            _clip(optimizer, max_norm, step)
        optimizer.step()
    return batch_loss


def _clip(optimizer: Optimizer, max_norm: float, step: int) -> None:
    try:
        clip_gradients(optimizer.parameters, max_norm)
    except FloatingPointError as error:
        raise _diverged("gradients", f"NaN or infinity at step {step}", optimizer) from error


def _validate(
    network: Network, optimizer: Optimizer, validation: Any, loss: Loss, step: int
) -> Evaluation | None:
    if validation is None:
        return None
    with np.errstate(**_TOLD_BY_THE_LOSS):
        seen = evaluate(network, *validation, loss=loss)
    if not math.isfinite(seen.loss):
        raise _diverged("validation loss", f"{seen.loss} after step {step}", optimizer)
    return seen


def _diverged(what: str, actual: str, optimizer: Optimizer) -> Exception:
    advice = f"try an lr smaller than {optimizer.lr:g}"
    return bad_argument("fit", what, "be finite", actual, advice, kind=FloatingPointError)


def _check_examples(where: str, x_name: str, x: Any, y_name: str, y: Any) -> None:
    check_array(where, x_name, x)
    check_array(where, y_name, y)
    if x.ndim < 1 or not len(x):
        raise bad_argument(where, x_name, "hold an example", f"shape {x.shape}", "add one")
    if y.ndim < 1 or len(y) != len(x):
        advice = f"{x_name} and {y_name} are paired by their first axis"
        raise bad_argument(where, y_name, f"have length {len(x)}", f"shape {y.shape}", advice)


def _check_validation(validation: Any) -> None:
    if validation is None:
        return
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        actual, advice = type(validation).__name__, "pass (x_validation, y_validation)"
        raise bad_argument("fit", "validation", "be a pair", actual, advice, kind=TypeError)
    _check_examples("fit", "validation x", validation[0], "validation y", validation[1])


def _check_settings(
    epochs: Any, batch_size: Any, evaluate_every: Any, max_gradient_norm: Any, rng: Any
) -> None:
    check_count("fit", "epochs", epochs, 0)
    check_count("fit", "batch_size", batch_size, 1)
    if evaluate_every is not None:
        check_count("fit", "evaluate_every", evaluate_every, 1)
    if max_gradient_norm is not None:
        check_positive("fit", "max_gradient_norm", max_gradient_norm)
    check_rng("fit", rng)


def _check_optimizer(optimizer: Any, network: Network) -> None:
    if not isinstance(optimizer, Optimizer):
        actual, advice = type(optimizer).__name__, "pass Adam(network.parameters(), lr=1e-3)"
        raise bad_argument("fit", "optimizer", "be an Optimizer", actual, advice, kind=TypeError)
    owned = {id(parameter) for parameter in network.parameters()}
    n_strange = sum(id(parameter) not in owned for parameter in optimizer.parameters)
    if n_strange:
        actual = f"{n_strange} of {len(optimizer.parameters)} from elsewhere"
        advice = "make it over network.parameters()"
        raise bad_argument("fit", "optimizer", "hold this network's parameters", actual, advice)
