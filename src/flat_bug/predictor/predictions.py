"""What flat-bug 1.x returned of an image, over ``Instances``."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError, UsageError
from flat_bug.files import atomic_path
from flat_bug.imaging import LazyImage, open_image
from flat_bug.instances.coverage import half_covered
from flat_bug.instances.crops import CropOptions, crop_frames, crops, encode_png
from flat_bug.instances.metadata import Metadata, from_mapping, largest_ring, read_metadata, to_mapping, write_metadata
from flat_bug.instances.overview import encode_jpeg, overview
from flat_bug.instances.table import Instances
from flat_bug.prediction_run.layout import Layout
from flat_bug.predictor.warn import formerly, warn, warn_of_no_effect
from flat_bug.vips import pyvips


class TensorPredictions:
    """What flat-bug 1.x found in one image.

    Attributes:
        instances: The same as ``Instances``: the new way.
        image_path: Where the image lies, if that is known.
    """

    def __init__(self, instances: Instances, image: LazyImage | None = None, image_path: str | None = None) -> None:
        self.instances = instances
        self.image_path = image_path
        self._image = image

    @classmethod
    def load(cls, data: str | Path | dict[str, Any], device: Any = None, dtype: Any = None) -> "TensorPredictions":
        """Read the JSON of one image, or take what such a file holds; device and dtype are without effect.

        Raises:
            DatasetError: The file is no such JSON.
        """
        warn("TensorPredictions.load is of flat-bug 1.x; use flat_bug.Instances.load", DeprecationWarning)
        warn_of_no_effect({"device": (device, None), "dtype": (dtype, None)})
        found = from_mapping(data) if isinstance(data, dict) else read_metadata(Path(data))
        return cls(found.instances, None, found.image_path)

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, rows: Any) -> "TensorPredictions":
        """Return fewer predictions: those of a number, a slice, a list or a tensor of numbers."""
        chosen = rows if isinstance(rows, slice) else np.atleast_1d(np.asarray(rows)).astype(np.intp)
        return TensorPredictions(self.instances[chosen], self._image, self.image_path)

    @property
    @formerly("Instances.boxes")
    def boxes(self) -> npt.NDArray[np.float64]:
        """``(n, 4)`` x1, y1, x2, y2 in image pixels."""
        return self.instances.boxes

    @property
    @formerly("Instances.scores")
    def confs(self) -> npt.NDArray[np.float64]:
        """``(n,)``."""
        return self.instances.scores

    @property
    @formerly("Instances.classes, which count from 0")
    def classes(self) -> npt.NDArray[np.int64]:
        """``(n,)``, counted from 1."""
        return self.instances.classes + 1

    @property
    @formerly("Instances.levels")
    def scales(self) -> list[float]:
        """``n`` scales of the levels that the animals were seen at."""
        return list(map(float, self.instances.levels))

    @property
    @formerly("Instances.polygons, which keep holes and parts")
    def contours(self) -> list[npt.NDArray[np.float64]]:
        """``n`` outlines ``(points, 2)``: the outer ring of the largest part of each."""
        return self._rings()

    @property
    @formerly("Instances.polygons, which keep holes and parts")
    def polygons(self) -> list[npt.NDArray[np.float64]]:
        """``n`` outlines ``(points, 2)``: the outer ring of the largest part of each."""
        return self._rings()

    @property
    @formerly("Instances.areas")
    def areas(self) -> list[float]:
        """``n`` areas in square pixels."""
        return list(map(float, self.instances.areas))

    @property
    @formerly("flat_bug.open_image(path).read(x, y, width, height)")
    def image(self) -> npt.NDArray[np.uint8]:
        """``(3, h, w)`` RGB: all of the image."""
        opened = self._opened()
        return opened.read(0, 0, opened.width, opened.height).transpose(2, 0, 1)

    @property
    @formerly("Instances.crops(image)")
    def crops(self) -> list[npt.NDArray[np.uint8]]:
        """``n`` pictures ``(3, h, w)`` of the boxes with 5 px around."""
        seen = crops(self._opened(), self.instances, CropOptions(background="image"))
        return [picture.transpose(2, 0, 1) for picture in seen]

    @property
    @formerly("Instances.crops(image), whose fourth band is the mask")
    def crop_masks(self) -> list[npt.NDArray[np.bool_]]:
        """``n`` masks ``(1, h, w)`` of what is inside the outline in each crop."""
        frames = crop_frames(self.instances)
        return [
            half_covered(polygon, x1, y1, x2 - x1, y2 - y1)[None]
            for polygon, (x1, y1, x2, y2) in zip(self.instances.polygons, frames, strict=True)
        ]

    @property
    @formerly("Instances.save(path)")
    def json_data(self) -> dict[str, Any]:
        """What the JSON of the image holds."""
        return to_mapping(self._metadata(None))

    @formerly("Instances.overview(image)")
    def plot(
        self,
        *,
        linewidth: int = 2,
        masks: bool = True,
        boxes: bool = True,
        confidence: bool = True,
        outpath: str | None = None,
        scale: float = 1,
        contour_color: tuple[int, int, int] = (255, 0, 0),
        box_color: tuple[int, int, int] = (0, 0, 0),
        alpha: float = 0.3,
        wait: bool = False,
    ) -> str | npt.NDArray[np.uint8]:
        """Draw the predictions over the image, at half its size or less for a scale of 0.5 or less.

        Returns:
            The path if one is given, of a picture of any kind that libvips writes; or else ``(h, w, 3)`` BGR.

        Raises:
            ImageError: The image is damaged, or not known.
            OutputError: The picture cannot be written.
        """
        warn_of_no_effect(
            {
                "linewidth": (linewidth, 2),
                "masks": (masks, True),
                "boxes": (boxes, True),
                "confidence": (confidence, True),
                "contour_color": (tuple(contour_color), (255, 0, 0)),
                "box_color": (tuple(box_color), (0, 0, 0)),
                "alpha": (alpha, 0.3),
            }
        )
        picture = overview(self._opened(), self.instances, fast=scale <= 0.5)
        if outpath is None:
            return picture[..., ::-1]
        with atomic_path(Path(outpath)) as temporary:
            pyvips.Image.new_from_array(picture, interpretation="srgb").write_to_file(str(temporary))
        return outpath

    @formerly("Instances.crops(image)")
    def save_crops(
        self,
        outdir: str,
        basename: str | None = None,
        mask: bool = False,
        identifier: str | None = None,
        wait: bool = False,
    ) -> list[str]:
        """Write a PNG file of each crop, masked by its outline or as it is, and return their paths.

        Raises:
            ImageError: The image is damaged, or not known.
            OutputError: A file cannot be written.
        """
        return self._save_crops(Path(outdir), basename or self._basename(), mask, identifier)

    @formerly("Instances.save(path)")
    def serialize(
        self, outpath: str, save_json: bool = True, save_pt: bool = False, identifier: str | None = None
    ) -> None:
        """Write the JSON of the image to ``outpath`` with the suffix ``.json``; there are no pickles any more.

        Raises:
            OutputError: It cannot be written.
        """
        warn_of_no_effect({"save_pt": (save_pt, False)})
        if save_json:
            write_metadata(_json_path(outpath), self._metadata(identifier))

    @formerly("fb predict, or Instances.save, .overview and .crops")
    def save(
        self,
        output_directory: str,
        *,
        overview: bool | str = True,
        crops: bool | str = True,
        metadata: bool | str = True,
        fast: bool = False,
        mask_crops: bool = False,
        identifier: str | None = None,
        basename: str | None = None,
        wait: bool = False,
    ) -> str | None:
        """Write crops, overview and JSON of the image, each below ``output_directory`` or to the folder that is named.

        Returns:
            The folder of the image, or None if nothing is in it.

        Raises:
            ImageError: The image is damaged, or not known.
            OutputError: A file cannot be written.
        """
        name = basename or self._basename()
        layout = Layout(Path(output_directory), long_format=False)
        folder = Path(output_directory) / name
        if overview:
            path = _below(overview, layout.overview(name, str(identifier)))
            with atomic_path(path) as temporary:
                temporary.write_bytes(encode_jpeg(self.instances.overview(self._opened(), fast=fast)))
        if crops:
            self._save_crops(Path(crops) if isinstance(crops, str) else folder / "crops", name, mask_crops, identifier)
        if metadata:
            write_metadata(_below(metadata, layout.metadata(name, str(identifier))), self._metadata(identifier))
        return str(folder) if True in (overview, crops, metadata) else None

    def _rings(self) -> list[npt.NDArray[np.float64]]:
        return [largest_ring(polygon) for polygon in self.instances.polygons]

    def _metadata(self, identifier: str | None) -> Metadata:
        return Metadata(self.instances, self.image_path or "", identifier or "")

    def _basename(self) -> str:
        if not self.image_path:
            raise UsageError("nobody knows what the image is called", mend="Give basename=….")
        return Path(self.image_path).stem

    def _opened(self) -> LazyImage:
        if self._image is None:
            if not self.image_path:
                raise ImageError("nobody knows where the image is", mend="Give its path when it is predicted.")
            self._image = open_image(self.image_path)
        return self._image

    def _save_crops(self, folder: Path, name: str, mask: bool, identifier: str | None) -> list[str]:
        options = CropOptions(background="transparent" if mask else "image")
        ending = "" if identifier is None else f"UUID_{identifier}"
        paths = [folder / f"crop_{name}_CROPNUMBER_{row}_{ending}.png" for row in range(len(self))]
        for path, picture in zip(paths, crops(self._opened(), self.instances, options), strict=True):
            with atomic_path(path) as temporary:
                temporary.write_bytes(encode_png(picture, options.record))
        return [str(path) for path in paths]


def _below(folder: bool | str, usual: Path) -> Path:
    """Return where a file is written: at its usual place, or to a folder that is named."""
    return Path(folder) / usual.name if isinstance(folder, str) else usual


def _json_path(path: str) -> Path:
    return Path(path) if path.lower().endswith(".json") else Path(f"{path}.json")
