"""What a training begins with, by which a later attempt knows whether it may go on with the work of an earlier one.

The digest of the tiles does not tell: it is that of the annotations, and neither of the images nor of the weights.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from flat_bug.datasets.staged_folder import intact, read_receipt
from flat_bug.errors import DatasetError, OutputError
from flat_bug.experiments.digests import Digest, digest_of
from flat_bug.experiments.plan import Frozen
from flat_bug.files import sha256_of

IMAGES = "insects/images"


class TrainInputs(Frozen):
    """What a training begins with, besides annotations and settings.

    Attributes:
        weights: SHA-256 of the weight files that the settings name, in their order.
        archive: Identity of the archive that the tree was staged from, if it was.
        images: Of all images otherwise.
    """

    weights: tuple[str, ...] = ()
    archive: str = ""
    images: Digest | None = None

    @classmethod
    def of(cls, tree: Path, weights: Iterable[Path], known: Iterable["TrainInputs"]) -> Self:
        """Return what a training on a tree begins with now.

        Args:
            tree: The prepared tree.
            weights: The weight files.
            known: What earlier attempts began with. Images whose names, sizes and times are theirs are not read again.

        Raises:
            DatasetError: An image cannot be read.
        """
        # A weight file that is absent is for the training to complain of.
        digests = tuple(sha256_of(path) if path.is_file() else "" for path in weights)
        archive = _archive_of(tree)
        if archive:
            return cls(weights=digests, archive=archive)
        return cls(weights=digests, images=_images_of(tree, known))

    @classmethod
    def in_record(cls, record: Mapping[str, Any]) -> Self | None:
        """Return what is noted under ``inputs``, or None where that is nothing of use."""
        try:
            return cls.model_validate(record.get("inputs"))
        except ValidationError:
            return None

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """Return what is noted under ``inputs`` in a JSON file, or None where that is nothing of use."""
        try:
            return cls.in_record(json.loads(file.read_bytes()))
        except (OSError, ValueError, AttributeError):  # absent, cut short, or a list
            return None

    def have_data_of(self, other: "TrainInputs | None") -> bool:
        """Return whether the images are the same."""
        return other is not None and self._data() == other._data()

    def are_those_of(self, other: "TrainInputs | None") -> bool:
        """Return whether the images and the weights are the same."""
        return other is not None and self.weights == other.weights and self.have_data_of(other)

    def _data(self) -> tuple[str, str]:
        return self.archive, self.images.sha256 if self.images else ""


def _archive_of(tree: Path) -> str:
    """Return the identity of the archive that all images of a tree come from, or nothing."""
    try:
        receipt = read_receipt(tree)
    except (OutputError, OSError):
        return ""
    if receipt is None:
        return ""
    names = {name for name in receipt.files if name.startswith(f"{IMAGES}/")}
    return receipt.identity if intact(tree, receipt.files, names) == names else ""


def _images_of(tree: Path, known: Iterable[TrainInputs]) -> Digest:
    try:
        return digest_of(tree / IMAGES, [inputs.images for inputs in known if inputs.images is not None])
    except OSError as error:
        raise DatasetError(f"the images cannot be read: {error.strerror or error}", where=tree / IMAGES) from error
