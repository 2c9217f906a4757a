"""Prune before training: SNIP, GraSP and SynFlow on a network that has learned nothing yet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_fraction,
    xp_of,
)
from refimpl.masks import count_kept
from refimpl.nn import (
    AvgPool2d,
    BatchNorm2d,
    Buffer,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Network,
    Parameter,
    ReLU,
    Residual,
    WeightedLayer,
    hessian_vector_product,
    softmax_cross_entropy,
)
from refimpl.prune.masking import candidate_weights, rank_together
from refimpl.saliency import grasp, taylor

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]

# Of inputs >= 0 and without shifts, each of these is linear, or the largest of linear functions.
_LET_FLOW = (
    *(Linear, Conv2d, ReLU, Flatten, Dropout, Residual),
    *(MaxPool2d, AvgPool2d, GlobalAvgPool2d, BatchNorm2d),
)


def snip_masks(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    sparsity: float,
    *,
    loss: Loss = softmax_cross_entropy,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    r"""Choose masks by the connection sensitivity that one batch sees.

    Parameters
    ----------
    network : Network
        Before training. It is left as it is, with its gradients and running statistics.
    x : ndarray of float, shape (batch, ...)
        Examples, such as ten of each class.
    y : ndarray, shape (batch, ...)
        Labels, or whatever `loss` compares outputs with.
    sparsity : float
        Fraction of all candidate weights that is zero afterwards, in ``[0, 1)``; at least what
        is pruned already.
    loss : callable
        ``loss(outputs, y) -> (mean loss of the batch, its gradient)``.
    ignore : collection of str
        Names of weights to leave alone.

    Returns
    -------
    dict of str to ndarray of bool
        As `global_masks`: one ranking, an exact count in all. See `apply_masks`.

    Raises
    ------
    TypeError, ValueError
        As `global_masks`, and if `x` is no float array.

    See Also
    --------
    refimpl.saliency.snip : The criterion for arrays.

    Notes
    -----
    One forward and one backward pass of a copy in float64, as in training: batch normalisation
    takes the statistics of the batch. Ranked is :math:`\lvert w g \rvert`; its sum over all
    layers, by which the paper divides, changes no ranking. The masks then stay for all of
    training.

    References
    ----------
    Lee, Ajanthan and Torr (2019), algorithm 1. Differs from their code, which prunes biases
    as well, and trains other initial weights than those that it scored.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> rng = np.random.default_rng(0)
    >>> network, x = mlp([4, 3, 2], rng=rng), rng.standard_normal((8, 4))
    >>> masks = snip_masks(network, x, rng.integers(0, 2, 8), 0.5)
    >>> sum(int(mask.sum()) for mask in masks.values())
    9
    """
    where = "snip_masks"
    twin, candidates = _prepared(where, network, x, sparsity, ignore)
    outputs = twin.forward(x.astype(np.float64), training=True)
    twin.backward_parameters(loss(outputs, y)[1])
    learned = twin.weights()
    scores = {name: taylor(learned[name].value, learned[name].grad) for name in candidates}
    return rank_together(where, candidates, scores, sparsity)


def grasp_masks(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    sparsity: float,
    *,
    loss: Loss = softmax_cross_entropy,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    r"""Choose masks that leave the gradient of one batch as long as possible, to first order.

    Parameters
    ----------
    network, x, y, sparsity, loss, ignore
        As for `snip_masks`.

    Returns
    -------
    dict of str to ndarray of bool
        As `snip_masks`.

    Raises
    ------
    TypeError, ValueError
        As `snip_masks`.

    See Also
    --------
    refimpl.saliency.grasp : The criterion for arrays, and its sign.
    refimpl.nn.hessian_vector_product : The Hessian times the gradient.

    Notes
    -----
    Four gradients of a copy in float64. Dropout is off, and batch normalisation takes the
    statistics of the batch, with the unbiased variance, as constants. The gradient is that of
    all parameters, biases included.

    References
    ----------
    Wang, Zhang and Grosse (2020), algorithm 1. Their code divides the outputs by 200 before the
    loss, and leaves the biases out of the gradient; a `loss` of that kind does the first.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> rng = np.random.default_rng(0)
    >>> network, x = mlp([4, 3, 2], rng=rng), rng.standard_normal((8, 4))
    >>> masks = grasp_masks(network, x, rng.integers(0, 2, 8), 0.5)
    >>> sum(int(mask.sum()) for mask in masks.values())
    9
    """
    where = "grasp_masks"
    twin, candidates = _prepared(where, network, x, sparsity, ignore)
    x = x.astype(np.float64)
    _take_statistics(twin, x)
    twin.backward_parameters(loss(twin.forward(x), y)[1])
    gradient = {name: parameter.grad for name, parameter in twin.named_parameters().items()}
    product = hessian_vector_product(twin, x, y, gradient, loss)
    learned = twin.weights()
    scores = {name: grasp(learned[name].value, product[name]) for name in candidates}
    return rank_together(where, candidates, scores, sparsity)


def synflow_masks(
    network: Network,
    input_shape: Sequence[int],
    sparsity: float,
    *,
    n_steps: int = 100,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    r"""Choose masks by synaptic flow, a little at a time, without any data.

    Parameters
    ----------
    network : Network
        It is left as it is. Of linear layers, convolutions, pooling, batch normalisation, ReLU,
        flattening, dropout, and residual blocks of these.
    input_shape : sequence of int
        Shape of one example: ``(n_features,)`` or ``(channels, height, width)``.
    sparsity : float
        Fraction of all candidate weights that is zero afterwards, in ``[0, 1)``; at least what
        is pruned already, and leaving a weight for each layer.
    n_steps : int
        Cuts on the way, at least 1. The scores are computed anew before each.
    ignore : collection of str
        Names of weights to leave alone.

    Returns
    -------
    dict of str to ndarray of bool
        As `global_masks`: an exact count in all.

    Raises
    ------
    TypeError, ValueError
        As `global_masks`; if the network has another layer, `input_shape` does not fit, or the
        sparsity leaves fewer weights than layers.
    FloatingPointError
        If nothing flows from the input to the output, at first or before the last step.

    See Also
    --------
    refimpl.saliency.synflow : The criterion for arrays.

    Notes
    -----
    A copy in float64 carries the absolute weights and no shift: biases are 0, and batch
    normalisation multiplies by :math:`\lvert\gamma\rvert / \sqrt{\sigma^2 + \epsilon}` of its
    running variance, which is about 1 before training. An input of ones flows through it, and
    :math:`\theta \, \partial R / \partial \theta` is one backward pass. Step k of n ends at the
    density :math:`(1 - s)^{k / n}`.

    In a chain of layers, with the flow R before a step, no layer is emptied if the weights that
    the step removes score less than R together: the scores of each layer sum to R. The fraction f
    of least scores among L layers sums to at most :math:`f L R`, so it is enough that
    :math:`1 - (1 - s)^{1/n} < 1 / L`, apart from the rounding of counts. One step may well empty
    a layer.

    Before each step the layers outside residual blocks are divided by their largest row sum, so
    that no depth overflows; that multiplies all scores by one number. `n_steps` forward and
    backward passes of one example, in float64, and as many selections.

    References
    ----------
    Tanaka et al. (2020), algorithm 1, and theorem 3 for the condition.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> masks = synflow_masks(network, (4,), 0.8)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'fc1.weight': 2, 'fc2.weight': 2}
    """
    where = "synflow_masks"
    check_fraction(where, "sparsity", sparsity)
    check_count(where, "n_steps", n_steps, 1)
    candidates = candidate_weights(where, network, ignore)
    _check_leaves_a_path(where, candidates, sparsity)
    twin = _absolute_twin(where, network)
    x = _ones(where, network, input_shape)
    flowing = {name: weight for name, weight in twin.weights().items() if name in candidates}
    for step_sparsity in _exponential(flowing, sparsity, int(n_steps)):
        scores = _flow_scores(where, twin, x, flowing)
        for name, mask in rank_together(where, flowing, scores, step_sparsity).items():
            flowing[name].mask = mask
    return {name: weight.mask.copy() for name, weight in flowing.items()}


def _prepared(
    where: str, network: Network, x: Any, sparsity: float, ignore: Collection[str]
) -> tuple[Network, dict[str, Parameter]]:
    """A copy of the network to work on, and the weights that may be pruned, of the original."""
    check_fraction(where, "sparsity", sparsity)
    candidates = candidate_weights(where, network, ignore)
    check_array(where, "x", x, dtypes=FLOAT_DTYPES)
    return _in_float64(network), candidates


def _in_float64(network: Network) -> Network:
    """Copy a network, masks included; what happens to the copy leaves the original alone."""
    twin = copy.deepcopy(network)
    for layer in twin.named_layers().values():
        for name, held in vars(layer).items():
            if isinstance(held, Parameter | Buffer):
                wide = type(held)(held.value.astype(np.float64))
                if isinstance(held, Parameter):
                    wide.mask = held.mask
                setattr(layer, name, wide)
    return twin


def _take_statistics(network: Network, x: np.ndarray) -> None:
    """Set the running statistics of batch normalisation to those of one batch, undropped."""
    norms, dropouts = (
        [layer for layer in network.named_layers().values() if isinstance(layer, kind)]
        for kind in (BatchNorm2d, Dropout)
    )
    for dropout in dropouts:
        dropout.rate = 0.0
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        network.forward(x, training=True)


def _absolute_twin(where: str, network: Network) -> Network:
    """Copy a network in float64, with absolute weights and scales, and without shifts."""
    for name, layer in network.named_layers().items():
        if type(layer) not in _LET_FLOW:
            requirement = f"consist of {', '.join(kind.__name__ for kind in _LET_FLOW)}"
            actual, advice = f"{type(layer).__name__} as {name}", "score it with snip_masks"
            raise bad_argument(where, "network", requirement, actual, advice)
    twin = _in_float64(network)
    for name, parameter in twin.named_parameters().items():
        scales = name.endswith(("weight", "gamma"))
        parameter.value = np.abs(parameter.value) if scales else np.zeros_like(parameter.value)
    for name, buffer in twin.named_buffers().items():
        if name.endswith("running_mean"):
            buffer.value = np.zeros_like(buffer.value)
    return twin


def _ones(where: str, network: Network, input_shape: Any) -> np.ndarray:
    """One example of nothing but ones, where the network lives."""
    if isinstance(input_shape, str) or not isinstance(input_shape, Sequence) or not input_shape:
        advice = "give (n_features,) or (channels, height, width)"
        actual = repr(input_shape)
        raise bad_argument(
            where, "input_shape", "be several counts", actual, advice, kind=TypeError
        )
    for length in input_shape:
        check_count(where, "a length in input_shape", length, 1)
    xp = xp_of(*(weight.value for weight in network.weights().values()))
    return xp.ones((1, *input_shape))


def _check_leaves_a_path(where: str, candidates: dict[str, Parameter], sparsity: float) -> None:
    size = sum(weight.size for weight in candidates.values())
    n_keep = count_kept(size, sparsity)
    if n_keep < len(candidates):
        requirement = f"leave a weight for each of {len(candidates)} layers"
        actual = f"{sparsity}, which leaves {n_keep} of {size}"
        raise bad_argument(where, "sparsity", requirement, actual, "prune less")


def _exponential(weights: dict[str, Parameter], sparsity: float, n_steps: int) -> list[float]:
    """Sparsity after each step: every step leaves the same fraction of what is there."""
    size = sum(weight.size for weight in weights.values())
    kept = sum(w.size if w.mask is None else int(w.mask.sum()) for w in weights.values())
    start, end = kept / size, 1 - sparsity
    ratio = end / start if start else 1.0  # nothing flows: the first step says so
    densities = [start * ratio ** (step / n_steps) for step in range(1, n_steps)]
    return [*(1 - density for density in densities), sparsity]


def _flow_scores(
    where: str, twin: Network, x: np.ndarray, weights: dict[str, Parameter]
) -> dict[str, np.ndarray]:
    """Score weights by the flow through them, in units that change from call to call."""
    _scale_down(twin)
    y = twin.forward(x)
    flow = float(y.sum())
    if not 0 < flow < np.inf:
        advice = "take more steps, or look for a layer of zeros"
        requirement = "stay finite and above 0"
        raise bad_argument(where, "the flow", requirement, flow, advice, kind=FloatingPointError)
    twin.backward_parameters(np.ones_like(y))
    return {name: weight.value * weight.grad for name, weight in weights.items()}


def _scale_down(network: Network) -> None:
    """Divide the weights of each layer that all paths cross by their largest row sum."""
    for layer in network.layers.values():
        if isinstance(layer, WeightedLayer):
            w = layer.weight.value
            layer.weight.value = w / (float(w.reshape(len(w), -1).sum(axis=1).max()) or 1.0)
