"""What does a layer see? The Hessian of its outputs, from inputs streamed in fixed memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array
from refimpl.nn import Conv2d, Linear, Network
from refimpl.nn.layer import TRAINING_DTYPES
from refimpl.prune.masking import candidate_weights

Compress = Callable[[np.ndarray, np.ndarray], np.ndarray]


def input_hessian(batches: Iterable[np.ndarray]) -> np.ndarray:
    r"""Sum up what a layer needs to know of its inputs: the Hessian of its squared output change.

    Parameters
    ----------
    batches : iterable of ndarray of float32 or float64, shape (batch, n_in)
        One input a row; read once, one after the other, such as `layer_inputs` yields them.

    Returns
    -------
    ndarray of float64, shape (n_in, n_in)
        :math:`H = \frac2n \sum_t x_t x_t^\top` over all n inputs: the second derivative of
        :math:`\frac1n \sum_t (w^\top x_t - y_t)^2` with respect to a row w of the weight, the
        same for every row.

    Raises
    ------
    TypeError
        If a batch is no array of these dtypes.
    ValueError
        If there is no input at all, the widths of two batches differ, or an input is infinite
        or NaN.

    Notes
    -----
    Summed in float64 whatever the dtype of the inputs, so that how they are cut into batches
    shows in the last digits only. :math:`2 n \, n_{in}^2` FLOPs; memory for twice the result and
    for one batch in float64, however many batches there are.

    Examples
    --------
    >>> import numpy as np
    >>> input_hessian([np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]])])
    array([[10.,  2.],
           [ 2.,  4.]])
    """
    where = "input_hessian"
    total, n_inputs = None, 0
    for position, batch in enumerate(check_batches(where, "batches", batches)):
        width = -1 if total is None else len(total)
        argument = f"batches[{position}]"
        check_array(where, argument, batch, ndim=2, shape=(-1, width), dtypes=TRAINING_DTYPES)
        x = batch.astype(np.float64)
        total = np.zeros((x.shape[1],) * 2) if total is None else total
        total += x.T @ x
        n_inputs += len(x)
    if not n_inputs:
        advice = "give the inputs of at least one example"
        raise bad_argument(where, "batches", "hold calibration data", "none", advice)
    if not np.isfinite(total).all():
        advice = "look for a division by zero or an overflow where they were computed"
        raise bad_argument(where, "batches", "be finite", "an infinite or NaN sum", advice)
    total *= 2 / n_inputs
    return total


def layer_inputs(
    network: Network, name: str, batches: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield what one weight of a network is multiplied with, batch by batch.

    Parameters
    ----------
    network : Network
        Runs forward, as when not training; its parameters stay as they are.
    name : str
        Of the weight of a `Linear` or a `Conv2d`, such as ``"fc2.weight"``.
    batches : iterable of ndarray, shape (batch, ...)
        Inputs of the network, read once.

    Yields
    ------
    ndarray, shape (n, n_in)
        ``n_in`` columns in the order of ``weight.reshape(n_out, n_in)``. A convolution's rows
        are its patches. May be the layer's own array: do not write to it.

    Raises
    ------
    TypeError, ValueError
        If `name` names no such weight, `batches` is no iterable of inputs, or the convolution
        is depthwise.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import lenet5
    >>> network = lenet5(rng=np.random.default_rng(0))
    >>> images = np.zeros((2, 1, 28, 28), dtype=np.float32)
    >>> next(layer_inputs(network, "conv1.weight", [images])).shape  # 2 x 24 x 24 patches
    (1152, 25)
    """
    where = "layer_inputs"
    layer = _multiplying_layer(where, network, name)
    for batch in check_batches(where, "batches", batches):
        network.forward(batch)
        yield layer.input_rows()


def prune_layers(
    network: Network,
    batches: Iterable[np.ndarray],
    compress: Compress,
    *,
    ignore: Collection[str] = (),
) -> None:
    """Prune a network layer by layer, each with the inputs that the pruned ones before it leave.

    Parameters
    ----------
    network : Network
        Of linear layers and convolutions; their weights and masks change in place, from the
        first to the last.
    batches : iterable of ndarray, shape (batch, ...)
        Calibration inputs of the network. Kept in a list, since every layer reads them anew.
    compress : callable
        ``compress(w, hessian) -> new_w``, such as ``functools.partial(sparsegpt, sparsity=0.5)``:
        it takes a matrix (n_out, n_in) and the `input_hessian` of its layer, and what it sets to
        0 is pruned.
    ignore : collection of str
        Names of weights to leave alone.

    Raises
    ------
    TypeError, ValueError
        As `layer_inputs`, `input_hessian` and `compress`, with the name of the weight, and if
        what `compress` returns has another shape, infinity or NaN. After any exception, an
        interrupt too, the network is as it was.

    Notes
    -----
    A convolution is shown as the matrix (c_out, kh * kw * c_in), input channels side by side: so
    N:M patterns run along them, as `refimpl.masks.n_of_m` has it. What is pruned already stays
    pruned: a value that `compress` gives it is dropped, and does not make up for others. One pass
    of all batches through the network for each weight.

    References
    ----------
    Frantar and Alistarh (2023), section 4.1: layers in sequence, each seeing the outputs of the
    compressed ones before it.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.masks import unstructured
    >>> from refimpl.nn import mlp
    >>> rng = np.random.default_rng(0)
    >>> network = mlp([8, 4, 2], rng=rng)
    >>> def half(w, hessian):
    ...     return np.where(unstructured(abs(w), 0.5), w, 0)
    >>> prune_layers(network, [rng.normal(size=(16, 8)).astype(np.float32)], half)
    >>> [int(weight.mask.sum()) for weight in network.weights().values()]
    [16, 4]
    """
    where = "prune_layers"
    weights = candidate_weights(where, network, ignore)
    batches = list(check_batches(where, "batches", batches))
    before = [(weight.value.copy(), weight.mask) for weight in weights.values()]
    try:
        for name in weights:
            _prune_layer(network, name, batches, compress)
    except BaseException as error:
        for weight, (value, mask) in zip(weights.values(), before, strict=True):
            weight.mask, weight.value = mask, value
        error.add_note(
            f"prune_layers: this was {name}; the network is as it was before. "
            f'ignore=["{name}"] leaves it out.'
        )
        raise


def check_batches(where: str, argument: str, batches: Any) -> Iterable[np.ndarray]:
    """Refuse what would be read as a batch for every example.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    batches : iterable of ndarray
        An array itself is refused.

    Returns
    -------
    iterable of ndarray
        The same `batches`.

    Raises
    ------
    TypeError
        In one sentence.
    """
    if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
        advice = "put one batch into a list, [x]"
        actual = type(batches).__name__
        raise bad_argument(
            where, argument, "be an iterable of batches", actual, advice, kind=TypeError
        )
    return batches


def _prune_layer(
    network: Network, name: str, batches: list[np.ndarray], compress: Compress
) -> None:
    weight = network.weights()[name]
    hessian = input_hessian(layer_inputs(network, name, batches))
    order = _channels_last(weight.shape)
    w = weight.value.reshape(len(weight.value), -1)[:, order]
    new_w = compress(w, hessian[np.ix_(order, order)])
    check_array(
        "prune_layers", "what compress returns", new_w, shape=w.shape, dtypes=TRAINING_DTYPES
    )
    value = np.empty_like(w)
    value[:, order] = new_w
    if not np.isfinite(value).all():
        advice = "look for a division by zero or an overflow in it"
        argument, actual = "what compress returns", f"infinity or NaN as {value.dtype}"
        raise bad_argument("prune_layers", argument, "be finite", actual, advice)
    kept = (value != 0).reshape(weight.shape)
    weight.mask = kept if weight.mask is None else kept & weight.mask
    weight.value = value.reshape(weight.shape)


def _channels_last(shape: tuple[int, ...]) -> np.ndarray:
    """Columns of a weight as a matrix, ordered (kh, kw, c_in); as they are in a linear layer."""
    places = np.arange(math.prod(shape[1:])).reshape(shape[1:])
    return np.moveaxis(places, 0, -1).ravel()


def _multiplying_layer(where: str, network: Network, name: Any) -> Linear | Conv2d:
    candidate_weights(where, network, ())
    layers = {f"{key}.weight": layer for key, layer in network.named_layers().items()}
    layer = layers.get(name) if isinstance(name, str) else None
    if not isinstance(layer, Linear | Conv2d):
        named = [key for key, item in layers.items() if isinstance(item, Linear | Conv2d)]
        requirement = f"name the weight of a Linear or Conv2d among {named}"
        raise bad_argument(where, "name", requirement, repr(name), "give one of these")
    return layer
