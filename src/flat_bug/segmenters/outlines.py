"""Trace mask logits into polygons with sub-pixel outlines, holes and detached parts."""

from functools import lru_cache
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

STRAIGHT, CURVED = (0.0, 0.75, 0.25, 0.0), (-0.0703125, 0.8671875, 0.2265625, -0.0234375)
"""Weights of the cells before, at, after and two after what lies a quarter of the way from one cell centre to the next:
on straight lines through the values, and on the curve of Catmull and Rom."""
CURVATURE = 0.35
"""Straight lines cut corners and thin legs, the curve fattens legs; with so much of it both are right to a per cent."""

POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)

Floats = npt.NDArray[np.float64]
Polygons = npt.NDArray[np.object_]


def reach(boxes: Floats, cells: Floats) -> Floats:
    """Return the rectangles ``(n, 4)`` that outlines may not leave, given the boxes and the sizes of mask cells."""
    sides = boxes[:, 2:] - boxes[:, :2]
    beyond = BEYOND_BOX * np.maximum(sides - SHARPER_THAN_MASK * cells[..., :2], 0)
    return np.hstack([boxes[:, :2] - beyond, boxes[:, 2:] + beyond])


def trace(instances: TileInstances, threshold: float = 0.5) -> Polygons:
    """Return the outline of each instance: where the network is as sure as the threshold that it is the animal.

    Logits are interpolated between cell centres, by curves to half cells and linearly from there. An animal ends where
    its frame ends, and near its box.

    Returns:
        ``(n,)`` valid shapely ``Polygon`` or ``MultiPolygon`` in tile pixels; empty where no cell is.
    """
    level = np.float32(np.log(threshold / (1 - threshold)))
    outlines = _assemble([_parts(mask - level) for mask in instances.masks])
    shapes = np.array([mask.shape[::-1] for mask in instances.masks], np.float64).reshape(-1, 2)
    cells = (instances.frames[:, 2:] - instances.frames[:, :2]) / shapes
    owner = np.repeat(np.arange(len(outlines)), shapely.get_num_coordinates(outlines))
    placed = instances.frames[owner, :2] + shapely.get_coordinates(outlines) * cells[owner]
    return clip(shapely.set_coordinates(outlines, placed), shapely.box(*reach(instances.boxes, cells).T))


def clip(polygons: Polygons, limits: Any) -> Polygons:
    """Return what of each polygon lies within the limits, one shape for all or one for each; polygons only."""
    clipped = np.asarray(shapely.intersection(polygons, limits), object)
    # Where an outline only touches its limits, lines and points come out beside the polygons.
    mixed = ~np.isin(shapely.get_type_id(clipped), POLYGONAL)
    clipped[mixed] = shapely.buffer(clipped[mixed], 0)
    return clipped


def _parts(mask: npt.NDArray[np.float32]) -> list[tuple[Floats, npt.NDArray[np.uint32]]]:
    """Return the positive parts of a mask, in cells: the points of all rings of each, and where its rings begin."""
    halves = _halving(mask.shape[0]) @ mask @ _halving(mask.shape[1]).T
    height, width = halves.shape
    # The mirrored negative outside puts the zero crossing of an animal that is cut exactly on the frame.
    logits = np.empty((height + 2, width + 2))
    logits[1:-1, 1:-1] = halves
    logits[[0, -1], 1:-1] = -np.abs(halves[[0, -1]])
    logits[:, [0, -1]] = -np.abs(logits[:, [1, -2]])
    # The constructor itself: contourpy's function around it takes three times as long for masks as small as these.
    generator = contourpy.SerialContourGenerator(
        *np.meshgrid((np.arange(width + 2) - 0.5) / 2, (np.arange(height + 2) - 0.5) / 2),
        logits,
        None,  # type: ignore[arg-type]  # no mask; the stub forgets that
        corner_mask=False,
        line_type=contourpy.LineType.Separate,
        fill_type=contourpy.FillType.OuterOffset,
        quad_as_tri=False,
        z_interp=contourpy.ZInterp.Linear,
        x_chunk_size=0,
        y_chunk_size=0,
    )
    return list(zip(*generator.filled(0.0, np.inf), strict=True))


@lru_cache(maxsize=1024)
def _halving(cells: int) -> npt.NDArray[np.float32]:
    """Return the matrix ``(2 * cells, cells)`` that makes of the values of cells those of their halves.

    Beyond the ends, values stay as they are.
    """
    rows = np.arange(cells)
    weights = (1 - CURVATURE) * np.array(STRAIGHT) + CURVATURE * np.array(CURVED)
    matrix = np.zeros((2 * cells, cells), np.float32)
    for distance, weight in zip((-1, 0, 1, 2), weights, strict=True):
        for half, sign in ((0, -1), (1, 1)):
            np.add.at(matrix, (2 * rows + half, np.clip(rows + sign * distance, 0, cells - 1)), weight)
    matrix.flags.writeable = False
    return matrix


def _assemble(masks: list[list[tuple[Floats, npt.NDArray[np.uint32]]]]) -> Polygons:
    """Return a polygon for each mask, from those of its parts that are large enough to be real."""
    outlines = np.full(len(masks), shapely.Polygon(), object)
    parts = [part for mask in masks for part in mask]
    if not parts:
        return outlines
    mask_of_part = np.repeat(np.arange(len(masks)), [len(mask) for mask in masks])
    lengths = [np.diff(begins) for _, begins in parts]
    part_of_ring = np.repeat(np.arange(len(parts)), [len(rings) for rings in lengths])
    ring_of_point = np.repeat(np.arange(len(part_of_ring)), np.concatenate(lengths))
    rings = shapely.linearrings(np.concatenate([points for points, _ in parts]), indices=ring_of_point)
    areas = shapely.area(shapely.polygons(rings))
    largest = np.zeros(len(masks))
    np.maximum.at(largest, mask_of_part[part_of_ring], areas)
    real = (areas > 0) & (areas >= SMALLEST_PART * largest[mask_of_part[part_of_ring]])
    # A hole is smaller than its part, so that each part that has rings left has its outer one left, and first.
    left, part_of_left = np.unique(part_of_ring[real], return_inverse=True)
    polygons = shapely.polygons(rings[real], indices=part_of_left)
    shapely.multipolygons(polygons, indices=mask_of_part[left], out=outlines)
    single = (shapely.get_type_id(outlines) == shapely.GeometryType.MULTIPOLYGON) & (
        shapely.get_num_geometries(outlines) == 1
    )
    outlines[single] = shapely.get_geometry(outlines[single], 0)
    broken = ~shapely.is_valid(outlines)
    outlines[broken] = shapely.buffer(outlines[broken], 0)
    return outlines
