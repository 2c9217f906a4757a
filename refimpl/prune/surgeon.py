"""Surgery on a whole network: weights and biases go one by one, until the patient complains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, check_array, check_count, check_no_nan
from refimpl.nn import Network, as_arrays, as_vector
from refimpl.nn.network import check_network
from refimpl.prune.hessian import inverse_hessian
from refimpl.prune.obs import downdate_inverse, obs_trace, obs_update
from refimpl.saliency import obs as obs_saliency


class Removal(NamedTuple):
    """A step that a surgeon may take: what goes, and where it leaves everything else.

    Attributes
    ----------
    indices : ndarray of int64
        What is pruned, as positions in `parameter_vector`.
    parameters : ndarray of float, shape (n,)
        All parameters afterwards, 0 at `indices`.
    """

    indices: np.ndarray
    parameters: np.ndarray


Removals = Callable[[Network], Iterator[Removal]]


def surgeon(
    network: Network,
    removals: Removals,
    *,
    stop: Callable[[Network], bool],
    retrain: Callable[[Network], object] | None = None,
    n_tries: int = 1,
    n_remove: int | None = None,
) -> np.ndarray:
    """Remove parameters in the order of a criterion, for as long as the network bears it.

    The loop is the same for every criterion, so what differs between two results is what
    `removals` does.

    Parameters
    ----------
    network : Network
        Changes in place. Biases are parameters like any other here, and get masks too.
    removals : callable
        ``removals(network)`` yields the possible next steps, the best first: what `obs_removals`
        or `plain_removals` returns.
    stop : callable
        ``stop(network)`` is true if a removal went too far; it is then undone.
    retrain : callable, optional
        ``retrain(network)`` trains in place, and the masks hold by themselves. Called when a
        removal went too far, which is undone only if `stop` is true afterwards still.
    n_tries : int
        How many steps to try before it is over: 1 gives up at the first that fails.
    n_remove : int, optional
        Begin no step once as many parameters are gone; by default only `stop` ends the loop.

    Returns
    -------
    ndarray of int64
        What went, as positions in `parameter_vector`, in order.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or as the callables. Whatever these raise, the removal
        under way is undone, and those before it stay.

    Notes
    -----
    The procedure of Optimal Brain Surgeon: rank, remove, update, and begin again with the
    curvature of the network as it is now. One call of `removals` for each step, and of `stop`
    for each try.

    References
    ----------
    Hassibi and Stork (1992), the procedure in section 2.

    Examples
    --------
    Two inputs that always agree, one that is always 0, and a bias that nothing needs: one of
    the four parameters is enough.

    >>> import numpy as np
    >>> from refimpl.nn import Linear, Network, gauss_newton, mean_squared_error
    >>> rng = np.random.default_rng(0)
    >>> network = Network({"fc1": Linear(3, 1, rng=rng, dtype=np.float64)})
    >>> x = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    >>> y = network.forward(x)
    >>> def hessian(network):
    ...     return gauss_newton(network, x, mean_squared_error) + 1e-9 * np.eye(4)
    >>> def is_off(network):
    ...     return abs(network.forward(x) - y).max() > 1e-3
    >>> surgeon(network, obs_removals(hessian), stop=is_off).size
    3
    """
    check_network("surgeon", network)
    check_count("surgeon", "n_tries", n_tries, 1)
    if n_remove is not None:
        check_count("surgeon", "n_remove", n_remove, 0)
    gone: list[int] = []
    while n_remove is None or len(gone) < n_remove:
        indices = _take_a_step(network, islice(removals(network), n_tries), stop, retrain)
        if not len(indices):
            break
        gone.extend(indices)
    return np.array(gone, np.int64)


def obs_removals(hessian: Callable[[Network], np.ndarray], *, at_once: int = 1) -> Removals:
    """Propose what Optimal Brain Surgeon would do, with the curvature of the network as it is.

    Parameters
    ----------
    hessian : callable
        ``hessian(network)`` returns the Hessian of the error, (n, n) for all n parameters in the
        order of `parameter_vector`, such as `refimpl.nn.gauss_newton`, damped. Rows and columns
        of pruned parameters are not looked at.
    at_once : int
        How many parameters go with one Hessian, whose inverse is down-dated between them.

    Returns
    -------
    callable
        For `surgeon`. The k-th step it proposes begins with the parameter of the k-th least
        saliency, ties to the lowest index.

    Raises
    ------
    TypeError, ValueError
        If `at_once` is no count. The callable raises as `inverse_hessian` where the Hessian of
        what is left is not positive definite.

    Notes
    -----
    A step takes the Hessian, :math:`2 n^3` FLOPs for its inverse, and 2 n for each proposal.
    """
    check_count("obs_removals", "at_once", at_once, 1)

    def removals(network: Network) -> Iterator[Removal]:
        w, kept = parameter_vector(network), kept_places(network)
        h_inv = _inverse_of_kept(hessian(network), kept)
        for first in _ranked(obs_saliency(w, h_inv), kept):
            yield _operate(w, h_inv, kept, first, at_once)

    return removals


def plain_removals(saliency: Callable[[Network], np.ndarray], *, at_once: int = 1) -> Removals:
    """Propose to set parameters to 0, the least salient first, and to leave the others alone.

    Parameters
    ----------
    saliency : callable
        ``saliency(network)`` scores all n parameters in the order of `parameter_vector`, larger
        = keep. Pruned ones are not looked at.
    at_once : int
        How many parameters go with one ranking.

    Returns
    -------
    callable
        For `surgeon`. The k-th step it proposes begins with the parameter of the k-th least
        saliency, ties to the lowest index.

    Raises
    ------
    TypeError, ValueError
        If `at_once` is no count. The callable raises if the saliency has another shape, no float
        dtype, or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))  # its biases are 0
    >>> by_magnitude = plain_removals(lambda network: abs(parameter_vector(network)))
    >>> surgeon(network, by_magnitude, stop=lambda network: False, n_remove=5).tolist()
    [12, 13, 14, 21, 22]
    """
    check_count("plain_removals", "at_once", at_once, 1)

    def removals(network: Network) -> Iterator[Removal]:
        w, kept, scores = parameter_vector(network), kept_places(network), saliency(network)
        check_array("plain_removals", "saliency", scores, shape=w.shape, dtypes=FLOAT_DTYPES)
        check_no_nan("plain_removals", "saliency", scores[kept])
        order = _ranked(scores, kept)
        for place, first in enumerate(order):
            indices = np.append(first, np.delete(order, place)[: at_once - 1])
            yield Removal(indices, np.where(np.isin(np.arange(w.size), indices), 0, w))

    return removals


def parameter_vector(network: Network) -> np.ndarray:
    """Lay all parameters of a network end to end, as `refimpl.nn.as_vector` does.

    Parameters
    ----------
    network : Network
        With a parameter.

    Returns
    -------
    ndarray of float64, shape (n,)
        A copy, pruned ones included.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> parameter_vector(mlp([4, 3, 2], rng=np.random.default_rng(0))).shape
    (23,)
    """
    values = {name: item.value for name, item in network.named_parameters().items()}
    return as_vector(values).astype(np.float64)


def kept_places(network: Network) -> np.ndarray:
    """Say of every entry of `parameter_vector` whether it is kept.

    Parameters
    ----------
    network : Network
        With a parameter.

    Returns
    -------
    ndarray of bool, shape (n,)
        False where a mask prunes. A parameter that is 0 by chance is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> int(kept_places(mlp([4, 3, 2], rng=np.random.default_rng(0))).sum())
    23
    """
    masks = [
        np.ones(item.size, bool) if item.mask is None else item.mask.ravel()
        for item in network.parameters()
    ]
    return np.concatenate(masks)


def _take_a_step(
    network: Network,
    steps: Iterator[Removal],
    stop: Callable[[Network], bool],
    retrain: Callable[[Network], object] | None,
) -> np.ndarray:
    """Take the first step that is not too far, and say what went: nothing, if all are."""
    state, masks = network.state(), [parameter.mask for parameter in network.parameters()]
    for step in steps:
        try:
            _apply(network, step)
            borne = _bears(network, stop, retrain)
        except BaseException:
            _restore(network, state, masks)
            raise
        if borne:
            return step.indices
        _restore(network, state, masks)
    return np.empty(0, np.int64)


def _bears(
    network: Network, stop: Callable[[Network], bool], retrain: Callable[[Network], object] | None
) -> bool:
    if not stop(network):
        return True
    if retrain is None:
        return False
    retrain(network)
    return not stop(network)


def _apply(network: Network, step: Removal) -> None:
    kept = kept_places(network)
    kept[step.indices] = False
    named = network.named_parameters()
    masks = as_arrays(kept.astype(np.float64), named)
    for name, value in as_arrays(step.parameters, named).items():
        named[name].mask = masks[name] != 0
        named[name].value = value.astype(named[name].dtype)


def _restore(
    network: Network, state: dict[str, np.ndarray], masks: list[np.ndarray | None]
) -> None:
    for parameter, mask in zip(network.parameters(), masks, strict=True):
        parameter.mask = mask
    network.load_state(state)


def _ranked(scores: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Positions of what is kept, the least first, equal ones in order."""
    places = np.flatnonzero(kept)
    return places[np.argsort(scores[places], kind="stable")]


def _inverse_of_kept(hessian: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The inverse of the kept block, with the rows of the identity for what is pruned."""
    check_array("obs_removals", "hessian", hessian, shape=(kept.size, kept.size))
    h_inv, block = np.eye(kept.size), np.ix_(kept, kept)
    if kept.any():
        h_inv[block] = inverse_hessian(hessian[block].astype(np.float64))
    return h_inv


def _operate(
    w: np.ndarray, h_inv: np.ndarray, kept: np.ndarray, first: int, n_remove: int
) -> Removal:
    """Remove `first`, then whatever costs least, n_remove in all or all that is left."""
    new_w = obs_update(w, h_inv, first)
    if n_remove == 1:
        return Removal(np.array([first]), new_w)
    rest = np.flatnonzero(kept & (np.arange(w.size) != first))
    block = downdate_inverse(h_inv, first)[np.ix_(rest, rest)]
    trace = obs_trace(new_w[rest], block, min(n_remove - 1, rest.size))
    new_w[rest] = trace.weights[-1]
    return Removal(np.append(first, rest[trace.order]), new_w)
