"""One command at a time writes into an output folder, and clears away what another one left that was killed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flat_bug.files import TEMPORARY, cannot_write, remove_leftovers
from flat_bug.locks import hold_for_now
from flat_bug.prediction_run.inputs import LOCK_NAME
from flat_bug.prediction_run.layout import Layout


@contextmanager
def claimed(layout: Layout) -> Iterator[None]:
    """Let nobody else predict into an output folder during the block.

    Two commands would do the same work, or each remove the other's results as those of other settings.

    Raises:
        RunError: Another process does so.
        OutputError: The folder cannot be written to.
    """
    try:
        layout.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(layout.output, error) from error
    with hold_for_now(layout.output / LOCK_NAME, "the output folder"):
        # Those in the folders of one image are removed when the image is looked at.
        for folder in (layout.output, *layout.shared_folders):
            remove_leftovers(folder)
        yield


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder in the output, which shows before the first image that it can be written to.

    Raises:
        OutputError: It cannot.
    """
    try:
        holder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=output))
        (holder / "new").mkdir()
    except OSError as error:
        raise cannot_write(output, error) from error
    try:
        yield holder / "new"
    finally:
        shutil.rmtree(holder, ignore_errors=True)
