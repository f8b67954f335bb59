"""A dataset that FiftyOne loads: links to the images beside a COCO file that names them."""

from collections.abc import Iterable
from pathlib import Path

from flat_bug.instances.coco import write_coco
from flat_bug.instances.image_result import ImageResult, link_images


def write_fiftyone(folder: Path, images: Iterable[ImageResult]) -> None:
    """Write a dataset of FiftyOne's kind ``COCODetectionDataset``; one image at a time is in memory.

    Args:
        folder: A new folder that is moved into place as a whole.
        images: All images.
    """
    linked = link_images(folder / "data", images)
    write_coco(folder / "labels.json", ((image.link_name, image.table) for image in linked))
