"""A segmenter that is always right: it knows that animals are red or blue and that the ground is white."""

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage

from flat_bug.segmenters.base import ModelCard, TileInstances

RED, BLUE = (255, 0, 0), (0, 0, 255)
SMALLEST = 5
"""Animals of fewer pixels across are not seen."""


class Oracle:
    """Outlines each red or blue animal, or what the tile shows of it, exactly; a mask cell is a pixel."""

    def __init__(self, tile: int = 256, largest_object: int = 128) -> None:
        self.card = ModelCard(name="oracle", tile=tile, largest_object=largest_object)
        self.batches: list[int] = []

    def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
        """Segment a batch of tiles; see ``Segmenter``."""
        self.batches.append(len(tiles))
        return [self._segment(tile.astype(np.float32), score_threshold) for tile in tiles]

    def _segment(self, tile: npt.NDArray[np.float32], score_threshold: float) -> TileInstances:
        redness = (tile[..., 0] - tile[..., 2]) / 255
        masks, frames = [], []
        for logits in (redness - 0.5, -redness - 0.5):
            # Diagonal neighbours are one animal, as they are for an outline.
            labels, _ = ndimage.label(logits > 0, structure=np.ones((3, 3)))
            for number, window in enumerate(ndimage.find_objects(labels), start=1):
                rows, columns = (slice(max(side.start - 1, 0), side.stop + 1) for side in window)
                mask = np.where(np.isin(labels[rows, columns], [0, number]), logits[rows, columns], -0.5)
                if min(mask.shape) >= SMALLEST:
                    masks.append(mask)
                    frames.append(
                        [columns.start, rows.start, columns.start + mask.shape[1], rows.start + mask.shape[0]]
                    )
        boxes = np.array(frames, np.float64).reshape(-1, 4)
        scores = np.full(len(masks), 0.9 if score_threshold < 0.9 else 0)
        return TileInstances(boxes, scores, np.zeros(len(masks), np.int64), tuple(masks), boxes)


def draw(
    width: int, height: int, animals: list[tuple[shapely.Geometry, tuple[int, int, int]]]
) -> npt.NDArray[np.uint8]:
    """Return a white picture ``(h, w, 3)`` with coloured shapes, their edges antialiased."""
    picture = np.full((height, width, 3), 255, np.float64)
    for shape, colour in animals:
        x1, y1 = (max(int(np.floor(low)) - 2, 0) for low in shape.bounds[:2])
        x2, y2 = (
            min(int(np.ceil(high)) + 2, size) for high, size in zip(shape.bounds[2:], (width, height), strict=True)
        )
        fine = 4
        xs = x1 + (np.arange((x2 - x1) * fine) + 0.5) / fine
        ys = y1 + (np.arange((y2 - y1) * fine) + 0.5) / fine
        inside = shapely.contains_xy(shape, *np.meshgrid(xs, ys)).reshape(y2 - y1, fine, x2 - x1, fine)
        share = inside.mean(axis=(1, 3))[..., None]
        picture[y1:y2, x1:x2] = (1 - share) * picture[y1:y2, x1:x2] + share * np.array(colour)
    return picture.round().astype(np.uint8)
