"""Figures of a report as SVG that takes its colours from the page, so that it follows dark mode and hides models."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

Floats = npt.NDArray[np.float64]

INK, GRID, SERIES = "#010203", "#010204", "#010205"
PAGE_COLOURS = {INK: "var(--muted)", GRID: "var(--grid)", SERIES: "var(--c)"}
"""Stand-ins that matplotlib understands, and the properties of report.css that take their place."""

CLEANING = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        # A style of matplotlib's would hold for the whole page, and so would its names for groups.
        (r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|<g/>", ""),
        (r'<g id="slot-(\d+)"', r'<g class="series s\1"'),
        (r'<g id="[^"]*"', "<g"),
        (r"font-family: [^;\"]*; ", ""),
        (r' transform="rotate\(-0 [^"]*"', ""),
        (r'^(<svg[^>]*?) width="[^"]*"', r"\1"),
        (r'^(<svg[^>]*?) height="[^"]*"', r"\1"),
        (r"(\d\.\d\d)\d+", r"\1"),
        (r"\s*\n\s*", "\n"),
    )
)
"""What is taken out of matplotlib's SVG, in this order."""

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = ("o", "s", "D", "o")
FONT_SIZE = 9.5
INCHES = (5.0, 2.9)
RUG_TICKS = 150
"""Ticks of a rug at most; more of them would be one black bar."""

TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


@dataclass(frozen=True)
class SizeSeries:
    """One model's share of successes against size, ready to draw; arrays are empty where nothing is known.

    Attributes:
        slot: Number of the model's colour.
        bins: ``(n, 2)`` size and share of each bin.
        smooth: ``(n, 2)`` size and share along the smooth.
        ribbon: ``(n, 3)`` size, low and high end of the share.
        rug: ``(n,)`` size of each object.
    """

    slot: int
    bins: Floats = field(default_factory=lambda: np.empty((0, 2)))
    smooth: Floats = field(default_factory=lambda: np.empty((0, 2)))
    ribbon: Floats = field(default_factory=lambda: np.empty((0, 3)))
    rug: Floats = field(default_factory=lambda: np.empty(0))


def draw_sizes(series: Sequence[SizeSeries], limits: tuple[float, float], colours: int) -> Markup:
    """Draw the share of successes against size for some models.

    Args:
        series: The models.
        limits: Least and greatest size of the logarithmic axis, in pixels.
        colours: Number of colours of the page; models beyond them get another dash and marker.

    Returns:
        An ``svg`` element. The parts of each model are a group of the classes ``series`` and ``s<slot>``.
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flat-bug", "font.size": FONT_SIZE}):
        figure = Figure(figsize=INCHES)
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.095, 0.17, 0.895, 0.79))
        _prepare(axes, limits)
        for row, one in enumerate(series):
            _draw(axes, one, one.slot // colours, 0.02 + 0.035 * row)
        return _inline(figure)


def _prepare(axes: Axes, limits: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(-0.03, 1.03)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if limits[0] <= tick <= limits[1]]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.set_xlabel("size, px", color=INK)
    axes.grid(visible=True, linewidth=0.8, color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)


def _draw(axes: Axes, series: SizeSeries, style: int, rug_height: float) -> None:
    artists: list[Artist] = []
    if len(series.ribbon):
        size, low, high = series.ribbon.T
        artists.append(axes.fill_between(size, low, high, color=SERIES, alpha=0.16, linewidth=0))
    if len(series.smooth):
        artists += axes.plot(*series.smooth.T, color=SERIES, linewidth=1.8, linestyle=DASHES[style % len(DASHES)])
    if len(series.bins):
        artists += axes.plot(
            *series.bins.T,
            color=SERIES,
            linestyle="none",
            marker=MARKERS[style % len(MARKERS)],
            markersize=4.2,
            markeredgewidth=0,
        )
    if len(series.rug):
        ticks = np.quantile(series.rug, np.linspace(0, 1, RUG_TICKS)) if len(series.rug) > RUG_TICKS else series.rug
        # One path with gaps, instead of a path for each tick.
        x = np.repeat(ticks, 3)
        y = np.tile([rug_height - 0.045, rug_height - 0.015, np.nan], len(ticks))
        artists += axes.plot(x, y, color=SERIES, linewidth=0.7, alpha=0.6, clip_on=False)
    for artist in artists:
        artist.set_gid(f"slot-{series.slot}")


def _inline(figure: Figure) -> Markup:
    """Return a figure as an ``svg`` element without identifiers, fonts or colours of its own."""
    stream = io.StringIO()
    figure.savefig(
        stream,
        format="svg",
        transparent=True,
        metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
    )
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    for pattern, replacement in CLEANING:
        svg = pattern.sub(replacement, svg)
    for stand_in, colour in PAGE_COLOURS.items():
        svg = svg.replace(stand_in, colour)
    # Its only texts are numbers and our own labels.
    return Markup(svg.replace("<svg", '<svg aria-hidden="true"', 1))  # noqa: S704
