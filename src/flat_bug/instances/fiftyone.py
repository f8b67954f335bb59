"""A dataset that FiftyOne loads: links to the images beside a COCO file that names them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flat_bug.instances.coco import open_coco
from flat_bug.instances.image_result import Add, ImageResult, link_image


@contextmanager
def open_fiftyone(folder: Path) -> Iterator[Add]:
    """Give a function that adds an image to a dataset of FiftyOne's kind ``COCODetectionDataset``.

    Args:
        folder: A new folder that is moved into place as a whole when the block ends without an error.
    """
    images = folder / "data"
    images.mkdir()
    with open_coco(folder / "labels.json") as add_to_coco:

        def add(image: ImageResult) -> None:
            link_image(images, image)
            add_to_coco(image.link_name, image.table)

        yield add
