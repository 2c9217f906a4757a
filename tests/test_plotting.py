"""The figures show the numbers they were given; the slider's JSON is what its script reads."""

from __future__ import annotations

import importlib
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib: pip install refimpl[book]")

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from refimpl import plotting

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "book" / "_static" / "sparsity-slider.js"
MASK = np.array([[True, False, True], [False, False, True]])


@pytest.fixture
def ax():
    return Figure().subplots()


def luminance(color):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def frame(**changes):
    return {"sparsity": 0.5, "kept": 3, "mask": MASK, "accuracy": 0.9} | changes


class Pieces(HTMLParser):
    """Texts of an HTML string by the element that holds them."""

    def __init__(self, html):
        super().__init__()
        self.inside, self.texts = [], {}
        self.feed(html)

    def handle_starttag(self, tag, _attributes):
        self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        self.texts[self.inside[-1]] = self.texts.get(self.inside[-1], "") + data


def slider_data(*arguments, **options):
    return json.loads(Pieces(plotting.sparsity_slider(*arguments, **options)).texts["script"])


def test_plot_mask_draws_every_weight(ax):
    plotting.plot_mask(ax, MASK)
    np.testing.assert_array_equal(ax.images[0].get_array(), MASK)


@pytest.mark.parametrize("value", [True, False])
def test_plot_mask_of_one_kind_keeps_its_colour(ax, value):
    image = plotting.plot_mask(ax, np.full((2, 2), value)).images[0]
    shown = image.cmap(image.norm(float(value)))[:3]
    assert shown == pytest.approx(to_rgb(plotting.KEPT if value else plotting.PRUNED))


@pytest.mark.parametrize("side", [1, 3, 10, 64])
def test_plot_mask_separates_all_squares(ax, side):
    plotting.plot_mask(ax, np.ones((side, side), bool))
    between = np.arange(side + 1) - 0.5
    np.testing.assert_array_equal(ax.xaxis.get_minorticklocs(), between)
    np.testing.assert_array_equal(ax.yaxis.get_minorticklocs(), between)


def test_kept_and_pruned_differ_in_brightness():
    light, dark = luminance(plotting.PRUNED) + 0.05, luminance(plotting.KEPT) + 0.05
    assert light / dark >= 3  # WCAG 2.1, 1.4.11


def test_every_series_has_a_style_of_its_own():
    styles = list(zip(plotting.COLORS, plotting.MARKERS, plotting.DASHES, strict=True))
    assert all(len(set(kind)) == len(styles) for kind in zip(*styles, strict=True))


def test_plot_with_spread_line_is_the_mean(ax):
    plotting.plot_with_spread(ax, [0, 1], np.array([[1.0, 2.0], [3.0, 6.0]]), label="a")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2.0, 4.0])


def test_plot_with_spread_band_is_one_standard_deviation(ax):
    plotting.plot_with_spread(ax, [0, 1], np.array([[1.0, 2.0], [3.0, 2.0]]), label="a")
    corners = ax.collections[0].get_paths()[0].vertices
    heights = corners[corners[:, 0] == 0][:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((2 - 2**0.5, 2 + 2**0.5))


def test_plot_with_spread_of_one_seed_has_no_band(ax):
    plotting.plot_with_spread(ax, [0, 1], np.ones((1, 2)), label="a")
    assert len(ax.collections) == 0


@pytest.mark.parametrize("series", [0, 1, 5, 6])
def test_plot_with_spread_takes_the_style_of_its_series(ax, series):
    plotting.plot_with_spread(ax, [0], np.ones((2, 1)), label="a", series=series)
    assert ax.lines[0].get_color() == plotting.COLORS[series % 6]


def test_plot_with_spread_rejects_samples_of_another_length(ax):
    with pytest.raises(ValueError, match=r"samples must have shape \(any, 3\), got \(2, 2\)"):
        plotting.plot_with_spread(ax, [0, 1, 2], np.ones((2, 2)), label="a")


def test_plot_roofline_bends_at_the_ridge(ax):
    plotting.plot_roofline(ax, peak_flops=100.0, bandwidth=10.0, points={"a": (1.0, 5.0)})
    x, y = ax.lines[0].get_data()
    assert (x[1], y[1]) == (10.0, 100.0)
    assert y[0] / x[0] == 10.0


@pytest.mark.parametrize(
    ("point", "height"), [((1.0, 5.0), 5.0), ((1.0, None), 10.0), ((20.0, None), 100.0)]
)
def test_plot_roofline_puts_a_point_where_it_belongs(ax, point, height):
    plotting.plot_roofline(ax, peak_flops=100.0, bandwidth=10.0, points={"a": point})
    assert ax.lines[1].get_ydata() == [height]


@pytest.mark.parametrize(
    ("machine", "argument"),
    [
        ({"peak_flops": 0.0}, "peak_flops"),
        ({"bandwidth": np.inf}, "bandwidth"),
        ({"points": {"a": (np.nan, None)}}, r"points\['a'\]\[0\]"),
        ({"points": {"a": (1.0, -1.0)}}, r"points\['a'\]\[1\]"),
    ],
)
def test_plot_roofline_rejects_what_a_logarithm_cannot_show(ax, machine, argument):
    sound = {"peak_flops": 1.0, "bandwidth": 1.0, "points": {"a": (1.0, 1.0)}}
    with pytest.raises(ValueError, match=f"{argument} must be positive and finite, got"):
        plotting.plot_roofline(ax, **(sound | machine))


def test_plot_roofline_rejects_no_points(ax):
    with pytest.raises(ValueError, match="points must hold a point, got none"):
        plotting.plot_roofline(ax, peak_flops=1.0, bandwidth=1.0, points={})


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plotting.plot_mask(ax, MASK),
        lambda ax: plotting.plot_with_spread(ax, [0], np.ones((2, 1)), label="a"),
        lambda ax: plotting.plot_roofline(
            ax, peak_flops=1.0, bandwidth=1.0, points={"a": (1.0, None)}
        ),
    ],
)
def test_helpers_return_the_axes_they_were_given(ax, draw):
    assert draw(ax) is ax


def test_sparsity_slider_spells_the_mask_row_by_row():
    data = slider_data([frame()])
    assert (data["shape"], data["frames"][0]["mask"]) == ([2, 3], "101001")


def test_sparsity_slider_keeps_the_numbers():
    data = slider_data([frame(sparsity=0.1 + 0.2, accuracy=np.float32(0.25))])
    shown = data["frames"][0]
    assert (shown["sparsity"], shown["kept"], shown["accuracy"]) == (0.1 + 0.2, 3, 0.25)


def test_sparsity_slider_counts_from_the_mask_unless_told():
    assert slider_data([frame()])["total"] == 6
    assert slider_data([frame()], total=50_200)["total"] == 50_200


def test_sparsity_slider_pairs_metrics_with_words():
    data = slider_data([frame(error=1)], metrics={"error": "output error"})
    assert data["metrics"] == [["error", "output error"]]


@pytest.mark.parametrize("key", ["shape", "total", "start", "metrics", "frames"])
def test_sparsity_slider_script_reads(key):
    assert re.search(rf"\bdata\.{key}\b", SCRIPT.read_text("utf8"))


@pytest.mark.parametrize("key", ["sparsity", "kept", "mask"])
def test_sparsity_slider_script_reads_of_a_frame(key):
    assert re.search(rf"\bframe\.{key}\b", SCRIPT.read_text("utf8"))


def test_sparsity_slider_text_cannot_end_the_script():
    label = "</script><script>alert(1)</script>"
    data = slider_data([frame()], metrics={"accuracy": label})
    assert data["metrics"] == [["accuracy", label]]


def test_sparsity_slider_without_javascript_is_a_sentence():
    html = plotting.sparsity_slider([frame(sparsity=0.0, kept=6), frame(sparsity=0.9, kept=1)])
    assert "from 0 % sparsity (6 of 6 weights kept) to 90 % (1 kept)." in Pieces(html).texts["p"]


@pytest.mark.parametrize("key", ["sparsity", "kept", "mask", "accuracy"])
def test_sparsity_slider_rejects_a_frame_without(key):
    lacking = {name: value for name, value in frame().items() if name != key}
    with pytest.raises(ValueError, match=rf"frames\[1\] must have every key, got no \['{key}'\]"):
        plotting.sparsity_slider([frame(), lacking])


def test_sparsity_slider_rejects_masks_of_two_shapes():
    with pytest.raises(ValueError, match=r"frames\[1\]\['mask'\] must have shape \(2, 3\)"):
        plotting.sparsity_slider([frame(), frame(mask=MASK.T)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sparsity_slider_rejects_a_metric_that_is_not_finite(value):
    with pytest.raises(ValueError, match=r"frames\[0\]\['accuracy'\] must be finite, got"):
        plotting.sparsity_slider([frame(accuracy=value)])


@pytest.mark.parametrize("start", [-1, 2])
def test_sparsity_slider_rejects_a_start_that_is_no_frame(start):
    with pytest.raises(ValueError, match=r"start must be in \[0, 1\], got"):
        plotting.sparsity_slider([frame(), frame()], start=start)


def test_sparsity_slider_rejects_no_frames():
    with pytest.raises(ValueError, match="frames must hold a frame, got none"):
        plotting.sparsity_slider([])


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, "refimpl.plotting")
    sentence = "refimpl.plotting: Python must have matplotlib, got .*; install it with: pip"
    with pytest.raises(ModuleNotFoundError, match=sentence):
        importlib.import_module("refimpl.plotting")
