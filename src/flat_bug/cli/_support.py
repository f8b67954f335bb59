"""What every command shares: running it, printing its errors, and the exit code."""

import errno
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError

from flat_bug.cli.streams import make_usable
from flat_bug.cli.wording import lines_of
from flat_bug.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, FlatBugError, UsageError

if TYPE_CHECKING:
    import polars as pl

WIDTH_OF_A_LOG = 1000
EXIT_BROKEN_PIPE = 141
"""What a shell says of a program that the system ended since nobody read what it printed."""


def run(app: App, tokens: list[str]) -> int:
    """Run a command line and return its exit code.

    A command returns nothing when all is done, or its exit code. ``--debug`` adds the traceback to an error, and
    option names may be written with ``_`` for ``-``.
    """
    make_usable()
    # What follows `--` is another command, whose words are its own.
    end = tokens.index("--") if "--" in tokens else len(tokens)
    debug = "--debug" in tokens[:end]
    words = _with_tied_dashes([_with_hyphens(word) for word in tokens[:end] if word != "--debug"]) + tokens[end:]
    try:
        _refuse_empty(tokens[:end])
        words = _with_slurm_words(app, words)
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()  # what cannot be printed is found out here, and not when Python ends
    except FlatBugError as error:
        if debug:
            traceback.print_exc()
        print_lines(error.lines())
        return error.exit_code
    except CycloptsError as error:
        if debug:
            traceback.print_exc()
        print_lines(lines_of(error, words, app.name[0]))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print_lines(["interrupted", "Nothing is half-written; run the same command again."])
        return EXIT_INTERRUPTED
    except (OSError, SystemExit) as error:
        if debug:
            traceback.print_exc()
        return _after_system_error(error)
    return code if isinstance(code, int) else EXIT_OK


def _after_system_error(error: OSError | SystemExit) -> int:
    """Say what the system refused and no part of ours has foreseen, and return the exit code."""
    _drop_output()
    # rich ends the process on a broken pipe; nothing else of ours does.
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        return EXIT_BROKEN_PIPE  # `fb logs RUN | head -1`: whoever read it has seen enough
    if isinstance(error, SystemExit):
        raise error
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    mend = "See to it that the file can be read or written; --debug tells where this was found out."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        mend = "Free some space, then run the same command again."
    failure = FlatBugError(f"the system says: {error.strerror or error}", where=" → ".join(files), mend=mend)
    print_lines(failure.lines())
    return failure.exit_code


def _drop_output() -> None:
    """Print what is left to be printed, or have it vanish: Python would fail once more on it when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_slurm_words(app: App, words: list[str]) -> list[str]:
    """Return the words with the options of sbatch that follow ``--slurm`` gathered behind it."""
    own_words = words[: words.index("--")] if "--" in words else words
    if not any(word == "--slurm" or word.startswith("--slurm=") for word in own_words):
        return words
    from flat_bug.cluster.options import gather_slurm_words  # noqa: PLC0415 - most commands have no such options

    command, _, _ = app.parse_commands(words)
    for name in command:
        app = app[name]
    own = [name for argument in app.assemble_argument_collection(parse_docstring=False) for name in argument.names]
    return gather_slurm_words(words, own)


def print_lines(lines: list[str]) -> None:
    """Print an error's lines to standard error, the first one marked."""
    first, *others = lines
    print(f"fb: {first}", file=sys.stderr)
    for line in others:
        print(f"    {line}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print one machine-readable object to standard output."""
    print(json.dumps(value, ensure_ascii=False))


def print_table(frame: "pl.DataFrame", title: str = "", *, verbatim: bool = False) -> None:
    """Print a table for people: numbers to the right, floats with three digits, absent values as a dash.

    Args:
        frame: The table.
        title: Its title.
        verbatim: The columns are called by names, such as those of datasets, in which a ``_`` must stay.
    """
    from rich.console import Console  # noqa: PLC0415 - rich takes a tenth of a second to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # As text: in a plain string rich would take the [b] of a file's name for markup.
    table = Table()
    for name, kind in frame.schema.items():
        heading = name if verbatim else name.replace("_", " ")
        table.add_column(Text(heading), justify="right" if kind.is_numeric() else "left")
    for row in frame.iter_rows():
        table.add_row(*(Text(_cell(value)) for value in row))
    # A log has no width of its own, and a table cut to 80 columns loses its figures.
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_LOG)
    if title:  # as a title of the table it would be wrapped to the table's width
        console.print(Text(title, style="table.title"), soft_wrap=True)
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _with_hyphens(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _refuse_empty(words: list[str]) -> None:
    """Refuse a word without a letter, which as a path would mean the folder that somebody happens to be in."""
    if "" in words:
        before = " ".join(words[: words.index("")][-1:])
        raise UsageError(
            "a word of the command is empty", where=before, mend="Maybe a variable of the shell is not set."
        )


def _with_tied_dashes(words: list[str]) -> list[str]:
    """Tie each ``-``, which is standard input, to its option; on its own it would be taken for another option."""
    tied: list[str] = []
    option = ""
    for word in words:
        if word != "-" or not option:
            option = word if word.startswith("-") else option
            tied.append(word)
        elif tied[-1] == option:
            tied[-1] = f"{option}=-"
        else:
            tied.append(f"{option}=-")
    return tied
