"""Masks for a network: one saliency, applied layer by layer or to all layers at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_fraction,
    check_no_nan,
    xp_of,
)
from refimpl.masks import global_counts, global_unstructured, keep_top_k, unstructured
from refimpl.nn import Network, Parameter, SparseLayer
from refimpl.nn.network import check_network
from refimpl.saliency import magnitude

Saliency = Callable[[np.ndarray], np.ndarray]
Budget = Callable[[list[tuple[int, ...]], float], Sequence[int]]


def layerwise_masks(
    network: Network,
    sparsity: float,
    *,
    saliency: Saliency = magnitude,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Choose masks that give every layer the same sparsity.

    Parameters
    ----------
    network : Network
        Is read, not changed. Only its weights are candidates, never a bias.
    sparsity : float
        Fraction of each weight array that is zero afterwards, in ``[0, 1)``; at least what is
        pruned already.
    saliency : callable
        ``saliency(w)`` scores an array of weights, larger = keep; it must not write to `w`.
    ignore : collection of str
        Names of weights to leave alone, such as ``["fc3.weight"]``.

    Returns
    -------
    dict of str to ndarray of bool
        A new mask for each weight that is not ignored, True = kept, with exactly
        ``count_kept(size, sparsity)`` True entries. Nothing is applied: see `apply_masks`.

    Raises
    ------
    TypeError, ValueError
        If `sparsity` is out of range or below what is pruned already, a name in `ignore` is
        unknown, no weight is left to prune, or a saliency has the wrong shape, no float dtype,
        or NaN.

    Notes
    -----
    A weight that is pruned already ranks below every other, so it never comes back.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> masks = layerwise_masks(network, 0.5)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'fc1.weight': 6, 'fc2.weight': 3}
    """
    where = "layerwise_masks"
    check_fraction(where, "sparsity", sparsity)
    candidates = candidate_weights(where, network, ignore)
    scores = _checked(where, candidates, {n: saliency(w.value) for n, w in candidates.items()})
    masks = {name: unstructured(score, sparsity) for name, score in scores.items()}
    _check_none_returns(where, candidates, masks)
    return masks


def global_masks(
    network: Network,
    sparsity: float,
    *,
    saliency: Saliency = magnitude,
    ignore: Collection[str] = (),
    allow_empty: bool = True,
) -> dict[str, np.ndarray]:
    """Choose masks by one ranking over all layers, so that each layer finds its own sparsity.

    A layer whose saliencies are small beside the others' may lose every weight. Its output is
    then constant, and so is the network's: layer collapse. ``allow_empty=False`` prevents it.

    Parameters
    ----------
    network : Network
        Is read, not changed. Only its weights are candidates, never a bias.
    sparsity : float
        Fraction of all candidate weights that is zero afterwards, in ``[0, 1)``; at least what
        is pruned already. Ignored weights do not count.
    saliency : callable
        ``saliency(w)`` scores an array of weights, larger = keep; it must not write to `w`.
    ignore : collection of str
        Names of weights to leave alone, such as ``["fc3.weight"]``.
    allow_empty : bool
        Whether a layer may lose every weight. If not, each keeps its best.

    Returns
    -------
    dict of str to ndarray of bool
        A new mask for each weight that is not ignored, True = kept, with exactly
        ``count_kept(total size, sparsity)`` True entries in all.

    Raises
    ------
    TypeError, ValueError
        As `layerwise_masks`, and as `refimpl.masks.global_counts` if not `allow_empty`.

    Notes
    -----
    A weight that is pruned already ranks below every other, so it never comes back. Ties go to
    the earlier layer.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> masks = global_masks(network, 0.5)
    >>> sum(int(mask.sum()) for mask in masks.values())
    9
    """
    where = "global_masks"
    check_fraction(where, "sparsity", sparsity)
    candidates = candidate_weights(where, network, ignore)
    scores = {name: saliency(weight.value) for name, weight in candidates.items()}
    return rank_together(where, candidates, scores, sparsity, allow_empty=allow_empty)


def budgeted_masks(
    network: Network,
    sparsity: float,
    *,
    budget: Budget,
    saliency: Saliency = magnitude,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Choose masks that give every layer the number of weights that a budget grants it.

    Parameters
    ----------
    network : Network
        Is read, not changed. Only its weights are candidates, never a bias.
    sparsity : float
        Fraction of all candidate weights that is zero afterwards, in ``[0, 1)``. Ignored
        weights do not count.
    budget : callable
        ``budget(shapes, sparsity)`` says how many weights each layer keeps, such as
        `refimpl.masks.erdos_renyi_kernel_counts`: a list of counts in the order of the shapes.
    saliency : callable
        ``saliency(w)`` scores an array of weights, larger = keep; it must not write to `w`.
    ignore : collection of str
        Names of weights to leave alone, such as ``["fc3.weight"]``.

    Returns
    -------
    dict of str to ndarray of bool
        A new mask for each weight that is not ignored, True = kept, with exactly as many True
        entries as `budget` granted.

    Raises
    ------
    TypeError, ValueError
        As `layerwise_masks` and as `budget`; if `budget` returns anything but one count for
        each weight, or grants a layer more than is not pruned yet.

    Notes
    -----
    A weight that is pruned already ranks below every other, so it never comes back.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.masks import erdos_renyi_kernel_counts
    >>> from refimpl.nn import mlp
    >>> network = mlp([784, 300, 100, 10], rng=np.random.default_rng(0))
    >>> masks = budgeted_masks(network, 0.9, budget=erdos_renyi_kernel_counts)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'fc1.weight': 18714, 'fc2.weight': 6906, 'fc3.weight': 1000}
    """
    where = "budgeted_masks"
    check_fraction(where, "sparsity", sparsity)
    candidates = candidate_weights(where, network, ignore)
    counts = _granted(where, candidates, budget, sparsity)
    scores = _checked(where, candidates, {n: saliency(w.value) for n, w in candidates.items()})
    masks = {name: keep_top_k(score, counts[name]) for name, score in scores.items()}
    _check_none_returns(where, candidates, masks)
    return masks


def apply_masks(network: Network, masks: Mapping[str, np.ndarray]) -> None:
    """Set masks by name; what they prune is zero from now on, through all training.

    Parameters
    ----------
    network : Network
        The masks and values of its named weights change in place; other weights stay.
    masks : mapping of str to ndarray of bool
        True = kept, each of its weight's shape; copied. As `layerwise_masks` returns.

    Raises
    ------
    TypeError, ValueError
        If `network` is no Network, a name is unknown, or a mask has the wrong dtype or shape.
        Then nothing has changed.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> apply_masks(network, {"fc2.weight": np.eye(2, 3, dtype=bool)})
    >>> int(np.count_nonzero(network.weights()["fc2.weight"].value))
    2
    """
    check_network("apply_masks", network)
    if not isinstance(masks, Mapping):
        advice = "pass what layerwise_masks returned"
        actual = type(masks).__name__
        raise bad_argument(
            "apply_masks", "masks", "be a dict of arrays", actual, advice, kind=TypeError
        )
    weights = network.weights()
    _check_names("apply_masks", "masks", masks, weights)
    for name, mask in masks.items():
        argument = f"masks[{name!r}]"
        check_array("apply_masks", argument, mask, shape=weights[name].shape, dtypes=(np.bool_,))
        xp_of(mask, weights[name].value)  # refuses a mix of devices
    for name, mask in masks.items():
        weights[name].mask = mask


def network_sparsity(network: Network) -> float:
    """Measure the fraction of a network's weights that are zero.

    Parameters
    ----------
    network : Network
        With at least one weight.

    Returns
    -------
    float
        In ``[0, 1]``.

    Raises
    ------
    TypeError, ValueError
        If `network` is no Network, or has no weight.

    Notes
    -----
    Zero by value, masked or not, in dense and in sparse layers. Biases do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> apply_masks(network, layerwise_masks(network, 0.5))
    >>> network_sparsity(network)
    0.5
    """
    where = "network_sparsity"
    check_network(where, network)
    values = [weight.value for weight in network.weights().values()]
    layers = network.named_layers().values()
    sparse = [layer.weight for layer in layers if isinstance(layer, SparseLayer)]
    size = sum(value.size for value in values) + sum(math.prod(a.shape) for a in sparse)
    if not size:
        advice = "count in a network with a Linear layer"
        raise bad_argument(where, "network", "have a weight", "none", advice)
    stored = values + [a.stored_values for a in sparse]
    n_nonzero = sum(int(xp_of(array).count_nonzero(array)) for array in stored)
    return (size - n_nonzero) / size


def candidate_weights(
    where: str, network: Network, ignore: Collection[str]
) -> dict[str, Parameter]:
    """List the weights that may be pruned, and refuse a network without any.

    Parameters
    ----------
    where : str
        Named in the error.
    network : Network
        Any.
    ignore : collection of str
        Names of weights to leave out.

    Returns
    -------
    dict of str to Parameter
        Never empty.

    Raises
    ------
    TypeError, ValueError
        If a name in `ignore` is unknown, or nothing is left.
    """
    check_network(where, network)
    weights = network.weights()
    _check_names(where, "ignore", ignore, weights)
    candidates = {name: weight for name, weight in weights.items() if name not in ignore}
    if not candidates:
        actual = f"{len(weights)} weights, all ignored" if weights else "none"
        advice = "only arrays of two axes or more can be pruned"
        raise bad_argument(where, "network", "have a weight to prune", actual, advice)
    return candidates


def rank_together(
    where: str,
    candidates: dict[str, Parameter],
    scores: Mapping[str, np.ndarray],
    sparsity: float,
    *,
    allow_empty: bool = True,
) -> dict[str, np.ndarray]:
    """Choose masks as `global_masks` does, by saliencies that are there already.

    ``scores[name]`` belongs to ``candidates[name]``, which `candidate_weights` returned; `where`
    is named in errors. For all else see `global_masks`.
    """
    ranked = list(_checked(where, candidates, scores).values())
    if allow_empty:
        chosen = global_unstructured(ranked, sparsity)
    else:
        chosen = list(map(keep_top_k, ranked, global_counts(ranked, sparsity)))
    masks = dict(zip(candidates, chosen, strict=True))
    _check_none_returns(where, candidates, masks)
    return masks


def _granted(
    where: str, candidates: dict[str, Parameter], budget: Budget, sparsity: float
) -> dict[str, int]:
    """What `budget` lets every candidate keep."""
    granted = budget([weight.shape for weight in candidates.values()], sparsity)
    if not isinstance(granted, Collection) or len(granted) != len(candidates):
        advice = "return the counts in the order of the shapes"
        requirement = f"return {len(candidates)} counts"
        raise bad_argument(where, "budget", requirement, repr(granted), advice)
    counts = dict(zip(candidates, granted, strict=True))
    for name, count in counts.items():
        check_count(where, f"budget of {name}", count, 0, candidates[name].size)
    return counts


def _checked(
    where: str, candidates: dict[str, Parameter], scores: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Saliency of every candidate, -inf where a weight is pruned already."""
    checked = {}
    for name, weight in candidates.items():
        score, argument = scores[name], f"saliency of {name}"
        check_array(where, argument, score, shape=weight.shape, dtypes=FLOAT_DTYPES)
        if weight.mask is not None:
            score = xp_of(score).where(weight.mask, score, -np.inf)
        check_no_nan(where, argument, score)
        checked[name] = score
    return checked


def _check_none_returns(
    where: str, candidates: dict[str, Parameter], masks: dict[str, np.ndarray]
) -> None:
    for name, weight in candidates.items():
        n_back = 0 if weight.mask is None else int((masks[name] & ~weight.mask).sum())
        if n_back:
            advice = "ask for more than is pruned already, and keep saliencies above -inf"
            actual = f"{n_back} of {name} coming back"
            raise bad_argument(where, "masks", "leave pruned weights out", actual, advice)


def _check_names(where: str, argument: str, names: Any, weights: dict[str, Parameter]) -> None:
    if isinstance(names, str) or not isinstance(names, Collection):
        advice = "pass a list such as ['fc1.weight']"
        actual = repr(names)
        raise bad_argument(where, argument, "be several names", actual, advice, kind=TypeError)
    unknown = [name for name in names if name not in weights]
    if unknown:
        advice = "weights() of the network names them"
        requirement = f"name weights among {list(weights)}"
        raise bad_argument(where, argument, requirement, unknown, advice)
