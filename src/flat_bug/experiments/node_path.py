"""Paths that may only exist on the machine that runs a task."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flat_bug.errors import UsageError

VARIABLES = (
    "SLURM_TMPDIR",
    "SLURM_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SCRATCH",
    "PROJECT",
    "HOME",
    "USER",
    "TMPDIR",
)
"""The variables that a path may hold."""

_FOLDERS = frozenset(VARIABLES) - {"SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "USER"}
_DOLLAR = "$"
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+|\$)\}|([A-Za-z0-9_]+))")


@dataclass(frozen=True)
class NodePath:
    """Text of a path in which ``~`` at the start and ``$NAME`` or ``${NAME}`` of ``VARIABLES`` stand for their values.

    Everything else is the literal text of file names, whatever a shell would make of it: no value of an option ever
    reaches one. The values of variables are literal, too. ``${$}`` is a dollar, for a folder that is really called
    ``$HOME``.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError("a path is empty", mend="If it began as a variable, that variable is not set here.")
        if "\0" in self.text or any("\ud800" <= character <= "\udfff" for character in self.text):
            raise UsageError("a path holds bytes that are not text", where=repr(self.text), mend="Rename the file.")

    def __str__(self) -> str:
        return self.text

    @classmethod
    def literal(cls, path: Path) -> "NodePath":
        """Return the path of something that was found here; it has no variables, whatever its name."""
        return cls(literal_text(str(path.absolute())))

    def anchored(self) -> "NodePath":
        """Return the same path from the root, so that it means the same wherever a task is started."""
        first = _VARIABLE.match(self.text)
        if self.text.startswith("/") or self._starts_at_home() or (first is not None and _name(first) in _FOLDERS):
            return self
        return NodePath(f"{NodePath.literal(Path.cwd())}/{self.text}")

    def variables(self) -> tuple[str, ...]:
        """Return the allowed variables that the text holds; ``~`` counts as ``HOME``."""
        found = [name for name in (_name(match) for match in _VARIABLE.finditer(self.text)) if name in VARIABLES]
        return ("HOME", *found) if self._starts_at_home() else tuple(found)

    def is_known_here(self, environment: Mapping[str, str] | None = None) -> bool:
        """Return whether every variable in it has a value in this process."""
        values = os.environ if environment is None else environment
        return all(values.get(name) for name in self.variables())

    def resolve(self, environment: Mapping[str, str] | None = None) -> Path:
        """Return the path on this machine.

        Args:
            environment: Values of the variables; by default those of this process.

        Raises:
            UsageError: A variable in it is not set, or empty.
        """
        values = os.environ if environment is None else environment
        for name in self.variables():
            if not values.get(name):
                raise UsageError(
                    f"the variable {name} is not set here",
                    where=self.text,
                    mend="Give a path that exists here, or run where the variable is set.",
                )
        rest = self.text[1:] if self._starts_at_home() else self.text
        start = values["HOME"] if self._starts_at_home() else ""
        return Path(start + _VARIABLE.sub(lambda match: _value_of(match, values), rest))

    def check_not_emptied(self) -> None:
        """Check that the login shell did not replace a variable by nothing before the command saw it.

        An unescaped ``$SLURM_TMPDIR/fb_yolo`` arrives from a login node as ``/fb_yolo``, a top folder that no machine
        has.

        Raises:
            UsageError: The path looks like that.
        """
        first = re.match(r"/+([^/]+)", self.text)
        if first is None or first[1] in {".", ".."} or Path("/", first[1]).exists():
            return
        raise UsageError(
            f"there is no folder /{first[1]}: did the shell replace a variable by nothing?",
            where=self.text,
            mend=f'Escape the variable: "\\$SLURM_TMPDIR{self.text}". If only the nodes have /{first[1]}, '
            f"write /.{self.text}",
        )

    def _starts_at_home(self) -> bool:
        return self.text == "~" or self.text.startswith("~/")


def literal_text(name: str) -> str:
    """Return a name as a part of the text of a ``NodePath``, in which it has no variables."""
    return name.replace(_DOLLAR, "${$}")


def _name(match: re.Match[str]) -> str:
    return match[1] or match[2]


def _value_of(match: re.Match[str], values: Mapping[str, str]) -> str:
    if _name(match) == _DOLLAR:
        return _DOLLAR
    return values[_name(match)] if _name(match) in VARIABLES else match[0]
