"""Where on a node the images and the ground truth of an archive are, or its tree, and which parts a task needs."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flat_bug.datasets.archive import read_manifest
from flat_bug.datasets.coco import ANNOTATION_FILE
from flat_bug.errors import UsageError
from flat_bug.experiments.node_path import NodePath, literal_text
from flat_bug.experiments.plan import Stage

INTO = "$SLURM_TMPDIR"
IMAGES = "insects/images/val"
GROUND_TRUTH = f"insects/labels/val/{ANNOTATION_FILE}"


@dataclass(frozen=True)
class StagedInputs:
    """Images and ground truth as texts of ``NodePath``, and what is to be staged for them."""

    images: str
    ground_truth: str
    stage: tuple[Stage, ...]


def staged_inputs(archive: str, images: str | None, ground_truth: str | None) -> StagedInputs:
    """Return where a node finds what is taken from an archive.

    Args:
        archive: The archive; it must be readable here, and nodes must see it at the same place.
        images: Folder of images in ``$SLURM_TMPDIR``; by default the validation images.
        ground_truth: COCO file in ``$SLURM_TMPDIR``; by default that of the validation images.

    Raises:
        DatasetError: The archive is broken.
        UsageError: It does not hold the images or the ground truth.
    """
    path = NodePath(archive).resolve().absolute()
    manifest = read_manifest(path)
    start = f"{INTO}/{literal_text(manifest.top)}"
    wanted_images = images or f"{start}/{IMAGES}"
    wanted_truth = ground_truth or f"{start}/{GROUND_TRUTH}"
    names = [member.name for member in manifest.members]
    parts = [_part(wanted_images, names, path), _part(wanted_truth, names, path)]
    folders = [part if any(name.startswith(f"{part}/") for name in names) else _parent(part) for part in parts]
    only = tuple(dict.fromkeys(folder.partition("/")[2] for folder in folders))
    # The top folder itself has no name as a part: it is everything.
    stage = Stage(archive=str(NodePath.literal(path)), only=() if "" in only else only)
    return StagedInputs(wanted_images, wanted_truth, (stage,))


def staged_tree(archive: str, tree: str | None) -> tuple[str, Stage]:
    """Return where a node finds a prepared tree, and what is to be staged to train on it.

    Args:
        archive: The archive; it must be readable here, and nodes must see it at the same place.
        tree: The tree in ``$SLURM_TMPDIR``; by default what was packed.

    Raises:
        DatasetError: The archive is broken.
        UsageError: It does not hold the tree.
    """
    path = NodePath(archive).resolve().absolute()
    manifest = read_manifest(path)
    names = [member.name for member in manifest.members]
    top = _part(tree or f"{INTO}/{literal_text(manifest.top)}", names, path)
    parts = [f"{top}/insects/{kind}/{split}" for split in ("train", "val") for kind in ("images", "labels")]
    # A tree may do without validation images.
    held = [part for part in parts if any(name.startswith(f"{part}/") for name in names)]
    if parts[0] not in held:
        raise UsageError(f"the archive does not hold {parts[0]}", where=path, mend="Pack what fb data prepare made.")
    only = tuple(part.partition("/")[2] for part in held)
    return f"{INTO}/{literal_text(top)}", Stage(archive=str(NodePath.literal(path)), only=only)


def _part(text: str, names: list[str], archive: Path) -> str:
    """Return the name in the archive of what a path in the node's folder stands for."""
    for start in (f"{INTO}/", "${SLURM_TMPDIR}/"):
        # With another variable in it, nobody knows here what it stands for.
        if text.startswith(start) and NodePath(text).variables() == ("SLURM_TMPDIR",):
            part = text.removeprefix(start).rstrip("/").replace(literal_text("$"), "$")
            if any(name == part or name.startswith(f"{part}/") for name in names):
                return part
    top = names[0].partition("/")[0] if names else ""
    begins = f"{INTO}/{literal_text(top)}/".replace("$", "\\$")
    raise UsageError(f"the archive does not hold {text}", where=archive, mend=f'A path in it begins with "{begins}".')


def _parent(part: str) -> str:
    return PurePosixPath(part).parent.as_posix()
