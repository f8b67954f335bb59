"""Which keys of a bucket become which files: none outside the folder, no two the same file."""

from collections.abc import Iterable
from dataclasses import dataclass

from flat_bug.datasets.s3 import RemoteObject
from flat_bug.datasets.safe_names import folded, why_unsafe

STATE_FOLDER = ".flat-bug-pull"


@dataclass(frozen=True)
class Refusal:
    """A key that becomes no file, or an object that could not be fetched.

    Attributes:
        key: The key.
        reason: Why.
    """

    key: str
    reason: str


@dataclass(frozen=True)
class Wanted:
    """An object and the file that it becomes.

    Attributes:
        path: The file within the folder, with ``/`` between its parts.
        remote: The object.
    """

    path: str
    remote: RemoteObject


def choose_paths(objects: Iterable[RemoteObject], folder: str) -> tuple[list[Wanted], list[Refusal]]:
    """Give each object its file; folder markers, empty objects whose keys end in ``/``, are passed over.

    Args:
        objects: The listed objects.
        folder: What all keys start with and no file repeats.
    """
    wanted: list[Wanted] = []
    refused: list[Refusal] = []
    for remote in objects:
        path = remote.key.removeprefix(folder)
        if remote.size == 0 and (not path or path.endswith("/")):
            continue
        reason = why_refused(path)
        if reason:
            refused.append(Refusal(remote.key, reason))
        else:
            wanted.append(Wanted(path, remote))
    return _without_collisions(wanted, refused)


def why_refused(path: str) -> str:
    """Return why a path within the folder must not be written, or nothing when it may be."""
    if folded(path.partition("/")[0]) == STATE_FOLDER:
        return "this name is kept for what is known of the folder"
    return why_unsafe(path)


def _without_collisions(wanted: list[Wanted], refused: list[Refusal]) -> tuple[list[Wanted], list[Refusal]]:
    """Refuse what would be one file or a file and a folder at once; where letter case is ignored, or not."""
    folders = {folded(parent) for parent in _folders_of(wanted)}
    taken: dict[str, str] = {}
    kept: list[Wanted] = []
    # By code points, so that the same bucket gives the same files in whichever order it is listed.
    for one in sorted(wanted, key=lambda each: each.path):
        name = folded(one.path)
        if name in folders:
            refused.append(Refusal(one.remote.key, "other keys have it for a folder"))
        elif name in taken:
            refused.append(
                Refusal(one.remote.key, f"where letter case is ignored it is the same file as {taken[name]}")
            )
        else:
            taken[name] = one.path
            kept.append(one)
    return kept, refused


def _folders_of(wanted: Iterable[Wanted]) -> set[str]:
    folders: set[str] = set()
    for one in wanted:
        folder = one.path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def shown(text: str) -> str:
    """Return a key as one line for people: what would move the cursor or turn the text around is escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in text
    )
