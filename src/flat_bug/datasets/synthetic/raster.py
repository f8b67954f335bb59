"""From outlines to pixels: exact area coverage, smooth noise, and painting of figures with light and shadow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray
from scipy import ndimage

from flat_bug.datasets.synthetic.patterns import PATTERNS, Surface
from flat_bug.datasets.synthetic.shapes import Figure, Part

Picture = NDArray[np.float32]
Grey = NDArray[np.float32]


SMALLEST_DETAILED = 7
"""Parts whose window is narrower, in pixels, show neither pattern nor relief; drawing them would be wasted."""


@dataclass(frozen=True)
class Light:
    """Where the light comes from and how hard it is.

    Args:
        direction: Of the light, in radians; shadows fall on the other side.
        shadow: Darkness of drop shadows, 0 to 1.
        height: Length of drop shadows as a fraction of the figure's size.
    """

    direction: float
    shadow: float
    height: float


@dataclass(frozen=True)
class Window:
    """A part of the picture: rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, shape: Any, margin: float, height: int, width: int) -> "Window | None":
        """Return the pixels within ``margin`` of a shape, or nothing where it lies outside the picture."""
        x1, y1, x2, y2 = shapely.bounds(shape)
        top, bottom = max(0, int(y1 - margin)), min(height, int(y2 + margin) + 2)
        left, right = max(0, int(x1 - margin)), min(width, int(x2 + margin) + 2)
        return cls(top, bottom, left, right) if top < bottom and left < right else None

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, as an index into a picture."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def coverage(shape: Any, window: Window) -> Grey:
    """Return the fraction of each pixel of the window that a Polygon or MultiPolygon covers, in steps of 1/255.

    Agg accumulates exact areas of the outline in each pixel, so that sub-pixel legs get the grey they deserve.
    """
    height, width = window.bottom - window.top, window.right - window.left
    rings = shapely.get_rings(shapely.get_parts(shapely.normalize(shape)))
    vertices, ring = shapely.get_coordinates(rings, return_index=True)
    if len(vertices) == 0:
        return np.zeros((height, width), dtype=np.float32)
    codes = np.full(len(vertices), Outline.LINETO, dtype=np.uint8)
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    codes[starts] = Outline.MOVETO
    codes[np.append(starts[1:], len(codes)) - 1] = Outline.CLOSEPOLY
    renderer: Any = RendererAgg(width, height, 72)  # type: ignore[no-untyped-call]  # matplotlib types only its front
    context = renderer.new_gc()
    context.set_linewidth(0)
    context.set_snap(False)
    upright = Affine2D().translate(-window.left, -window.top).scale(1, -1).translate(0, height)
    renderer.draw_path(context, Outline(vertices, codes), upright, (1.0, 1.0, 1.0, 1.0))
    return np.asarray(renderer.buffer_rgba())[..., 3].astype(np.float32) / np.float32(255)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 1) -> Grey:
    """Return noise of mean 0 and deviation about 1 whose features are ``cell`` pixels large (and halves of it)."""
    total = np.zeros((height, width), dtype=np.float32)
    weight = 1.0
    for octave in range(octaves):
        step = max(1.0, cell / 2**octave)
        shape = (int(height / step) + 5, int(width / step) + 5)
        grid = rng.standard_normal(shape, dtype=np.float32)
        total += weight * _stretched(_stretched(grid, width, step, 1), height, step, 0)
        weight *= 0.5
    return total


def _stretched(grid: Grey, length: int, step: float, axis: int) -> Grey:
    position = np.arange(length, dtype=np.float32) / np.float32(step)
    first = position.astype(np.intp)
    t = position - first
    taps = (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (t**3 - t**2),
    )
    along = (-1, 1) if axis == 0 else (1, -1)
    stretched = sum(np.take(grid, first + k, axis=axis) * tap.reshape(along) for k, tap in enumerate(taps))
    return np.asarray(stretched, dtype=np.float32)


def paint(picture: Picture, figures: Sequence[Figure], light: Light) -> None:
    """Paint figures onto a picture ``(height, width, 3)`` in place, the first one lowest, each with its shadow."""
    for figure in figures:
        silhouette = figure.silhouette()
        if light.shadow > 0:
            _cast_shadow(picture, silhouette, light)
        _paint_figure(picture, figure, silhouette, light)


def _cast_shadow(picture: Picture, shape: Any, light: Light) -> None:
    x1, y1, x2, y2 = shapely.bounds(shape)
    reach = light.height * float(np.sqrt((x2 - x1) * (y2 - y1)))
    away = reach * np.array([np.cos(light.direction), np.sin(light.direction)])
    shifted = shapely.transform(shape, lambda xy: xy - away)
    window = Window.around(shifted, 2 * reach + 2, *picture.shape[:2])
    if window is None:
        return
    dark = ndimage.gaussian_filter(coverage(shifted, window), max(0.6, 0.7 * reach), truncate=2.5)
    picture[window.slices] *= 1 - light.shadow * dark[..., None]


def _paint_figure(picture: Picture, figure: Figure, silhouette: Any, light: Light) -> None:
    frame = Window.around(silhouette, 1, *picture.shape[:2])
    if frame is None:
        return
    shape = (frame.bottom - frame.top, frame.right - frame.left)
    colour, opacity = np.zeros((*shape, 3), dtype=np.float32), np.zeros(shape, dtype=np.float32)
    bare = np.ones(shape, dtype=np.float32)
    for part in figure.parts:
        window = Window.around(part.shape, 1, *picture.shape[:2])
        if window is None:
            continue
        cover = coverage(part.shape, window)
        tone, density = _finish(cover, window, part, light)
        here = (
            slice(window.top - frame.top, window.bottom - frame.top),
            slice(window.left - frame.left, window.right - frame.left),
        )
        over = cover * density
        colour[here] += over[..., None] * (tone - colour[here])
        opacity[here] += over * (1 - opacity[here])
        bare[here] *= 1 - cover
    if len(figure.parts) > 1:
        # Where edges of two parts share a pixel, painting one over the other misjudges what both cover together; the
        # union of the parts is what is annotated, so it decides how much of the ground is left.
        tiny = np.float32(1e-6)
        share = coverage(silhouette, frame) / np.maximum(1 - bare, tiny)
        share = np.minimum(share, 1 / np.maximum(opacity, tiny))
        colour *= share[..., None]
        opacity *= share
    under = picture[frame.slices]
    under += colour - opacity[..., None] * under


def _finish(cover: Grey, window: Window, part: Part, light: Light) -> tuple[Picture, Grey]:
    """Return the colour of each pixel of a part, with its pattern and relief, and its opacity."""
    tone = np.broadcast_to(np.asarray(part.colour, dtype=np.float32), (*cover.shape, 3))
    density = np.full(cover.shape, part.opacity, dtype=np.float32)
    detailed = min(cover.shape) >= SMALLEST_DETAILED
    if part.pattern is not None and detailed:
        rows, columns = np.mgrid[window.slices].astype(np.float32) + 0.5
        mix, thickness = PATTERNS[part.pattern.kind](Surface(part.pattern, columns, rows))
        second = np.asarray(part.pattern.colour, dtype=np.float32)
        tone = tone + np.clip(mix, 0, 1, dtype=np.float32)[..., None] * (second - tone)
        density = np.clip(density * thickness, 0, 1, dtype=np.float32)
    if part.relief > 0 and detailed:
        shade, shine = _relief(cover, part, light)
        tone = tone * shade[..., None] + shine[..., None]
    return np.clip(tone, 0, 1), density


def _relief(cover: Grey, part: Part, light: Light) -> tuple[Grey, Grey]:
    """Return the brightness and the highlight of a part that bulges towards the viewer."""
    # Padded, since a part that fills its window would have no edge to be measured from.
    depth = ndimage.distance_transform_edt(np.pad(cover > 0.5, 1))[1:-1, 1:-1].astype(np.float32)
    radius = max(float(depth.max()), 1.0)
    inward = np.clip(depth / radius, 0, 1)
    bulge = ndimage.uniform_filter(np.sqrt(inward * (2 - inward)), max(1, int(radius * 0.5)))
    down, right = np.gradient(bulge * radius)
    facing = np.clip(right * np.cos(light.direction) + down * np.sin(light.direction), -1, 1)
    shade = 1 + part.relief * (0.35 * (bulge - 0.75) - 0.55 * facing)
    shine = part.gloss * np.exp(-(((facing + 0.35) / 0.16) ** 2)) * (bulge > 0.55) * bulge
    return shade.astype(np.float32), shine.astype(np.float32)
