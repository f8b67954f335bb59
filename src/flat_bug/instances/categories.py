"""One numbering of classes for images whose models may name them differently."""

import numpy as np
import numpy.typing as npt

from flat_bug.instances.table import Instances


class Categories:
    """The names of classes over many images, numbered from 0 in the order in which they are first met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names, by number; flat-bug's only class where no image was met."""
        return tuple(self._numbers) or ("insect",)

    def numbers(self, table: Instances) -> npt.NDArray[np.int64]:
        """Return the number of the class of each instance; all classes of the table's model are met by it."""
        known = [self._numbers.setdefault(name, len(self._numbers)) for name in table.class_names]
        return np.array(known, np.int64)[table.classes]
