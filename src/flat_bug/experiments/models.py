"""Which weight files an experiment means, and a readable name for each that no other one has."""

import glob
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flat_bug.errors import UsageError
from flat_bug.experiments.node_path import NodePath
from flat_bug.files import sha256_of
from flat_bug.segmenters.base import CARD_SUFFIX, card_path
from flat_bug.segmenters.load import default_weights

SUFFIXES = (".onnx", ".pt")
DEFAULT = "default"
"""Stands for the weights that come with flat-bug."""

PREFERRED = ("best", "last")
WEIGHTS_FOLDER = "weights"


@dataclass(frozen=True)
class Model:
    """A weight file to score.

    Attributes:
        name: Shown in tables; unique among the models found together.
        weights: The file.
        sha256: Its digest; empty when it cannot be read.
    """

    name: str
    weights: Path
    sha256: str


@dataclass(frozen=True)
class FoundModels:
    """Models, and what the user should know of the search: one sentence each."""

    models: tuple[Model, ...]
    notes: tuple[str, ...] = ()


def find_models(
    directories: Sequence[str],
    weights: Sequence[str] = (),
    *,
    pattern: str | None = None,
    all_weights: bool = False,
) -> FoundModels:
    """Return the models that are meant, each once.

    Args:
        directories: Folders of trained models, weight files, or globs of either; ``~`` and variables are understood.
        weights: Weight files, ``name=file``, or ``default`` for the weights that come with flat-bug.
        pattern: Regular expression that the path of a weight file in its folder must match somewhere. By default the
            best weights of each folder are taken, else the last, else all.
        all_weights: Take all weights of a folder that match.

    Raises:
        UsageError: A path does not exist, the pattern is broken, or there is no model at all.
    """
    wanted = _compile(pattern)
    notes: list[str] = []
    named = [_named(text) for text in weights]
    for text in directories:
        for path in _expand(text):
            named += _models_at(path, wanted, all_weights, notes)
    models = _without_twins([Model(name, path, _sha256_or_nothing(path)) for name, path in named], notes)
    if not models:
        places = ", ".join([*directories, *weights])
        raise UsageError("there are no weights", where=places, mend="Give folders with .onnx or .pt files.")
    return FoundModels(tuple(_with_unique_names(models)), tuple(notes))


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"the weight pattern is not a regular expression: {error}",
            where=pattern or "",
            mend=r"For names that begin with epoch write epoch.*\.pt",
        ) from error


def _expand(text: str) -> list[Path]:
    written = NodePath(text)
    path = written.resolve()
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - takes absolute patterns
    if not matches:
        written.check_not_emptied()
        raise UsageError("there is no such folder of models", where=text, mend="Check the path (-d).")
    return matches


def _named(text: str) -> tuple[str, Path]:
    """Return the name and path that an option names: ``default``, a file, or ``name=file``."""
    if text == DEFAULT:
        return DEFAULT, default_weights()
    path = NodePath(text).resolve()
    name, equals, rest = text.partition("=")
    if not path.exists() and equals and name and rest and "/" not in name:
        path = NodePath(rest).resolve()
    else:
        name = ""
    if not path.is_file():
        raise UsageError("there is no such weight file", where=text, mend="Check the path (-w).")
    return name or _name_of_file(path), path


def _models_at(path: Path, wanted: re.Pattern[str] | None, every: bool, notes: list[str]) -> list[tuple[str, Path]]:
    if path.is_file():
        if path.name.endswith(CARD_SUFFIX):  # a glob of weights takes their cards as well
            return []
        if path.suffix.lower() not in SUFFIXES:
            notes.append(f"{path} is not a weight file and was left out")
            return []
        return [(_name_of_file(path), path)]
    root = path / WEIGHTS_FOLDER if (path / WEIGHTS_FOLDER).is_dir() else path
    files = [file for file in sorted(root.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file()]
    hidden = [file for file in files if any(part.startswith(".") for part in file.relative_to(root).parts)]
    notes += [f"{file} is hidden and was left out" for file in hidden]
    chosen = _choose([file for file in files if file not in hidden], root, wanted, every)
    if not chosen:
        notes.append(f"there are no weights in {path}" + (" that match the pattern" if wanted and files else ""))
    if len(chosen) == 1:
        return [(_folder_name(path), chosen[0])]
    return [(_name_in_folder(file, path), file) for file in chosen]


def _choose(files: list[Path], root: Path, wanted: re.Pattern[str] | None, every: bool) -> list[Path]:
    if wanted is not None:
        return [file for file in files if wanted.search(file.relative_to(root).as_posix())]
    if every:
        return files
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        folders[file.parent].append(file)
    return [file for folder in folders.values() for file in _best_of(folder)]


def _best_of(files: list[Path]) -> list[Path]:
    """Return the best weights of one folder, else the last, else all; of one model in two formats the ONNX file."""
    groups = ([file for file in files if file.stem.startswith(start)] for start in PREFERRED)
    chosen = next((group for group in groups if group), files)
    portable = {file.stem for file in chosen if file.suffix.lower() == ".onnx"}
    return [file for file in chosen if file.suffix.lower() == ".onnx" or file.stem not in portable]


def _name_of_file(path: Path) -> str:
    """Return the stem of a file; of ``best`` and ``last``, which say nothing, the folder that was trained into."""
    return _trained_into(path).name if path.stem in PREFERRED else path.stem


def _name_in_folder(file: Path, folder: Path) -> str:
    parts = [part for part in file.relative_to(folder).with_suffix("").parts if part != WEIGHTS_FOLDER]
    if len(parts) > 1 and parts[-1] in PREFERRED:
        parts.pop()
    elif len(parts) == 1 and (file.parent.name == WEIGHTS_FOLDER or parts[0] in PREFERRED):
        parts.insert(0, _folder_name(folder))
    return "-".join(parts)


def _folder_name(folder: Path) -> str:
    # As the user calls it, even if it is a link; only `.` and `..` have no name of their own.
    return folder.name if folder.name not in {"", ".."} else folder.resolve().name


def _trained_into(file: Path) -> Path:
    folder = file.absolute().parent
    return folder.parent if folder.name == WEIGHTS_FOLDER else folder


def _sha256_or_nothing(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:  # its task will say why, and cost its own row only
        return ""


def _without_twins(models: list[Model], notes: list[str]) -> list[Model]:
    """Return the models without those that are the same file as an earlier one, card included."""
    first: dict[tuple[str, str], Model] = {}
    for model in models:
        # A card says how the weights are used, so the same weights with another card are another model.
        key = (model.sha256 or str(model.weights), _sha256_or_nothing(card_path(model.weights)))
        if key in first:
            notes.append(f"{model.weights} is the same model as {first[key].weights} and was left out")
        else:
            first[key] = model
    return list(first.values())


def _with_unique_names(models: Sequence[Model]) -> list[Model]:
    """Put the names of the folders above in front of names that occur more than once."""
    names = [model.name for model in models]
    above = [list(_trained_into(model.weights).parts[1:]) for model in models]
    while repeated := _repeated(names):
        for row in repeated:
            part = above[row].pop() if above[row] else str(row + 1)
            if part != names[row]:
                names[row] = f"{part}-{names[row]}"
    return [replace(model, name=name) for model, name in zip(models, names, strict=True)]


def _repeated(names: Sequence[str]) -> list[int]:
    counts: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        counts[name.casefold()].append(row)
    return [row for rows in counts.values() if len(rows) > 1 for row in rows]
