"""The readers, each as a function of a broken file; an error of ours is what is expected of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz import seeds
from tests.fuzz.mutate import mutate_bytes, mutate_json

from flat_bug.datasets.coco import read_coco
from flat_bug.errors import FlatBugError
from flat_bug.imaging import open_image
from flat_bug.instances.metadata import read_metadata

CORNER = 64


@dataclass(frozen=True)
class Target:
    """A reader that is tried.

    Attributes:
        make: Returns a broken file.
        read: Reads it as the program does.
    """

    make: Callable[[Random], bytes]
    read: Callable[[Path], object]

    def attempt(self, path: Path) -> bool:
        """Return whether a file could be read; an error of ours says that it could not, any other one is raised."""
        try:
            self.read(path)
        except FlatBugError as error:
            error.brief().encode()  # can be printed
            return False
        return True


def _broken_image(random: Random) -> bytes:
    return mutate_bytes(random.choice(list(seeds.images().values())), random)


def _read_image(path: Path) -> None:
    """Read what a predictor does: the last corner, and a small picture of the whole unless that is very large."""
    image = open_image(path)
    wide, high = min(CORNER, image.width), min(CORNER, image.height)
    image.read(image.width - wide, image.height - high, wide, high)
    if image.width * image.height < 10_000_000:
        image.read(0, 0, wide, high, size=(wide, high))


def _broken_metadata(random: Random) -> bytes:
    return mutate_json(random.choice((seeds.metadata, seeds.legacy_metadata))(), random)


def _broken_coco(random: Random) -> bytes:
    return mutate_json(seeds.coco(), random)


TARGETS = {
    "images": Target(_broken_image, _read_image),
    "metadata": Target(_broken_metadata, read_metadata),
    "coco": Target(_broken_coco, read_coco),
}
