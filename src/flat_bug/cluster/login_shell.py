"""What a login shell here finds: environment modules and interpreters. Only constant text and plain words reach it."""

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from flat_bug.cluster.scheduler import clean_environment

SECONDS = 120.0
"""The first look into a network file system of modules takes long."""

_MARK = "@flat-bug@"
"""Begins our own lines among those of login scripts."""

_HEAD = f"""\
if ! type module >/dev/null 2>&1; then
  for file in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /usr/share/lmod/lmod/init/bash; do
    [ ! -r "$file" ] || . "$file"
  done
fi
say() {{ echo "{_MARK}$1 $2"; }}
"""
_PYTHON = (
    "import json, os, platform, sys; "
    "glibc = (os.confstr('CS_GNU_LIBC_VERSION') or '').split(' ')[-1]; "
    "print(json.dumps([platform.python_version(), platform.machine(), glibc, sys.executable]))"
)
_PYTHON_MODULE = re.compile(r"[Pp]ython/3\.[0-9][A-Za-z0-9._-]*")
_FAILED = re.compile(r"Unable to locate a modulefile|\bERROR\b|has detected the following error", re.IGNORECASE)


@dataclass(frozen=True)
class Interpreter:
    """An interpreter: ``3.11.5``, ``x86_64``, ``2.37``, and its path."""

    version: str
    machine: str
    glibc: str
    path: str


@dataclass(frozen=True)
class Shell:
    """What a login shell has found.

    Attributes:
        has_modules: Whether there is a command ``module``.
        loaded: The modules that are loaded in the end.
        failure: Why they could not be loaded, or nothing.
        interpreter: What the command of the interpreter starts, if anything.
    """

    has_modules: bool = False
    loaded: tuple[str, ...] = ()
    failure: str = ""
    interpreter: Interpreter | None = None


def load_modules(commands: Sequence[str], python: str) -> Shell:
    """Load modules in a login shell, and ask an interpreter what it is.

    Args:
        commands: Lines of ``ClusterProfile.module_commands``, whose words were checked to need no quoting.
        python: The interpreter of a profile, which was checked likewise.
    """
    lines = [
        _HEAD,
        "type module >/dev/null 2>&1 && say has yes",
        "load() {",
        "true",
        *(f"{command} || return 1" for command in commands),
        "}",
        'load && say loaded "${LOADEDMODULES:-}"',
        f'say python "$({python} -I -c "{_PYTHON}" 2>/dev/null)"',
    ]
    answer, errors = _run("\n".join(lines))
    found = dict(answer)
    failed = bool(commands) and ("loaded" not in found or _FAILED.search(errors) is not None)
    return Shell(
        has_modules="has" in found,
        loaded=tuple(filter(None, found.get("loaded", "").split(":"))),
        failure=_reason(errors, has_modules="has" in found) if failed else "",
        interpreter=_interpreter(found.get("python", "")),
    )


def available_pythons() -> tuple[str, ...]:
    """Return the modules of Python that a login shell finds: ``python/3.11.5``."""
    answer, _ = _run(f'{_HEAD}module -t avail python 2>&1 | while read -r name; do say module "$name"; done')
    names = (re.sub(r"\(.*\)$", "", value) for key, value in answer if key == "module")
    return tuple(dict.fromkeys(name for name in names if _PYTHON_MODULE.fullmatch(name)))


def _run(script: str) -> tuple[list[tuple[str, str]], str]:
    """Run a script in a login shell; return our own lines, first word and rest, and what went to standard error."""
    try:
        done = subprocess.run(
            ["bash", "-l", "-c", script],  # noqa: S607 - the bash that people have
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=clean_environment(),
            timeout=SECONDS,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return [], f"a login shell took longer than {SECONDS:g} s"
    except OSError as error:
        return [], f"bash cannot be started: {error.strerror}"
    lines = (line.removeprefix(_MARK).partition(" ") for line in done.stdout.splitlines() if line.startswith(_MARK))
    return [(key, value) for key, _, value in lines], done.stderr


def _reason(errors: str, *, has_modules: bool) -> str:
    if not has_modules:
        return "there is no command `module` here"
    lines = [" ".join(line.split()) for line in errors.splitlines() if line.strip()]
    # Lmod puts the names on the line below its complaint.
    start = next((k for k, line in enumerate(lines) if _FAILED.search(line)), 0)
    return " ".join(lines[start : start + 2]) or "`module load` failed and said nothing"


def _interpreter(text: str) -> Interpreter | None:
    try:
        version, machine, glibc, path = json.loads(text)
    except ValueError:
        return None
    return Interpreter(version, machine, glibc, path)
