"""Figures of a report as SVG that takes its colours from the page, so that it follows dark mode and hides models."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from flat_bug.evaluation.scores import POOLED
from flat_bug.evaluation.sizes import MEASURES, RUG_SCHEMA, SizeCurves, size_curves
from flat_bug.evaluation.standings import Standing

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
RUG_TICKS, RUG_TICKS_OF_ALL = 200, 600
"""Ticks of a model's rug, and of all rugs of a figure, at most; of more objects the quantiles are drawn."""

RUG_HEIGHT, RUG_SHARE = 0.06, 0.25
"""Height of a model's rug, and of all rugs at most, where the share of successes from 0 to 1 is 1."""

FEW = 5
"""A bin of fewer objects has a small dot and no ribbon: drawing one or two again says nothing of their uncertainty."""

TICK_STEPS = ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(np.arange(1, 10, 0.5)))
LEAST_TICKS = 2


@dataclass(frozen=True)
class SizeFigure:
    """Recall or precision against size on one dataset.

    Attributes:
        measure: ``recall`` or ``precision``.
        svg: An ``svg`` element. The parts of each model are a group of the classes ``series`` and ``s<slot>``.
        description: The curves in words, for those who do not see them.
    """

    measure: str
    svg: Markup
    description: str


@dataclass(frozen=True)
class SizePanel:
    """The figures of one dataset; none where no object has a size."""

    dataset: str
    figures: tuple[SizeFigure, ...]


@dataclass(frozen=True, eq=False)
class Series:
    """What is drawn of one model: its share of the tables of ``sizes.SizeCurves``, for one dataset and measure."""

    slot: int
    name: str
    bins: pl.DataFrame
    smooth: pl.DataFrame
    rug: pl.DataFrame


def size_panels(standings: Sequence[Standing], datasets: Sequence[str], colours: int) -> tuple[SizePanel, ...]:
    """Draw recall and precision against size, for each dataset and all models.

    Args:
        standings: The models, those without scores too.
        datasets: Names of datasets; ``POOLED`` for all together.
        colours: Number of colours of the page; models beyond them get another dash and marker.
    """
    curves = [(standing, _curves(standing, datasets)) for standing in standings if standing.done]
    panels = []
    for dataset in datasets:
        series = {
            measure: [_series(standing, curve, dataset, measure) for standing, curve in curves] for measure in MEASURES
        }
        sizes = pl.concat([pl.DataFrame(schema=RUG_SCHEMA), *(one.rug for each in series.values() for one in each)])
        limits = _limits(sizes["size"])
        if limits is not None:
            figures = [
                SizeFigure(measure, _draw_figure(each, limits, colours), "; ".join(map(_describe, each)))
                for measure, each in series.items()
            ]
            panels.append(SizePanel(dataset, tuple(figures)))
    return tuple(panels)


def _curves(standing: Standing, datasets: Sequence[str]) -> SizeCurves:
    objects = standing.objects
    if POOLED in datasets:
        objects = pl.concat([objects, objects.with_columns(pl.lit(POOLED).alias("dataset"))])
    return size_curves(objects.filter(pl.col("dataset").is_in(list(datasets))))


def _series(standing: Standing, curves: SizeCurves, dataset: str, measure: str) -> Series:
    mine = (pl.col("dataset") == dataset) & (pl.col("measure") == measure)
    tables = (table.filter(mine) for table in (curves.bins, curves.smooths, curves.rug))
    return Series(standing.slot, standing.model.name, *tables)


def _limits(sizes: pl.Series) -> tuple[float, float] | None:
    """Return the ends of the axis: a little beyond the smallest and the greatest object."""
    low, high = sizes.min(), sizes.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return None
    return low / 1.15, high * 1.15


def _describe(series: Series) -> str:
    """Return the share of successes at three sizes, in words."""
    if not len(series.bins):
        return f"{series.name}: nothing"
    rows = [series.bins.row(row, named=True) for row in sorted({0, len(series.bins) // 2, len(series.bins) - 1})]
    return f"{series.name}: " + ", ".join(f"{row['mean']:.2f} at {row['size']:.0f} px" for row in rows)


def _draw_figure(series: Sequence[Series], limits: tuple[float, float], colours: int) -> Markup:
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flat-bug", "font.size": FONT_SIZE}):
        figure = Figure(figsize=INCHES)
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.075, 0.16, 0.895, 0.82))
        row_height = min(RUG_HEIGHT, RUG_SHARE / max(len(series), 1))
        _prepare(axes, limits, rug=row_height * len(series))
        for row, one in enumerate(series):
            rug = _draw_rug(axes, one, row, row_height, min(RUG_TICKS, RUG_TICKS_OF_ALL // len(series)))
            artists = _draw_curve(axes, one, one.slot // colours) + rug
            for artist in artists:
                artist.set_gid(f"slot-{one.slot}")
        return _inline(figure)


def _prepare(axes: Axes, limits: tuple[float, float], rug: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(-0.03 - rug, 1.03)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(*limits)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.set_xlabel("size, px", color=INK)
    axes.grid(visible=True, linewidth=0.8, color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)


def _ticks(low: float, high: float) -> list[float]:
    """Return round sizes between the ends of the axis, finer ones where there would be too few."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks: list[float] = []
    for steps in TICK_STEPS:
        ticks = [float(tick) for tick in np.outer(powers, steps).ravel() if low <= tick <= high]
        if len(ticks) >= LEAST_TICKS:
            break
    return ticks


def _draw_curve(axes: Axes, series: Series, style: int) -> list[Artist]:
    bins, smooth = series.bins, series.smooth
    marker, dash = MARKERS[style % len(MARKERS)], DASHES[style % len(DASHES)]
    many = (bins["n"] >= FEW).to_numpy()
    # A ribbon needs two neighbours; a bin between small ones has its interval as a line.
    alone = bins.filter(many & ~np.append(False, many[:-1]) & ~np.append(many[1:], False))
    ribbon = axes.fill_between(
        bins["size"], bins["low"], bins["high"], where=many.tolist(), color=SERIES, alpha=0.15, linewidth=0
    )
    artists: list[Artist] = [
        ribbon,
        *axes.plot(smooth["size"], smooth["fit"], color=SERIES, linewidth=1.8, linestyle=dash),
    ]
    if len(alone):
        artists.append(axes.vlines(alone["size"], alone["low"], alone["high"], color=SERIES, alpha=0.4, linewidth=1.2))
    for chosen, size in ((bins.filter(many), 4.4), (bins.filter(~many), 2.4)):
        artists += axes.plot(
            chosen["size"],
            chosen["mean"],
            color=SERIES,
            linestyle="none",
            marker=marker,
            markersize=size,
            markeredgewidth=0,
            clip_on=False,
        )
    return artists


def _draw_rug(axes: Axes, series: Series, row: int, height: float, ticks: int) -> list[Artist]:
    """Draw a tick for each object in a row of the model's own: long for a failure, short and faint for a success."""
    top = -0.02 - row * height
    artists: list[Artist] = []
    for success, length, alpha in ((True, 0.35, 0.45), (False, 0.8, 0.9)):
        sizes = series.rug.filter(pl.col("success") == success)["size"].to_numpy()
        most = max(2, round(ticks * len(sizes) / max(len(series.rug), 1)))
        if len(sizes) > most:
            sizes = np.quantile(sizes, np.linspace(0, 1, most))
        # One path with gaps, instead of a path for each tick.
        x = np.repeat(sizes, 3)
        y = np.tile([top, top - length * height, np.nan], len(sizes))
        artists += axes.plot(x, y, color=SERIES, linewidth=0.8, alpha=alpha)
    return artists


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
