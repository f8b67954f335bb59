"""In which formats all images are written for other programs."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from cyclopts import Group, Parameter

from flat_bug.errors import UsageError

VIEWER = "viewer"
"""Is named among the formats too, though it shows images one by one and is written apart from them."""


@Parameter(name="*", group=Group("Other programs", sort_key=5))
@dataclass(frozen=True, kw_only=True)
class FormatChoice:
    """What other programs get.

    Attributes:
        formats: What other programs read: geojson (QuPath), cvat, labelstudio, yolo (ultralytics), fiftyone, parquet
            (the measurements), viewer (as --viewer); several with commas.
        viewer: Write a folder in which all images are looked at in a browser: deep zoom, filters, a table.
        coco_rle: Write all outlines of the COCO file as run-length masks, not only those with holes.
        image_url: What stands before the names of images in Label Studio's tasks, if they are on a server.
    """

    formats: list[str] = field(default_factory=list)
    viewer: bool = False
    coco_rle: bool = False
    image_url: str | None = None

    def chosen(self) -> dict[str, Any]:
        """Return what is chosen, by the names of settings."""
        names = format_names(self.formats)
        return {
            "formats": tuple(name for name in names if name != VIEWER),
            "viewer": self.viewer or VIEWER in names,
            "coco_rle": self.coco_rle,
            "image_url": self.image_url,
        }

    def refuse_unused(self, written: Collection[str]) -> None:
        """Refuse what is chosen about a format that is not written.

        Args:
            written: Names of the formats that are.

        Raises:
            UsageError: Something is.
        """
        about = {"--coco-rle": (self.coco_rle, "coco"), "--image-url": (self.image_url is not None, "labelstudio")}
        for option, (is_given, name) in about.items():
            if is_given and name not in written:
                mend = f"Write it too (--formats {name}), or leave {option} out."
                raise UsageError(f"{option} is about {name}, which is not written", mend=mend)


def format_names(words: Sequence[str]) -> tuple[str, ...]:
    """Return the formats that are named, the viewer among them, one or several with commas in each word, each once.

    Raises:
        UsageError: There is no such format.
    """
    named = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if not named:
        return ()
    known = _known()
    # People may think of the program: QuPath, label-studio.
    programs = {_plain(used_with): name for name, used_with in known.items()}
    names = [programs.get(_plain(name), _plain(name)) for name in named]
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            mend = f"{hint}Known: {known_formats()}."
            raise UsageError(f"there is no format {name!r}", where="--formats", mend=mend)
    return tuple(dict.fromkeys(names))


def known_formats() -> str:
    """Return the names of all formats and what each is used with, for messages."""
    return ", ".join(f"{name} ({used_with})" for name, used_with in _known().items())


def _known() -> dict[str, str]:
    from flat_bug.instances.formats import FORMATS  # noqa: PLC0415 - loads shapely

    return {kind.name: kind.used_with for kind in FORMATS.values()} | {VIEWER: "any browser"}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
