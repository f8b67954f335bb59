"""Draw translucent shapes and small text over a picture, with the renderer of matplotlib and none of its figures."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import shapely
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

Picture = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]
Box = tuple[float, float, float, float]

BOLD = FontProperties(family="DejaVu Sans", weight="bold")
DIGIT_HEIGHT = 0.73
"""Height of a digit of the font as a share of its size."""


class Canvas:
    """A picture to draw on; coordinates are picture pixels, y down, colours RGB between 0 and 1."""

    def __init__(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        # The renderers of matplotlib carry no types.
        self._renderer = RendererAgg(width, height, 72)  # type: ignore[no-untyped-call]
        self._pixels = np.asarray(self._renderer.buffer_rgba())  # type: ignore[no-untyped-call]
        self._pixels[..., :3] = picture
        self._pixels[..., 3] = 255
        self._down = Affine2D().scale(1, -1).translate(0, height)

    def picture(self) -> Picture:
        """Return what is drawn, ``uint8 (h, w, 3)``."""
        return np.ascontiguousarray(self._pixels[..., :3])

    def fill(self, path: Path, colour: Colour, opacity: float) -> None:
        """Fill a path."""
        self._draw(path, colour, 0.0, 0.0, (*colour, opacity))

    def stroke(self, path: Path, colour: Colour, opacity: float, width: float) -> None:
        """Draw the line of a path, so many pixels wide."""
        self._draw(path, colour, opacity, width, None)

    def _draw(
        self, path: Path, line: Colour, opacity: float, width: float, face: tuple[float, float, float, float] | None
    ) -> None:
        context = self._renderer.new_gc()
        context.set_foreground((*line, opacity), isRGBA=True)
        context.set_linewidth(width)
        context.set_snap(False)
        self._renderer.draw_path(context, path, self._down, face)  # type: ignore[no-untyped-call]


def path_of(polygon: shapely.Geometry) -> Path:
    """Return a ``Polygon`` or ``MultiPolygon`` as a path, its holes turned against its outer rings."""
    parts = shapely.orient_polygons(shapely.get_parts(polygon))
    vertices, ring = shapely.get_coordinates(shapely.get_rings(parts), return_index=True)
    border = ring[1:] != ring[:-1]
    codes = np.full(len(vertices), Path.LINETO, np.uint8)
    codes[np.concatenate([[True], border])[: len(codes)]] = Path.MOVETO
    codes[np.concatenate([border, [True]])[-len(codes) :]] = Path.CLOSEPOLY
    return Path(vertices, codes)


def path_of_box(box: Box) -> Path:
    """Return the four sides of x1, y1, x2, y2."""
    x1, y1, x2, y2 = box
    return Path([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)], closed=True)


@lru_cache(maxsize=128)  # laying out a text takes longer than all the rest of a label, and scores repeat
def path_of_text(text: str, digit_height: float) -> tuple[Path, float]:
    """Return a text whose line starts at the origin, and its width, both in pixels."""
    path = TextPath((0, 0), text, size=digit_height / DIGIT_HEIGHT, prop=BOLD)
    return Affine2D().scale(1, -1).transform_path(path), float(path.get_extents().x1)
