"""Every error that a user can meet, in three parts: what happened, where, and how to mend it.

A command prints the three parts on three lines of standard error and ends with the error's exit code.
Nothing in this module imports from the rest of the package, so every module can raise these.
"""

from pathlib import Path
from typing import ClassVar

EXIT_OK = 0
EXIT_ITEMS_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_MISSING_PART = 3
EXIT_INTERRUPTED = 130


class FlatBugError(Exception):
    """An error that says what happened, where, and how to mend it.

    Args:
        what: One sentence, without the location: "the image is truncated".
        where: The file, the annotation, the option, or nothing.
        mend: One sentence in the imperative: "Copy the file again from its source."
    """

    exit_code: ClassVar[int] = EXIT_BAD_INPUT

    def __init__(self, what: str, *, where: str | Path = "", mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = str(where)
        self.mend = mend

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; the default protocol would lose the keyword-only parts.
        return _rebuild, (type(self), self.what, self.where, self.mend)

    def lines(self) -> list[str]:
        """Return the parts that are not empty, in the order in which they are printed."""
        return [part for part in (self.what, self.where, self.mend) if part]

    def brief(self) -> str:
        """Return the error on one line, for a row in a table or a log."""
        return f"{self.what} ({self.where})" if self.where else self.what


def _rebuild(kind: type[FlatBugError], what: str, where: str, mend: str) -> FlatBugError:
    return kind(what, where=where, mend=mend)


class UsageError(FlatBugError):
    """The command was given options that do not go together or do not exist."""


class ConfigError(FlatBugError):
    """A setting has an unknown name or an impossible value."""


class ImageError(FlatBugError):
    """An image cannot be read: truncated, empty, not an image."""


class WeightsError(FlatBugError):
    """A weight file is corrupt, of the wrong kind, or not the one that its card describes."""


class DatasetError(FlatBugError):
    """A dataset breaks its format: not COCO, a missing image, an impossible annotation."""


class OutputError(FlatBugError):
    """The output cannot be written: it exists already, is read-only, or the disk is full."""


class RunError(FlatBugError):
    """A run folder is missing, broken, or in use by another process."""


class ItemsFailedError(FlatBugError):
    """The work is done except for the items that are listed; ends with exit code 1."""

    exit_code = EXIT_ITEMS_FAILED


class MissingPartError(FlatBugError):
    """Something around us is missing: an optional extra, disk space, a scheduler."""

    exit_code = EXIT_MISSING_PART
