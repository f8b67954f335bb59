"""Random valid outlines for properties: with corners anywhere, holes, and several parts."""

import numpy as np
import shapely
from hypothesis import strategies as st

from flat_bug.instances.table import Instances, Provenance


@st.composite
def polygons(draw: st.DrawFn, size: float = 40.0) -> shapely.Polygon:
    """Return a star-shaped polygon somewhere around ``size``, at times with a hole."""
    x, y = (draw(st.floats(-0.1 * size, 1.1 * size)) for _ in range(2))
    radii = np.array(draw(st.lists(st.floats(0.5, size / 2), min_size=3, max_size=12)))
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) + draw(st.floats(0, 6))
    ring = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
    holes = [(ring - (x, y)) * 0.3 + (x, y)] if draw(st.booleans()) else []
    return shapely.Polygon(ring, holes)


@st.composite
def outlines(draw: st.DrawFn, size: float = 40.0) -> shapely.Geometry:
    """Return a ``Polygon`` or a ``MultiPolygon`` of parts that do not touch."""
    first = draw(polygons(size))
    if draw(st.booleans()):
        return first
    return shapely.MultiPolygon([first, shapely.transform(first, lambda points: points + np.array([2 * size, 0.25]))])


@st.composite
def tables(draw: st.DrawFn) -> Instances:
    """Return a table of up to four instances with exact values of every kind."""
    found = draw(st.lists(outlines(), max_size=4))
    column = np.empty(len(found), object)
    column[:] = found
    numbers = st.floats(0, 1e9) | st.just(float("nan"))
    shares = st.lists(st.floats(0, 1), min_size=len(found), max_size=len(found))
    return Instances.from_polygons(
        column,
        np.array(draw(shares)),
        width=draw(st.integers(1, 10**6)),
        height=draw(st.integers(1, 10**6)),
        classes=np.array(draw(st.lists(st.integers(0, 3), min_size=len(found), max_size=len(found))), np.int64),
        levels=np.array(draw(shares)),
        class_names=("insect", "spider", "mite", "snail"),
        mm_per_px=draw(st.none() | st.floats(1e-4, 1)),
        mm_per_px_relative_sd=draw(st.floats(0, 0.5)),
        measurements={"length_px": np.array(draw(st.lists(numbers, min_size=len(found), max_size=len(found))), float)},
        provenance=Provenance("ab" * 32, "cd" * 32, draw(st.text(max_size=5)), {"overlap": 0.2, "sizes": [1.0, 2.5]}),
        page=draw(st.none() | st.integers(1, 9)),
        frame_index=draw(st.none() | st.integers(0, 10**6)),
        time_s=draw(st.none() | st.floats(0, 1e6)),
        track_ids=draw(st.none() | st.just(np.arange(1, len(found) + 1))),
    )
