"""Layer budgets: how many weights each layer keeps, with a total that is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
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
from refimpl.masks.select import count_kept, keep_top_k

Shapes = Sequence[Sequence[int]]
SHAPES_ADVICE = "give one for each layer, as in [(300, 784), (100, 300)]"


def uniform_counts(shapes: Shapes, sparsity: float, *, allow_empty: bool = False) -> list[int]:
    r"""Share out the weights to keep so that every layer has the same density.

    Parameters
    ----------
    shapes : sequence of sequence of int
        One weight shape a layer, ``(n_out, n_in)`` or ``(c_out, c_in, kh, kw)``; two axes or
        more, each length at least 1.
    sparsity : float
        Fraction of all weights together to remove, in ``[0, 1)``.
    allow_empty : bool
        Whether a layer may get no weight at all. If not, each gets at least one.

    Returns
    -------
    list of int
        Weights that each layer keeps, in the order given: none above the layer's size, and
        ``count_kept(total size, sparsity)`` in all.

    Raises
    ------
    TypeError, ValueError
        If `shapes` is no sequence of shapes, `sparsity` no fraction below 1, or fewer weights
        than layers are left while `allow_empty` is false.

    See Also
    --------
    refimpl.prune.budgeted_masks : Give a network these counts.

    Notes
    -----
    Layer :math:`l` of :math:`n_l` weights has a claim :math:`a_l`; here :math:`a_l = n_l`.
    Up to rounding it keeps :math:`\min(\lambda a_l, n_l)` weights, with the one multiplier
    :math:`\lambda` that makes the total exact: what a full layer cannot take goes to the
    others.

    Rounded is by the divisor method of Webster and Sainte-Laguë: of all layers' weights the
    next one goes where :math:`a_l / (k_l + \tfrac12)` is largest, with :math:`k_l` given so
    far; ties go to the earlier layer, and without `allow_empty` the first of every layer comes
    before all others. One fixed order for every sparsity: *no count rises when the sparsity
    does*, so budgets can be tightened step by step. (Largest remainders lack that: the Alabama
    paradox.) The arithmetic is exact. For `L` layers of any size: O(L²) time.

    References
    ----------
    Balinski and Young (2001), *Fair Representation*: divisor methods and their monotony.

    Examples
    --------
    >>> uniform_counts([(300, 784), (100, 300), (10, 100)], 0.9)
    [23520, 3000, 100]
    """
    sizes = [math.prod(shape) for shape in _checked_shapes("uniform_counts", shapes)]
    return _apportion("uniform_counts", sizes, sizes, sparsity, allow_empty)


def erdos_renyi_counts(shapes: Shapes, sparsity: float, *, allow_empty: bool = False) -> list[int]:
    r"""Share out the weights to keep in proportion to each layer's inputs and outputs (ER).

    Parameters
    ----------
    shapes, sparsity, allow_empty
        As `uniform_counts`.

    Returns
    -------
    list of int
        As `uniform_counts`. A small layer may be dense.

    Raises
    ------
    TypeError, ValueError
        As `uniform_counts`.

    Notes
    -----
    The density of a layer is proportional to :math:`(n_\mathrm{in} + n_\mathrm{out}) /
    (n_\mathrm{in} \, n_\mathrm{out})`, and 1 where that would exceed 1. For a convolution, the
    channels are what is counted, and the kernel is not, so the claim is
    :math:`a_l = (n_\mathrm{in} + n_\mathrm{out}) \, k_h k_w`. Rounding as `uniform_counts`.

    References
    ----------
    Mocanu et al. (2018): sparse layers as Erdős-Rényi random graphs. Evci et al. (2020),
    section 3: other layers are scaled up when one is full. Differs from both in exact counts
    in place of expected or rounded ones.

    Examples
    --------
    >>> erdos_renyi_counts([(300, 784), (100, 300), (10, 100)], 0.9)
    [18714, 6906, 1000]
    """
    shapes = _checked_shapes("erdos_renyi_counts", shapes)
    claims = [(n_out + n_in) * math.prod(kernel) for n_out, n_in, *kernel in shapes]
    sizes = [math.prod(shape) for shape in shapes]
    return _apportion("erdos_renyi_counts", claims, sizes, sparsity, allow_empty)


def erdos_renyi_kernel_counts(
    shapes: Shapes, sparsity: float, *, allow_empty: bool = False
) -> list[int]:
    r"""Share out the weights to keep in proportion to the sum of each layer's lengths (ERK).

    Parameters
    ----------
    shapes, sparsity, allow_empty
        As `uniform_counts`.

    Returns
    -------
    list of int
        As `uniform_counts`. A small layer may be dense.

    Raises
    ------
    TypeError, ValueError
        As `uniform_counts`.

    Notes
    -----
    The density of a convolution is proportional to :math:`(n_\mathrm{in} + n_\mathrm{out} +
    k_h + k_w) / (n_\mathrm{in} \, n_\mathrm{out} \, k_h k_w)`, and 1 where that would exceed 1,
    so the claim :math:`a_l` is the sum of the shape. Shapes of two axes get what
    `erdos_renyi_counts` gives them. A 1 by 1 convolution does not: its claim is larger by 2
    than that of the linear layer with the same weights. Rounding as `uniform_counts`.

    References
    ----------
    Evci et al. (2020), section 3, "Erdős-Rényi-Kernel". Differs from their code, which rounds
    layer by layer, in the exact total.

    Examples
    --------
    >>> erdos_renyi_kernel_counts([(20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)], 0.9)
    [500, 2177, 35373, 5000]
    """
    shapes = _checked_shapes("erdos_renyi_kernel_counts", shapes)
    claims = [sum(shape) for shape in shapes]
    sizes = [math.prod(shape) for shape in shapes]
    return _apportion("erdos_renyi_kernel_counts", claims, sizes, sparsity, allow_empty)


def global_counts(
    saliencies: Sequence[np.ndarray], sparsity: float, *, allow_empty: bool = False
) -> list[int]:
    """Count what each layer keeps under one ranking over all layers, none of them emptied.

    Parameters
    ----------
    saliencies : sequence of ndarray of float16, float32 or float64
        One array a layer, of any shapes, on one device, without NaN.
    sparsity : float
        Fraction of all entries together to remove, in ``[0, 1)``.
    allow_empty : bool
        Whether a layer may lose everything. If not, each layer keeps its best entry, and the
        rest are ranked as if they were one array.

    Returns
    -------
    list of int
        Entries that each array keeps; ``count_kept(total size, sparsity)`` in all.

    Raises
    ------
    TypeError, ValueError
        If a saliency is no float array, holds NaN, or holds nothing while `allow_empty` is
        false; if `sparsity` is no fraction below 1, or keeps fewer entries than layers while
        `allow_empty` is false.

    See Also
    --------
    refimpl.masks.global_unstructured : The masks, with `allow_empty`.

    Notes
    -----
    Ties go to the lowest index, an earlier array before a later one. The `k` entries of
    largest saliency in each layer, `k` its count, are the selection; no count rises when the
    sparsity does. O(n) time for n entries, and three copies of all saliencies.

    Examples
    --------
    >>> import numpy as np
    >>> small, large = np.full(4, 0.1), np.full(4, 10.0)
    >>> global_counts([small, large], 0.5), global_counts([small, large], 0.5, allow_empty=True)
    ([1, 3], [0, 4])
    """
    where, saliencies = "global_counts", list(saliencies)
    for position, saliency in enumerate(saliencies):
        _check_saliency(where, f"saliencies[{position}]", saliency, allow_empty)
    n_keep = _checked_total(where, [item.size for item in saliencies], sparsity, allow_empty)
    if not saliencies:
        return []
    xp, spared = xp_of(*saliencies), 0 if allow_empty else 1
    ranked = [xp.ravel(saliency) for saliency in saliencies]
    if not allow_empty:
        ranked = [xp.delete(entries, int(entries.argmax())) for entries in ranked]
    mask = keep_top_k(xp.concatenate(ranked), n_keep - spared * len(ranked))
    ends = np.cumsum([entries.size for entries in ranked]).tolist()
    return [spared + int(part.sum()) for part in xp.split(mask, ends[:-1])]


def _apportion(
    where: str, claims: list[int], sizes: list[int], sparsity: float, allow_empty: bool
) -> list[int]:
    """Share out in proportion to `claims`, none above its size, as `uniform_counts` says."""
    n_keep = _checked_total(where, sizes, sparsity, allow_empty)
    if not sizes:
        return []
    # Rounding adds at most 1 to a share. So the shares of L weights fewer, rounded, are not
    # too many, and they are the first in the order: all of priority 1 / level and above.
    level = _water_level(claims, sizes, max(n_keep - len(sizes), 0))
    shares = [min(level * claim, size) for claim, size in zip(claims, sizes, strict=True)]
    least = 0 if allow_empty else 1
    counts = [max(least, math.floor(share + Fraction(1, 2))) for share in shares]
    for _ in range(n_keep - sum(counts)):
        not_full = [i for i, size in enumerate(sizes) if counts[i] < size]
        first = max(not_full, key=lambda i: Fraction(claims[i], 2 * counts[i] + 1))
        counts[first] += 1
    return counts


def _water_level(claims: list[int], sizes: list[int], n_keep: int) -> Fraction:
    """Find the multiplier at which ``min(level * claim, size)`` adds up to `n_keep`."""
    full: set[int] = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in full]
        left = n_keep - sum(sizes[i] for i in full)
        level = Fraction(left, sum(claims[i] for i in free))
        overfull = {i for i in free if level * claims[i] > sizes[i]}
        if not overfull:
            return level
        full |= overfull  # they are dense, and the others are scaled up


def _checked_total(where: str, sizes: list[int], sparsity: float, allow_empty: bool) -> int:
    """Count what all layers keep together, or refuse a count too small for them."""
    check_fraction(where, "sparsity", sparsity)
    n_keep = count_kept(sum(sizes), sparsity)
    if n_keep < len(sizes) and not allow_empty:
        requirement = f"leave a weight for each of {len(sizes)} layers"
        actual = f"{sparsity}, which keeps {n_keep} of {sum(sizes)}"
        advice = "lower it, or pass allow_empty=True"
        raise bad_argument(where, "sparsity", requirement, actual, advice)
    return n_keep


def _checked_shapes(where: str, shapes: Any) -> list[tuple[int, ...]]:
    """List the shapes as tuples of Python integers, which no product overflows."""
    if not isinstance(shapes, Sequence):
        requirement, actual = "be a list of shapes", type(shapes).__name__
        raise bad_argument(where, "shapes", requirement, actual, SHAPES_ADVICE, kind=TypeError)
    for position, shape in enumerate(shapes):
        _check_shape(where, f"shapes[{position}]", shape)
    return [tuple(int(length) for length in shape) for shape in shapes]


def _check_shape(where: str, argument: str, shape: Any) -> None:
    requirement = "be a shape of two axes or more"
    if not isinstance(shape, tuple | list):
        actual = repr(shape)
        raise bad_argument(where, argument, requirement, actual, SHAPES_ADVICE, kind=TypeError)
    if len(shape) < 2:
        raise bad_argument(where, argument, requirement, shape, SHAPES_ADVICE)
    for length in shape:
        check_count(where, f"a length in {argument}", length, 1)


def _check_saliency(where: str, argument: str, saliency: Any, allow_empty: bool) -> None:
    check_array(where, argument, saliency, dtypes=FLOAT_DTYPES)
    check_no_nan(where, argument, saliency)
    if not saliency.size and not allow_empty:
        advice = "leave such a layer out, or pass allow_empty=True"
        raise bad_argument(where, argument, "hold an entry to keep", "none", advice)
