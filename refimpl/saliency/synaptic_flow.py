"""Synaptic flow: how much gets through a network of absolute weights, and through which one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, xp_of


@np.errstate(over="ignore", invalid="ignore")  # one sentence tells instead
def total_flow(weights: Iterable[np.ndarray]) -> float:
    r"""Sum, over all paths through a chain of layers, the product of the absolute weights.

    Parameters
    ----------
    weights : iterable of ndarray of float16, float32 or float64
        As `synflow` takes them.

    Returns
    -------
    float
        :math:`R \ge 0`; 0 when no path is left.

    Raises
    ------
    TypeError, ValueError
        As `synflow`.

    Notes
    -----
    :math:`R = \mathbf 1^\top \lvert W_L \rvert \cdots \lvert W_1 \rvert \mathbf 1`, for inputs of
    ones: the output of the network without biases, activations and signs, summed.

    References
    ----------
    Tanaka, Kunin, Yamins and Ganguli (2020), section 6, the loss of SynFlow.

    Examples
    --------
    >>> import numpy as np
    >>> total_flow([np.array([[1.0, -2.0], [3.0, 0.0]]), np.array([[2.0, 1.0]])])
    9.0
    """
    layers = _layers("total_flow", weights)
    matrices = _matrices(layers)
    return _finite("total_flow", (matrices[-1] @ _into(matrices)[-1]).sum())


@np.errstate(over="ignore", invalid="ignore")  # as total_flow
def synflow(weights: Iterable[np.ndarray]) -> list[np.ndarray]:
    r"""Score each weight by the flow that goes through it.

    Parameters
    ----------
    weights : iterable of ndarray of float16, float32 or float64
        One for each layer of a chain, from the input on, NumPy or CuPy: ``(n_out, n_in)`` of a
        linear layer, ``(c_out, c_in, kh, kw)`` of a convolution. `n_in` is the number of outputs
        before it, or in a linear layer behind a convolution, whose images of k pixels were
        flattened, k times that number.

    Returns
    -------
    list of ndarray of float64, each of its weight's shape
        Saliencies, larger = keep; new arrays that can be ranked together. Zero weights score 0.

    Raises
    ------
    TypeError, ValueError
        If one is no float array of these shapes, the layers do not fit behind each other, or the
        flow is no finite number.

    See Also
    --------
    refimpl.prune.synflow_masks : Prune a network by it, a little at a time.

    Notes
    -----
    With the flow :math:`R(\theta)` of `total_flow`, the score is
    :math:`\lvert \theta \odot \partial R / \partial \theta \rvert`. For entry (i, j) of layer l,
    with :math:`a` the flow into its inputs and :math:`b` the flow from its outputs on,

    .. math::
        s_{ij} = b_i \, \lvert W_{ij} \rvert \, a_j, \qquad
        a^{(l)} = \lvert W_{l-1} \rvert a^{(l-1)}, \quad
        b^{(l)} = \lvert W_{l+1} \rvert^\top b^{(l+1)} .

    **Conservation**: every path crosses each layer once, so the scores of a layer sum to R, in
    every layer; and the scores of the weights into a hidden unit sum to those of the weights out
    of it. No layer can be small as a whole.

    A kernel counts as the matrix of its sums over its places: exact where every pixel of a
    channel carries the same, far from the border of an image (or on one without border). Pooling
    then changes nothing and is left out. `refimpl.prune.synflow_masks` sees the border.

    :math:`3 n` operations for n weights, and one copy in float64.

    References
    ----------
    Tanaka et al. (2020), sections 4 (theorems 1 and 2) and 6.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = synflow([np.array([[1.0, -2.0], [3.0, 0.0]]), np.array([[2.0, 1.0]])])
    >>> first
    array([[2., 4.],
           [3., 0.]])
    >>> second
    array([[6., 3.]])
    """
    layers = _layers("synflow", weights)
    matrices = _matrices(layers)
    parts = zip(layers, _into(matrices), _out_of(matrices), strict=True)
    scores = [_along(b, w, 0) * w * _along(a, w, 1) for w, a, b in parts]
    _finite("synflow", sum(score.sum() for score in scores))
    return scores


def _matrices(layers: list[np.ndarray]) -> list[np.ndarray]:
    """Absolute weights as matrices (n_out, n_in), kernels summed over their places."""
    return [w.sum(axis=tuple(range(2, w.ndim))) for w in layers]


def _into(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """Flow into the inputs of each layer."""
    xp = xp_of(*matrices)
    flows = [xp.ones(matrices[0].shape[1])]
    for before, after in pairwise(matrices):
        flow = before @ flows[-1]
        flows.append(xp.repeat(flow, after.shape[1] // len(flow)))  # to each pixel of a channel
    return flows


def _out_of(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """Flow from the outputs of each layer to the end."""
    flows = [xp_of(*matrices).ones(len(matrices[-1]))]
    for before, after in pairwise(reversed(matrices)):
        flow = before.T @ flows[-1]
        flows.append(flow.reshape(len(after), -1).sum(axis=1))  # from all pixels of a channel
    return flows[::-1]


def _finite(where: str, total: float) -> float:
    if not np.isfinite(total):
        advice = "divide all weights of a layer by one number, which changes no ranking"
        raise bad_argument(where, "the flow", "be finite", total, advice)
    return float(total)


def _along(flow: np.ndarray, w: np.ndarray, axis: int) -> np.ndarray:
    """Lay out a vector along one axis of a weight."""
    return flow.reshape([-1 if i == axis else 1 for i in range(w.ndim)])


def _layers(where: str, weights: Any) -> list[np.ndarray]:
    """Absolute weights in float64, checked one by one and in their order."""
    weights = list(weights)
    if not weights:
        raise bad_argument(where, "weights", "hold a layer or more", "none", "pass a list of them")
    for i, w in enumerate(weights):
        check_array(where, f"weights[{i}]", w, ndim=(2, 4), dtypes=FLOAT_DTYPES)
        if not w.size:
            actual, advice = f"shape {w.shape}", "leave out what has no weight"
            raise bad_argument(where, f"weights[{i}]", "hold a weight", actual, advice)
    for i, (before, after) in enumerate(pairwise(weights), start=1):
        flattened = before.ndim > after.ndim
        if after.shape[1] % len(before) or (after.shape[1] > len(before) and not flattened):
            requirement = f"have inputs for {len(before)} outputs"
            requirement += ", or a multiple of it" if flattened else ""
            advice = "give the layers from the input on"
            raise bad_argument(where, f"weights[{i}]", requirement, f"{after.shape[1]}", advice)
    return [xp_of(w).abs(w.astype(np.float64)) for w in weights]
