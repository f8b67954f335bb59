"""Where the results of an image lie in the output folder."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field, field_validator

from flat_bug.config import Settings
from flat_bug.instances.crops import MARGIN, Background, CropOptions
from flat_bug.instances.formats import FORMATS, FormatOptions

SEPARATOR = "_UUID_"
IDENTIFIER = re.compile(r"[^/\\:\x00-\x1f]{1,60}")


class OutputSettings(Settings):
    """What is written for each image, and how it is arranged."""

    crops: bool = Field(True, description="A picture of each instance.")
    overviews: bool = Field(True, description="A picture of the image with its instances drawn in.")
    metadata: bool = Field(True, description="The JSON of the image.")
    coco: bool = Field(True, description="One COCO file of all images.")
    measurements: bool = Field(True, description="Length, width, colour and more of each instance, and a CSV of all.")
    tracks: bool = Field(False, description="Numbers that the animals of a video keep from frame to frame.")
    formats: tuple[str, ...] = Field((), description="Formats of all images that other programs read.")
    viewer: bool = Field(False, description="A folder in which all images are looked at in a browser.")
    coco_rle: bool = Field(False, description="Run-length masks in the COCO file for all outlines.")
    image_url: str | None = Field(None, description="What stands before the name of an image in Label Studio's tasks.")
    long_format: bool = Field(False, description="Three shared folders instead of a folder for each image.")
    fast: bool = Field(False, description="Smaller overviews.")
    crop_size: int | None = Field(
        None, ge=8, le=4096, description="Side of a square that each animal is scaled to fit."
    )
    crop_margin: int = Field(MARGIN, ge=0, le=10_000, description="Image pixels around the box of an animal.")
    crop_background: Background = Field("transparent", description="What is around the outline of an animal.")
    identifier: str | None = Field(None, description="Last part of the file names; by default made from the content.")

    @field_validator("identifier")
    @classmethod
    def _is_part_of_a_file_name(cls, value: str | None) -> str | None:
        if value is not None and (not IDENTIFIER.fullmatch(value) or SEPARATOR in value):
            raise ValueError(f"1 to 60 characters that a file name may have, without {SEPARATOR}")
        return value

    @field_validator("formats")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in FORMATS]
        if unknown:
            raise ValueError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
        return value

    @property
    def all_formats(self) -> tuple[str, ...]:
        """The formats of all images that are written, each once."""
        own = {"coco": self.coco, "measurements": self.measurements}
        return tuple(dict.fromkeys([*(name for name, wanted in own.items() if wanted), *self.formats]))

    @property
    def has_all_images(self) -> bool:
        """Whether anything is made of all images together, for which the instances of each are needed at the end."""
        return bool(self.all_formats) or self.viewer

    @property
    def crop_options(self) -> CropOptions:
        """How crops are cut."""
        return CropOptions(self.crop_size, self.crop_margin, self.crop_background)

    @property
    def format_options(self) -> FormatOptions:
        """What is chosen about formats."""
        return FormatOptions(self.coco_rle, self.image_url)


@dataclass(frozen=True)
class Layout:
    """The names of all results in an output folder.

    Attributes:
        output: The folder.
        long_format: Three shared folders instead of a folder for each image.
    """

    output: Path
    long_format: bool

    def metadata(self, name: str, identifier: str) -> Path:
        """Return the path of the JSON of an image."""
        return self._folder(name, "metadata") / f"metadata_{name}{SEPARATOR}{identifier}.json"

    def overview(self, name: str, identifier: str) -> Path:
        """Return the path of the overview of an image."""
        return self._folder(name, "overviews") / f"overview_{name}{SEPARATOR}{identifier}.jpg"

    def crops(self, name: str, identifier: str, count: int) -> list[Path]:
        """Return the path of the crop of each instance."""
        folder = self._folder(name, "crops")
        return [folder / f"crop_{name}_CROPNUMBER_{row}{SEPARATOR}{identifier}.png" for row in range(count)]

    def former(self, name: str) -> list[Path]:
        """Return the results of an image that are there already, the JSON first, whatever their identifier."""
        # Shared folders hold the results of all images, so they are read once; an image is written once in a run.
        index = self._shared if self.long_format else _index(self.own_folders(name))
        return [path for kind in ("metadata", "overview", "crop") for path in index.get(f"{kind}_{name}", ())]

    def own_folders(self, name: str) -> list[Path]:
        """Return the folders that hold results of this image only."""
        return [] if self.long_format else [self.output / name, self.output / name / "crops"]

    @property
    def shared_folders(self) -> list[Path]:
        """The folders that hold results of all images."""
        return [self.output / kind for kind in ("metadata", "overviews", "crops")] if self.long_format else []

    def _folder(self, name: str, kind: str) -> Path:
        if self.long_format:
            return self.output / kind
        return self.output / name / "crops" if kind == "crops" else self.output / name

    @cached_property
    def _shared(self) -> dict[str, list[Path]]:
        return _index(self.shared_folders)


def has_identifier(path: Path, identifier: str) -> bool:
    """Return whether a result carries an identifier."""
    return path.stem.endswith(f"{SEPARATOR}{identifier}")


def _index(folders: list[Path]) -> dict[str, list[Path]]:
    """Return the results in some folders by kind and name of the image: ``crop_beetle`` → paths."""
    index: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            owner = re.sub(r"^(crop_.*)_CROPNUMBER_\d+$", r"\1", path.name.rpartition(SEPARATOR)[0], flags=re.DOTALL)
            index[owner].append(path)
    return dict(index)
