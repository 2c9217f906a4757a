"""What does a matrix product cost: operations, bytes, and the time they need at least?

Everything here is arithmetic on sizes. Nothing is measured, so the numbers hold on any machine.
"""

from __future__ import annotations

from refimpl.arrays import check_count, check_positive


def matmul_flops(n_out: int, n_in: int, batch: int, nnz: int | None = None) -> int:
    """Count the operations of ``W @ X``: one multiplication and one addition per weight and input.

    Parameters
    ----------
    n_out, n_in : int
        Shape of the weight ``W``.
    batch : int
        Columns of ``X``.
    nnz : int, optional
        Stored weights of a sparse ``W``, at most ``n_out * n_in``; all of them if left out.

    Returns
    -------
    int
        Floating-point operations.

    Raises
    ------
    TypeError, ValueError
        If an argument is no count, or `nnz` exceeds the number of weights.

    Notes
    -----
    ``2 * nnz * batch``. The first addition of each output starts from 0 and could be saved;
    by custom it is counted.

    Examples
    --------
    >>> matmul_flops(3, 3, 3), matmul_flops(3, 3, 3, nnz=5)
    (54, 30)
    """
    _check_sizes("matmul_flops", n_out=n_out, n_in=n_in, batch=batch)
    n_weights = int(n_out) * int(n_in)
    nnz = n_weights if nnz is None else nnz
    check_count("matmul_flops", "nnz", nnz, 0, n_weights)
    return 2 * int(nnz) * int(batch)


def matmul_bytes(n_out: int, n_in: int, batch: int, *, weight_bytes: int, itemsize: int = 4) -> int:
    """Count the bytes that ``W @ X`` has to move at least: W and X in, the product out.

    Parameters
    ----------
    n_out, n_in : int
        Shape of the weight ``W``.
    batch : int
        Columns of ``X``.
    weight_bytes : int
        Bytes of ``W`` as it is stored: the ``nbytes`` of an array or a format, or a count from
        `refimpl.formats`, such as `csr_bytes`.
    itemsize : int
        Bytes of one number of ``X`` and of the product; 4 for float32.

    Returns
    -------
    int
        Bytes, each array counted once: a cache large enough moves no more.

    Raises
    ------
    TypeError, ValueError
        If an argument is no count.

    Examples
    --------
    >>> matmul_bytes(3, 3, 3, weight_bytes=9 * 4)
    108
    """
    sizes = {"n_out": n_out, "n_in": n_in, "batch": batch}
    _check_sizes("matmul_bytes", **sizes, weight_bytes=weight_bytes, itemsize=itemsize)
    return int(weight_bytes) + (int(n_in) + int(n_out)) * int(batch) * int(itemsize)


def arithmetic_intensity(flops: float, bytes_moved: float) -> float:
    """Say how many operations a computation does for every byte it moves.

    Parameters
    ----------
    flops : float
        Operations, at least 0.
    bytes_moved : float
        Bytes, above 0.

    Returns
    -------
    float
        Operations per byte.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number, out of range, NaN or infinite.

    Examples
    --------
    >>> arithmetic_intensity(matmul_flops(3, 3, 3), 108)
    0.5
    """
    check_positive("arithmetic_intensity", "flops", flops, zero_allowed=True)
    check_positive("arithmetic_intensity", "bytes_moved", bytes_moved)
    return flops / bytes_moved


def roofline_bound(intensity: float, *, peak_flops: float, bandwidth: float) -> float:
    """Bound the operations a second: by the arithmetic units, or by the memory that feeds them.

    Parameters
    ----------
    intensity : float
        Operations per byte, from `arithmetic_intensity`, at least 0.
    peak_flops : float
        Most operations a second that the machine can do, above 0.
    bandwidth : float
        Most bytes a second that its memory delivers, above 0.

    Returns
    -------
    float
        Operations a second.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number, out of range, NaN or infinite.

    Notes
    -----
    ``min(peak_flops, intensity * bandwidth)``. The two meet at the ridge,
    ``intensity = peak_flops / bandwidth``; below it the memory decides.

    References
    ----------
    Williams, Waterman and Patterson (2009), "Roofline: an insightful visual performance model
    for multicore architectures", the formula under "The Roofline Model".

    Examples
    --------
    >>> roofline_bound(0.5, peak_flops=100e9, bandwidth=10e9)
    5000000000.0
    """
    check_positive("roofline_bound", "intensity", intensity, zero_allowed=True)
    check_positive("roofline_bound", "peak_flops", peak_flops)
    check_positive("roofline_bound", "bandwidth", bandwidth)
    return min(peak_flops, intensity * bandwidth)


def _check_sizes(where: str, **sizes: int) -> None:
    for argument, size in sizes.items():
        check_count(where, argument, size, 0)
