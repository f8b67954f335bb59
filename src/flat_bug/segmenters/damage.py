"""Whatever a damaged weight file raises becomes an error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flat_bug.errors import FlatBugError, WeightsError

LONGEST = 300
"""Characters of what a library says that are worth showing."""


@contextmanager
def refused_as(what: str, weights: Path, mend: str) -> Iterator[None]:
    """Have whatever is raised in the block, but for errors of ours, say what the file is not.

    Args:
        what: What is said of the file: "this is not an ultralytics checkpoint".
        weights: The file.
        mend: What to do about it.

    Raises:
        WeightsError: Something was raised.
    """
    try:
        yield
    except FlatBugError:
        raise
    except Exception as error:  # a pickle, or a damaged file, can raise anything
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise WeightsError(f"{what}: {said[:LONGEST]}", where=weights, mend=mend) from error
