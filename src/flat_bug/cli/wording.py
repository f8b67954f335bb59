"""What is said of a command line that cannot be understood, in words that tell what to do."""

from collections.abc import Sequence

from cyclopts import CycloptsError
from cyclopts.exceptions import MissingArgumentError, UnknownOptionError, UnusedCliTokensError


def lines_of(error: CycloptsError, words: Sequence[str], program: str) -> list[str]:
    """Return what is wrong with a command line, how to mend it, and where to read on.

    Args:
        error: What the parser of options says.
        words: The command line.
        program: Name of the program.
    """
    what = _missing(error) if isinstance(error, MissingArgumentError) else str(error)
    if isinstance(error, UnusedCliTokensError):
        what = f"nothing here takes {' '.join(map(repr, error.unused_tokens or ()))}"
    see = f"See: {' '.join([program, *(error.command_chain or ())])} --help"
    return [what, *_advice(error, words), see]


def _missing(error: MissingArgumentError) -> str:
    argument = error.argument
    if argument is None or argument.tokens or error.keyword is not None:
        return str(error)
    meant = str(error).partition(" instead of ")[2].rstrip("?")
    return f"{' or '.join(argument.names)} is missing{f'; did you mean it by {meant}?' if meant else ''}"


def _advice(error: CycloptsError, words: Sequence[str]) -> list[str]:
    unused = error.unused_tokens or []
    if isinstance(error, UnusedCliTokensError) and "--slurm" in words and any("=" in word for word in unused):
        return ["Options of sbatch stand behind --slurm."]
    if isinstance(error, UnknownOptionError):
        if "rehearse" in words and "--" not in words:
            return ["Put -- before the command that is rehearsed."]
        if "--slurm" in words:
            return ["Of sbatch's options only long names are understood: ntasks=2 for -n 2."]
    return []
