"""What do masks, spreads and bounds look like? The book's figures, in one style.

Every helper draws on the axes it is given and returns them. The colours are those of Okabe and
Ito, which readers with any kind of colour vision can tell apart; every series also has a marker
and a dash pattern of its own. Needs matplotlib: ``pip install refimpl[book]``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
except ModuleNotFoundError as error:
    raise bad_argument(
        "refimpl.plotting",
        "Python",
        "have matplotlib",
        f"no module {error.name}",
        "install it with: pip install 'refimpl[book]'",
        kind=ModuleNotFoundError,
    ) from error

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
KEPT, PRUNED = COLORS[0], "#E6E6E6"


def plot_mask(ax: Axes, mask: np.ndarray) -> Axes:
    """Draw a mask as a grid of squares: dark where a weight is kept, light where it is pruned.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Drawn on.
    mask : ndarray of bool, shape (n_out, n_in)
        True = kept.

    Returns
    -------
    matplotlib.axes.Axes
        The same `ax`.

    Raises
    ------
    TypeError, ValueError
        If `mask` is no two-dimensional array of bool.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> ax = plot_mask(Figure().subplots(), np.eye(3, dtype=bool))
    >>> len(ax.images)
    1
    """
    check_array("plot_mask", "mask", mask, ndim=2, dtypes=(np.bool_,))
    n_out, n_in = mask.shape
    ax.imshow(mask, cmap=ListedColormap([PRUNED, KEPT]), vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xticks(np.arange(n_in + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n_out + 1) - 0.5, minor=True)
    if max(mask.shape) <= 64:  # a line between squares that are large enough for it
        ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def plot_with_spread(
    ax: Axes, x: Sequence[float], samples: np.ndarray, *, label: str, series: int = 0
) -> Axes:
    """Draw the mean over seeds as a line, and one standard deviation around it as a band.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Drawn on.
    x : sequence of float, length n_x
        Where the samples were taken.
    samples : ndarray of float, shape (n_seeds, n_x)
        One row for each seed. With a single seed there is no band.
    label : str
        Names the line in the legend.
    series : int
        Chooses colour, marker and dashes: another one for each line of a figure, from 0.

    Returns
    -------
    matplotlib.axes.Axes
        The same `ax`.

    Raises
    ------
    TypeError, ValueError
        If `samples` has another shape, or `series` is no count.

    Notes
    -----
    The deviation divides by n - 1.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> ax = plot_with_spread(Figure().subplots(), [0, 1], np.ones((3, 2)), label="ones")
    >>> ax.lines[0].get_label()
    'ones'
    """
    check_array("plot_with_spread", "samples", samples, shape=(-1, len(x)))
    check_count("plot_with_spread", "series", series, 0)
    style = series % len(COLORS)
    color, mean = COLORS[style], samples.mean(axis=0)
    ax.plot(x, mean, color=color, marker=MARKERS[style], linestyle=DASHES[style], ms=5, label=label)
    if len(samples) > 1:
        sd = samples.std(axis=0, ddof=1)
        ax.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.2, linewidth=0)
    return _with_light_grid(ax)


def plot_roofline(
    ax: Axes,
    *,
    peak_flops: float,
    bandwidth: float,
    points: Mapping[str, tuple[float, float | None]],
) -> Axes:
    """Draw the roofline of a machine, and where computations lie under it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Drawn on, with logarithmic scales.
    peak_flops : float
        Operations a second, above 0: the flat roof.
    bandwidth : float
        Bytes a second, above 0: the slope of the slanted roof.
    points : mapping of str to (float, float or None)
        Label -> operations per byte and operations a second, both above 0. None for the
        second puts the point on the roof itself: what it could reach at most.

    Returns
    -------
    matplotlib.axes.Axes
        The same `ax`.

    Raises
    ------
    ValueError
        If there is no point, or a number is not positive and finite.

    References
    ----------
    Williams, Waterman and Patterson (2009), figure 1.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = plot_roofline(Figure().subplots(), peak_flops=100.0, bandwidth=10.0,
    ...                    points={"SpMV": (0.25, None)})
    >>> float(ax.lines[-1].get_ydata()[0])
    2.5
    """
    _check_roofline(peak_flops, bandwidth, points)
    ridge = peak_flops / bandwidth
    intensities = [intensity for intensity, _ in points.values()]
    low, high = min([*intensities, ridge]) / 4, max([*intensities, ridge]) * 4
    roof = [(low, low * bandwidth), (ridge, peak_flops), (high, peak_flops)]
    ax.plot(*zip(*roof, strict=True), color="black", linewidth=1.5, label="roof")
    for series, (label, (intensity, reached)) in enumerate(points.items()):
        style = series % len(COLORS)
        bound = min(peak_flops, intensity * bandwidth)
        ax.plot(
            [intensity],
            [bound if reached is None else reached],
            color=COLORS[style],
            marker=MARKERS[style],
            linestyle="none",
            ms=8,
            label=label,
        )
    ax.set(xscale="log", yscale="log", xlabel="FLOPs per byte", ylabel="FLOPs per second")
    return _with_light_grid(ax)


def sparsity_slider(
    frames: Sequence[Mapping[str, Any]],
    *,
    metrics: Mapping[str, str] | None = None,
    total: int | None = None,
    start: int = 0,
) -> str:
    """Make the book's slider: drag the sparsity, and see mask, count and accuracy change.

    Parameters
    ----------
    frames : sequence of mapping
        At least one, in the order of the slider. Each has ``sparsity`` (float in [0, 1]),
        ``kept`` (int), ``mask`` (ndarray of bool, shape (n_rows, n_columns), the same in all
        frames) and one finite number for each key of `metrics`.
    metrics : mapping of str to str, optional
        Key in the frames -> words for the reader; ``{"accuracy": "test accuracy"}`` if left
        out.
    total : int, optional
        What ``kept`` counts from. The size of the mask if left out; larger where the picture
        shows only a part.
    start : int
        The frame shown first, and in print.

    Returns
    -------
    str
        HTML for ``IPython.display.HTML``. Without JavaScript it is one sentence about the
        first and the last frame.

    Raises
    ------
    TypeError, ValueError
        If there is no frame, a key is missing, masks differ in shape, a metric is not finite,
        or `start` is out of range.

    Notes
    -----
    ``book/_static/sparsity-slider.js`` reads the JSON inside: ``shape``, ``total``, ``start``,
    ``metrics`` as ``[key, label]`` pairs, and ``frames`` with ``mask`` as a string of 0 and 1,
    row by row.

    Examples
    --------
    >>> import numpy as np
    >>> frame = {"sparsity": 0.5, "kept": 2, "mask": np.eye(2, dtype=bool), "accuracy": 0.9}
    >>> "1001" in sparsity_slider([frame])
    True
    """
    metrics = {"accuracy": "test accuracy"} if metrics is None else metrics
    if not frames:
        raise bad_argument("sparsity_slider", "frames", "hold a frame", "none", "make one")
    check_count("sparsity_slider", "start", start, 0, len(frames) - 1)
    shape = np.shape(frames[0].get("mask"))
    shown = [_frame(i, frame, metrics, shape) for i, frame in enumerate(frames)]
    data = {
        "shape": shape,
        "total": math.prod(shape) if total is None else total,
        "start": start,
        "metrics": [[key, label] for key, label in metrics.items()],
        "frames": shown,
    }
    payload = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    first, last = shown[0], shown[-1]
    return (
        '<div class="sparsity-demo"><p class="sparsity-demo-static">With JavaScript, a slider '
        f"here shows the mask from {100 * first['sparsity']:g} % sparsity ({first['kept']} of "
        f"{data['total']} weights kept) to {100 * last['sparsity']:g} % ({last['kept']} kept)."
        f'</p><script type="application/json">{payload}</script></div>'
    )


def _frame(
    index: int, frame: Mapping[str, Any], metrics: Mapping[str, str], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Turn a frame into what JSON can hold."""
    where = "sparsity_slider"
    missing = sorted({"sparsity", "kept", "mask", *metrics} - set(frame))
    if missing:
        advice = "compute them for every frame"
        raise bad_argument(where, f"frames[{index}]", "have every key", f"no {missing}", advice)
    mask = frame["mask"]
    check_array(where, f"frames[{index}]['mask']", mask, ndim=2, shape=shape, dtypes=(np.bool_,))
    values = {key: float(frame[key]) for key in ("sparsity", *metrics)}
    for key, value in values.items():
        if not math.isfinite(value):
            argument = f"frames[{index}][{key!r}]"
            raise bad_argument(where, argument, "be finite", value, "look where it comes from")
    bits = "".join("1" if kept else "0" for kept in mask.ravel())
    return {**values, "kept": int(frame["kept"]), "mask": bits}


def _check_roofline(
    peak_flops: float, bandwidth: float, points: Mapping[str, tuple[float, float | None]]
) -> None:
    numbers: dict[str, float | None] = {"peak_flops": peak_flops, "bandwidth": bandwidth}
    for label, (intensity, reached) in points.items():
        numbers |= {f"points[{label!r}][0]": intensity, f"points[{label!r}][1]": reached}
    for argument, number in numbers.items():
        if number is not None and not 0 < number < math.inf:
            requirement = "be positive and finite"
            raise bad_argument(
                "plot_roofline", argument, requirement, number, "check the measurement"
            )
    if not points:
        raise bad_argument("plot_roofline", "points", "hold a point", "none", "compute one")


def _with_light_grid(ax: Axes) -> Axes:
    """Give the axes a grid behind the data, and only the two spines that carry a scale."""
    ax.grid(color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax
