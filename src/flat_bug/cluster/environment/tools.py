"""Running uv and pip, as argument lists."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import uv

from flat_bug.errors import MissingPartError

LINES_OF_A_REASON = 12


def run_uv(arguments: Sequence[str], *, what: str, mend: str = "", offline: bool = False) -> str:
    """Run uv and return what it says.

    Args:
        arguments: Its arguments.
        what: What it means when it fails, for the message: "the dependencies cannot be resolved".
        mend: What to do then.
        offline: Without an index, and without the configuration of the user and the site.

    Raises:
        MissingPartError: It fails.
    """
    cut_off = ["--offline", "--no-config"] if offline else []
    # It would bring an interpreter of the node's version, which resolving does not need.
    options = [*cut_off, "--no-python-downloads", "--color", "never", "--no-progress"]
    command = [uv.find_uv_bin(), *arguments, *options]
    return _run(command, variables=_without_installers() if offline else None, what=what, mend=mend)


def run_pip(
    arguments: Sequence[str],
    *,
    what: str,
    mend: str = "",
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run pip with the user's configuration; where this environment has none, one that uv brings.

    Args:
        arguments: Its arguments.
        what: What it means when it fails, for the message.
        mend: What to do then.
        variables: Environment variables to add.

    Raises:
        MissingPartError: It fails.
    """
    pip = [sys.executable, "-m", "pip"] if find_spec("pip") else [uv.find_uv_bin(), "tool", "run", "pip"]
    command = [*pip, *arguments, "--disable-pip-version-check", "--progress-bar", "off"]
    _run(command, variables={**os.environ, **(variables or {})}, what=what, mend=mend)


def _run(command: list[str], *, what: str, mend: str, variables: Mapping[str, str] | None) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()][-LINES_OF_A_REASON:]
        raise MissingPartError(what, where="\n    ".join(said), mend=mend)
    return done.stdout


def _without_installers() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
