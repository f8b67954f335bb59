"""Running uv and pip, as argument lists."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import uv

from flat_bug.errors import MissingPartError

LINES_OF_A_REASON = 12


def run_uv(arguments: Sequence[str], *, what: str, offline: bool = False) -> str:
    """Run uv and return what it says on standard error.

    Args:
        arguments: Its arguments.
        what: What is done, for the message: "the dependencies cannot be resolved".
        offline: Without an index, and without the configuration of the user and the site.

    Raises:
        MissingPartError: It fails.
    """
    cut_off = ["--offline", "--no-config", "--no-python-downloads"] if offline else []
    command = [uv.find_uv_bin(), *arguments, *cut_off, "--color", "never", "--no-progress"]
    return _run(command, variables=_without_installers() if offline else None, what=what)


def run_pip(
    arguments: Sequence[str],
    *,
    what: str,
    variables: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run pip with the user's configuration; where this environment has none, one that uv brings.

    Args:
        arguments: Its arguments.
        what: What is done, for the message.
        variables: Environment variables to add.
        on_line: Is told each line that pip prints.

    Raises:
        MissingPartError: It fails.
    """
    pip = [sys.executable, "-m", "pip"] if find_spec("pip") else [uv.find_uv_bin(), "tool", "run", "pip"]
    command = [*pip, *arguments, "--disable-pip-version-check", "--progress-bar", "off"]
    _run(command, variables={**os.environ, **(variables or {})}, what=what, on_line=on_line)


def _run(
    command: list[str], *, what: str, variables: Mapping[str, str] | None, on_line: Callable[[str], None] | None = None
) -> str:
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        for line in process.stdout:
            lines.append(line.rstrip())
            if on_line is not None:
                on_line(line)
    if process.returncode:
        said = [line for line in lines if line.strip()][-LINES_OF_A_REASON:]
        raise MissingPartError(what, where="\n    ".join(said))
    return "\n".join(lines)


def _without_installers() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
