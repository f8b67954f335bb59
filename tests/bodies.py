"""Outlines of animals whose length and width are known."""

import numpy as np
import shapely
from shapely import affinity


def rectangle(length: float, width: float, angle: float = 0) -> shapely.Polygon:
    return affinity.rotate(shapely.box(0, 0, length, width), angle)


def ellipse(length: float, width: float, angle: float = 0) -> shapely.Polygon:
    disc = shapely.Point(0, 0).buffer(0.5, quad_segs=64)
    return affinity.rotate(affinity.scale(disc, length, width), angle)


def crescent(radius: float, degrees: float, width: float) -> shapely.Polygon:
    """Return a body of the same width everywhere, bent along a circle, with round ends: a caterpillar."""
    angles = np.radians(np.linspace(0, degrees, 200))
    midline = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return shapely.LineString(midline).buffer(width / 2, quad_segs=32)


def with_legs(body: shapely.Polygon, thickness: float, reach: float) -> shapely.Polygon:
    """Return a body around the origin with six legs, and two antennae that point forward."""
    along = [(x, x, side * reach) for x in (-10, 0, 10) for side in (1, -1)]
    legs = [shapely.LineString([(x, 0), (x_end, y)]).buffer(thickness / 2) for x, x_end, y in along]
    antennae = [shapely.LineString([(20, 0), (20 + reach, y)]).buffer(thickness / 2) for y in (12, -12)]
    return shapely.union_all([body, *legs, *antennae])
