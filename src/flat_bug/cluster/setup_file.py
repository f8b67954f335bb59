"""The script of ``slurm_setup=``: by its path, or by its bare name among those of the checkout."""

import difflib
from pathlib import Path

import flat_bug
from flat_bug.errors import UsageError

SHELF = Path("scripts", "experiments", "slurm_config")
LARGEST = 1_000_000


def find_setup(text: str) -> Path:
    """Return the script that a user means.

    Args:
        text: A path, which may begin with ``~``, or the name of a file in ``scripts/experiments/slurm_config``.

    Raises:
        UsageError: There is none, or it is not a script.
    """
    given = Path(text).expanduser() if text.startswith("~/") else Path(text)
    places = [given.absolute()]
    if given.name == text:
        places += [folder / text for folder in shelves()]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UsageError(
            "there is no such script for slurm_setup",
            where=f"looked for {', '.join(str(place) for place in places)}",
            mend=_advice(given, [place.parent for place in places]),
        )
    _check(found)
    return found.resolve()


def shelves() -> list[Path]:
    """Return the folders in which scripts are found by their bare names, without repetition."""
    checkout = Path(flat_bug.__file__).parents[2]
    return list(dict.fromkeys([checkout / SHELF, Path.cwd() / SHELF]))


def _advice(given: Path, folders: list[Path]) -> str:
    names = {path.name: path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()}
    nearest = difflib.get_close_matches(given.name, names, n=1)
    return f"Did you mean {names[nearest[0]]}?" if nearest else "Give the path of the file."


def _check(path: Path) -> None:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise UsageError(f"the script of slurm_setup cannot be read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise UsageError("the script of slurm_setup is not a text", where=path) from error
    if "\0" in text or len(content) > LARGEST:
        raise UsageError("the script of slurm_setup is not a script", where=path, mend="Give a file of shell commands.")
    if "\r" in text:
        mend = f"Convert it with: sed -i 's/\\r$//' {path.name}"
        raise UsageError("the script of slurm_setup has the line ends of Windows", where=path, mend=mend)
