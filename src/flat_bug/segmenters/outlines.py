"""Trace mask logits into polygons with sub-pixel outlines, holes and detached parts."""

from typing import Any

import contourpy
import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.segmenters.base import TileInstances

SMALLEST_PART = 0.05
"""A detached part or a hole smaller than this share of the largest part is noise of the network."""
SHARPER_THAN_MASK = 6.0
"""Up to this many mask cells, the side of a box is more exact than the mask, which is blurred over a cell or two."""
BEYOND_BOX = 0.12
"""Beyond that size boxes tend to be tight: an outline may leave its box by this share of what is left of the side."""

POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)

Floats = npt.NDArray[np.float64]


def reach(boxes: Floats, cells: Floats) -> Floats:
    """Return the rectangles ``(n, 4)`` that outlines may not leave, given the boxes and the sizes of mask cells."""
    sides = boxes[:, 2:] - boxes[:, :2]
    beyond = BEYOND_BOX * np.maximum(sides - SHARPER_THAN_MASK * cells[..., :2], 0)
    return np.hstack([boxes[:, :2] - beyond, boxes[:, 2:] + beyond])


def trace(instances: TileInstances) -> npt.NDArray[np.object_]:
    """Return the outline of each instance at the zero level of its logits.

    Logits are interpolated linearly between cell centres; an animal ends where its frame ends, and near its box.

    Returns:
        ``(n,)`` valid shapely ``Polygon`` or ``MultiPolygon`` in tile pixels; empty where no logit is positive.
    """
    traced = np.empty(len(instances), object)
    for row, (mask, frame) in enumerate(zip(instances.masks, instances.frames, strict=True)):
        traced[row] = _trace(mask, frame)
    shapes = np.array([mask.shape[::-1] for mask in instances.masks], np.float64).reshape(-1, 2)
    cells = (instances.frames[:, 2:] - instances.frames[:, :2]) / shapes
    return clip(traced, shapely.box(*reach(instances.boxes, cells).T))


def clip(polygons: npt.NDArray[np.object_], limits: Any) -> npt.NDArray[np.object_]:
    """Return what of each polygon lies within the limits, one shape for all or one for each; polygons only."""
    clipped = np.asarray(shapely.intersection(polygons, limits), object)
    # Where an outline only touches its limits, lines and points come out beside the polygons.
    mixed = ~np.isin(shapely.get_type_id(clipped), POLYGONAL)
    clipped[mixed] = shapely.buffer(clipped[mixed], 0)
    return clipped


def _trace(mask: npt.NDArray[np.float32], frame: npt.NDArray[np.float64]) -> shapely.Geometry:
    height, width = mask.shape
    # The mirrored negative outside puts the zero crossing of an animal that is cut exactly on the frame.
    logits = np.pad(mask.astype(np.float64), 1, mode="edge")
    inner = (slice(1, -1), slice(1, -1))
    outside = np.ones(logits.shape, np.bool_)
    outside[inner] = False
    logits[outside] = -np.abs(logits[outside])
    xs = frame[0] + (np.arange(-1, width + 1) + 0.5) * (frame[2] - frame[0]) / width
    ys = frame[1] + (np.arange(-1, height + 1) + 0.5) * (frame[3] - frame[1]) / height
    generator = contourpy.contour_generator(xs, ys, logits, fill_type=contourpy.FillType.OuterOffset)
    filled: Any = generator.filled(0.0, np.inf)  # typed as the union of what all fill types return
    return _polygon([np.split(points, ends[1:-1]) for points, ends in zip(*filled, strict=True)])


def _polygon(parts: list[list[npt.NDArray[np.float64]]]) -> shapely.Geometry:
    """Assemble the parts, each an outer ring and its holes, that are large enough to be real."""
    areas = [shapely.area([shapely.Polygon(ring) for ring in rings]) for rings in parts]
    least = SMALLEST_PART * max((sizes[0] for sizes in areas), default=0.0)
    kept = [
        shapely.Polygon(rings[0], [ring for ring, size in zip(rings[1:], sizes[1:], strict=True) if size >= least])
        for rings, sizes in zip(parts, areas, strict=True)
        if sizes[0] >= least > 0
    ]
    outline = shapely.MultiPolygon(kept) if len(kept) > 1 else kept[0] if kept else shapely.Polygon()
    return outline if shapely.is_valid(outline) else shapely.buffer(outline, 0)
