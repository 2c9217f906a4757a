"""How well does every criterion choose, and how well is its choice repaired: synthetic layers.

One layer of 32 x 64 weights with correlated inputs, every method of the package on it, and for
each the relative error of the outputs in three versions: with the weights that it keeps as they
were, with its own compensation, and with the best weights that its mask allows. The difference
between the first and the last is what a mask is worth; what lies between them, what a repair is.
A run takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refimpl.masks import n_of_m, row_wise, unstructured
from refimpl.prune import (
    damp,
    exact_obs,
    input_hessian,
    inverse_hessian,
    layerwise_obs,
    least_squares_refit,
    reconstruction_error,
    sparsegpt,
)
from refimpl.prune.exact_obs import without_dead_inputs
from refimpl.saliency import magnitude, obd, obs, random, taylor, wanda

BLOCK_SIZES = (8, 16, 32, 64)  # 64 is the whole layer
LOUD = {"n_loud": 4, "factor": 10.0}  # inputs that are larger than the others
SETTINGS = (
    {"pattern": {"sparsity": 0.5}},
    {"pattern": {"n": 2, "m": 4}},
    {"pattern": {"sparsity": 0.5}, "loud": LOUD},
    {"pattern": {"n": 2, "m": 4}, "loud": LOUD},
)
SEEDS = tuple(range(10))

Rule = Callable[[np.ndarray], np.ndarray]


class Layer(NamedTuple):
    """What a criterion may look at. Every array belongs to one layer, its weight as a matrix.

    Attributes
    ----------
    w : ndarray of float64, shape (n_out, n_in)
        The weight.
    hessian : ndarray of float64, shape (n_in, n_in)
        Of the layer's outputs, as `refimpl.prune.input_hessian` returns.
    dw : ndarray of float64, shape of `w`
        Gradient of the loss: the mean over the examples.
    fisher : ndarray of float64, shape of `w`
        Mean square of the gradients of single examples, the diagonal of the empirical Fisher.
    curvature : ndarray of float64, shape of `w`
        Diagonal of the Hessian of the loss.
    """

    w: np.ndarray
    hessian: np.ndarray
    dw: np.ndarray
    fisher: np.ndarray
    curvature: np.ndarray


class Candidate(NamedTuple):
    """What one method makes of a layer: its mask, and the weight that it returns, if it has one."""

    name: str
    mask: np.ndarray
    repaired: np.ndarray | None = None


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    r"""Draw a layer, prune it by every method, and measure three versions of each.

    Parameters
    ----------
    setting : dict
        ``pattern``, a dict of ``sparsity`` or of ``n`` and ``m``; perhaps ``loud``, as `LOUD`.
    seed : int
        Draws everything.

    Returns
    -------
    dict of str to float
        ``"{name}: {version}, {inputs}"``, with the names of `candidates`, the versions of
        `versions`, and the inputs ``seen``, those that the methods saw, or ``new``, as many
        others: :math:`\lVert (W - W') X \rVert_F^2 / \lVert W X \rVert_F^2`.
    """
    rng = np.random.default_rng(seed)
    layer, new = synthetic_layer(rng, **setting.get("loud", {}))
    found = candidates(layer, setting["pattern"], rng, block_sizes=BLOCK_SIZES)
    return {
        f"{name}: {version}, {inputs}": round(relative_error(layer.w, w, hessian), 6)
        for name, version, w in versions(layer, found)
        for inputs, hessian in (("seen", layer.hessian), ("new", new))
    }


def synthetic_layer(
    rng: np.random.Generator,
    *,
    n_out: int = 32,
    n_in: int = 64,
    n_examples: int = 512,
    n_loud: int = 0,
    factor: float = 1.0,
) -> tuple[Layer, np.ndarray]:
    r"""Draw a layer whose inputs are mixtures of each other, and that has learned its task.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws it.
    n_out, n_in, n_examples : int
        Sizes, at least 1.
    n_loud : int
        Inputs that are multiplied.
    factor : float
        By this.

    Returns
    -------
    Layer
        Of the inputs that the methods see.
    ndarray of float64, shape (n_in, n_in)
        Hessian of as many inputs that they do not see.

    Notes
    -----
    Inputs are :math:`x = A z` with :math:`A` and :math:`z` Gaussian. The loss is
    :math:`\lVert W x - y \rVert^2` with :math:`y = W x + \epsilon`, so that W is right and only
    noise of deviation 1 is left: :math:`g_t = -2 \epsilon_t x_t^\top`, with mean near 0.
    """
    w = rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)
    mixture = rng.normal(size=(n_in, n_in)) / np.sqrt(n_in)
    mixture[:, rng.choice(n_in, n_loud, replace=False)] *= factor
    x, new = (rng.normal(size=(n_examples, n_in)) @ mixture for _ in range(2))
    noise = rng.normal(size=(n_examples, n_out))
    hessian = input_hessian([x])
    layer = Layer(
        w,
        hessian,
        dw=-2 * noise.T @ x / n_examples,
        fisher=4 * (noise**2).T @ x**2 / n_examples,
        curvature=np.broadcast_to(hessian.diagonal(), w.shape),
    )
    return layer, input_hessian([new])


def candidates(
    layer: Layer,
    pattern: dict[str, Any],
    rng: np.random.Generator,
    *,
    block_sizes: tuple[int, ...],
) -> Iterator[Candidate]:
    """Prune a layer by every method there is.

    Parameters
    ----------
    layer : Layer
        It is left as it is.
    pattern : dict
        ``sparsity``, or ``n`` and ``m``.
    rng : numpy.random.Generator
        Draws the random mask.
    block_sizes : tuple of int
        Columns among which SparseGPT chooses; with `n` and `m` it chooses within groups.

    Yields
    ------
    Candidate
        With a repaired weight only where the method has a repair of its own.
    """
    yield from by_score(layer, pattern, rng)
    yield by_obs(layer, pattern)
    if "sparsity" in pattern:
        for size in block_sizes:
            w = sparsegpt(layer.w, layer.hessian, block_size=size, **pattern)
            yield Candidate(f"SparseGPT, {size} columns", w != 0, w)
    else:
        w = sparsegpt(layer.w, layer.hessian, **pattern)
        yield Candidate("SparseGPT", w != 0, w)
    w = exact_obs(layer.w, layer.hessian, **pattern)
    yield Candidate("exact OBS", w != 0, w)


def by_score(layer: Layer, pattern: dict[str, Any], rng: np.random.Generator) -> list[Candidate]:
    """Choose masks by the criteria that score each weight once, and repair nothing.

    Parameters
    ----------
    layer, pattern, rng
        As for `candidates`.

    Returns
    -------
    list of Candidate
        Those by row are left out where the pattern has groups of its own.
    """
    w, of_layer, of_rows = layer.w, *rules(pattern)
    norms = np.sqrt(layer.hessian.diagonal())
    scores = {
        "random": random(w.shape, rng),
        "magnitude": magnitude(w),
        "Taylor": taylor(w, layer.dw),
        "Fisher": obd(w, layer.fisher),
        "OBD": obd(w, layer.curvature),
    }
    found = [Candidate(name, of_layer(score)) for name, score in scores.items()]
    if of_rows is not of_layer:
        found.append(Candidate("magnitude by row", of_rows(magnitude(w))))
    return [*found, Candidate("Wanda", of_rows(wanda(w, norms)))]


def by_obs(layer: Layer, pattern: dict[str, Any]) -> Candidate:
    """Rank once by the saliency of OBS; for a fraction of the layer, with the repair of L-OBS.

    Weights of dead inputs go first, as they do in the methods that come with the package: what
    damping gives such an input says nothing of it.

    Parameters
    ----------
    layer, pattern
        As for `candidates`.

    Returns
    -------
    Candidate
        ``L-OBS``.
    """
    w, damped = without_dead_inputs("by_obs", layer.w, layer.hessian, damping=0.01)
    h_inv = inverse_hessian(damped)
    mask = rules(pattern)[0](obs(w, h_inv))
    if "sparsity" not in pattern:
        return Candidate("L-OBS", mask)
    return Candidate("L-OBS", mask, layerwise_obs(w, h_inv, int((~mask).sum())))


def rules(pattern: dict[str, Any]) -> tuple[Rule, Rule]:
    """Give the two ways to turn scores into a mask.

    Parameters
    ----------
    pattern : dict
        ``sparsity``, or ``n`` and ``m``.

    Returns
    -------
    callable, callable
        ``rule(saliency) -> mask``, by the whole layer and by row. With `n` and `m` one and the
        same.
    """
    if "sparsity" not in pattern:
        return (partial(n_of_m, **pattern),) * 2
    return partial(unstructured, **pattern), partial(row_wise, **pattern)


def versions(layer: Layer, found: Iterable[Candidate]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Give each candidate as masked, as repaired by its method, and as refitted.

    Parameters
    ----------
    layer : Layer
        The one that the candidates come from.
    found : iterable of Candidate
        Such as `candidates` yields.

    Yields
    ------
    str, str, ndarray
        The candidate's name; ``mask``, ``own`` (where there is one) or ``refit``; the weight.

    Notes
    -----
    The refit is that of the damped Hessian, as all methods damp it.
    """
    damped = damp(layer.hessian)
    for name, mask, repaired in found:
        yield name, "mask", np.where(mask, layer.w, 0.0)
        if repaired is not None:
            yield name, "own", repaired
        yield name, "refit", least_squares_refit(layer.w, mask, damped)


def relative_error(w: np.ndarray, new_w: np.ndarray, hessian: np.ndarray) -> float:
    """Measure how far the outputs of a layer move, in units of their size.

    Parameters
    ----------
    w, new_w : ndarray of float64, shape (n_out, n_in)
        Before and after.
    hessian : ndarray of float64, shape (n_in, n_in)
        Of the inputs.

    Returns
    -------
    float
        0 for no change, 1 for a layer that puts out nothing any more.
    """
    whole = reconstruction_error(w, np.zeros_like(w), hessian)
    return reconstruction_error(w, new_w, hessian) / whole
