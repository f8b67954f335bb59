"""Numbers for the animals of each video, which stay the same from frame to frame."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from flat_bug.instances.metadata import Metadata, read_metadata
from flat_bug.prediction_run.inputs import InputImage
from flat_bug.progress import reporting
from flat_bug.tracking import Sight, track

Found = Sequence[tuple[InputImage, Path]]
"""Each image that did not fail, and the JSON that holds its animals."""


Rewrite = Callable[[InputImage, Path, Metadata], None]


def write_tracks(images: Found, rewrite: Rewrite) -> None:
    """Write the number of each animal into the JSON of its frame, where it is not there.

    It is done when all frames are there, so that nothing depends on which process did them, and when.

    Args:
        images: In order; those that are no frames are left alone.
        rewrite: Writes the JSON of an image anew.

    Raises:
        OutputError: A JSON cannot be written.
    """
    frames = [(image, path) for image, path in images if image.part.frame_index is not None]
    done = 0
    with reporting("Tracking") as report:
        for _, group in groupby(frames, key=lambda frame: frame[0].source):
            video = list(group)
            _track_one(video, rewrite)
            done += len(video)
            report(done, len(frames))


def _track_one(frames: Found, rewrite: Rewrite) -> None:
    sights = []
    for _, path in frames:
        table = read_metadata(path).instances
        sights.append(Sight(table.time_s or 0.0, table.boxes, table.classes))
    for (image, path), numbers in zip(frames, track(sights), strict=True):
        found = read_metadata(path)
        numbered = replace(found, instances=replace(found.instances, track_ids=numbers))
        if numbered != found:
            rewrite(image, path, numbered)
