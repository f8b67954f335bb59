"""Outlines: ellipses, smooth closed curves and jointed limbs, and the parts that make up a drawn figure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
Colour = tuple[float, float, float]
Warp = Callable[[Points], Points]

CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)


@dataclass(frozen=True)
class Pattern:
    """What is painted on a part.

    Args:
        kind: A function's name in ``patterns.PATTERNS``.
        colour: Second colour of the pattern.
        frame: ``(3, 2)`` origin, and the ends of its first and second axis; the pattern's coordinates run 0 to 1.
        seed: Of the pattern's noise; the same on the left and on the right wing.
        density: How many bands, spots or veins; its meaning is the pattern's.
    """

    kind: str
    colour: Colour
    frame: Points
    seed: int
    density: float = 4.0


@dataclass(frozen=True)
class Part:
    """One piece of a figure: where it is, and how it is painted.

    Args:
        shape: Polygon or MultiPolygon, in pixels once it is placed.
        colour: Red, green and blue, 0 to 1.
        opacity: 1 hides what lies under the part; wings have less.
        relief: How domed it looks: 0 flat, 1 a hemisphere.
        gloss: Strength of the highlight.
        pattern: Painted over the colour, if any.
    """

    shape: Any
    colour: Colour
    opacity: float = 1.0
    relief: float = 0.0
    gloss: float = 0.0
    pattern: Pattern | None = None

    def warped(self, warp: Warp) -> "Part":
        """Return the part with every point moved by ``warp``, which takes and returns ``(n, 2)`` points."""
        pattern = self.pattern
        if pattern is not None:
            pattern = replace(pattern, frame=warp(pattern.frame))
        return replace(self, shape=shapely.make_valid(shapely.transform(self.shape, warp)), pattern=pattern)


@dataclass(frozen=True)
class Figure:
    """An animal or a piece of litter, its parts in painting order.

    Args:
        name: Body plan or kind of litter.
        parts: The last part lies on top.
    """

    name: str
    parts: tuple[Part, ...]

    def silhouette(self) -> Any:
        """Return the union of all parts."""
        if len(self.parts) == 1:
            return polygons_of(self.parts[0].shape)
        return polygons_of(shapely.union_all([part.shape for part in self.parts]))

    def warped(self, warp: Warp) -> "Figure":
        """Return the figure with every point moved by ``warp``."""
        return replace(self, parts=tuple(part.warped(warp) for part in self.parts))


def polygons_of(geometry: Any) -> Any:
    """Return the polygonal part of any geometry: a Polygon, or a MultiPolygon with any number of members."""
    if geometry.geom_type in {"Polygon", "MultiPolygon"}:
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def ellipse(x: float, y: float, rx: float, ry: float, power: float = 2.0) -> Any:
    """Return a superellipse as a polygon: power 2 is an ellipse, 3 is boxy, 1.5 is pointed."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    xs = x + rx * np.sign(cos) * np.abs(cos) ** (2 / power)
    ys = y + ry * np.sign(sin) * np.abs(sin) ** (2 / power)
    return shapely.polygons(np.stack([xs, ys], axis=1))


def curve(points: ArrayLike, *, closed: bool, steps: int = 8) -> Points:
    """Return a smooth curve through the points ``(n, 2)`` (Catmull-Rom), ``steps`` points to a stretch."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        around = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        around = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (around[i : len(around) - 3 + i, None, :] for i in range(4))
    smooth = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    flat = smooth.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, knots[-1:]])


def outline(points: ArrayLike, steps: int = 8) -> Any:
    """Return the polygon inside the smooth closed curve through the points."""
    return polygons_of(shapely.make_valid(shapely.polygons(curve(points, closed=True, steps=steps))))


def profile(lengthwise: ArrayLike, half_widths: ArrayLike, x: float = 0.0) -> Any:
    """Return a body that is symmetric about a vertical axis: half width by position along the axis."""
    y = np.asarray(lengthwise, dtype=np.float64)
    half = np.asarray(half_widths, dtype=np.float64)
    right = np.stack([x + half, y], axis=1)
    left = np.stack([x - half, y], axis=1)[::-1]
    return outline(np.concatenate([right, left]))


def limb(points: ArrayLike, widths: ArrayLike) -> Any:
    """Return a tapering limb: the joints' positions ``(n, 2)`` and its width at each joint."""
    return shapely.union_all(limb_pieces(points, widths))


def limb_pieces(points: ArrayLike, widths: ArrayLike) -> NDArray[np.object_]:
    """Return the ``n - 1`` overlapping convex pieces of a limb, which are cheaper to unite with those of others."""
    joints = np.asarray(points, dtype=np.float64)
    radii = np.broadcast_to(np.asarray(widths, dtype=np.float64) / 2, len(joints))
    circles = joints[:, None, :] + radii[:, None, None] * CIRCLE
    pairs = np.concatenate([circles[:-1], circles[1:]], axis=1)
    return np.asarray(shapely.convex_hull(shapely.multipoints(shapely.points(pairs))))


def mirrored(shapes: Any) -> Any:
    """Return shapes, one or an array, reflected in the vertical axis."""
    return shapely.transform(shapes, lambda xy: xy * (-1.0, 1.0))
