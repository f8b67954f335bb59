"""Turn COCO folders into one tree for training and evaluation, split into train and val."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from flat_bug import __version__
from flat_bug.datasets.folder import DatasetFolder, DatasetImage, find_datasets, read_dataset
from flat_bug.datasets.imagefile import ImageFacts, inspect_image
from flat_bug.datasets.prepared import PreparedImage, prepare_image, unique_names
from flat_bug.datasets.split import is_validation, same_scene
from flat_bug.datasets.tree import check_output, replacing, write_tree
from flat_bug.errors import DatasetError, FlatBugError, UsageError
from flat_bug.files import sha256_of
from flat_bug.progress import track

SCHEMA = 1
"""Version of the manifest's format."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class SplitScene:
    """A validation image whose scene is also in the training images.

    Attributes:
        val: The validation image, as dataset/name.
        train: The training image that is most like it.
        difference: How much the two differ, from 0 to 1.
        more: How many more training images show the scene.
    """

    val: str
    train: str
    difference: float
    more: int


@dataclass(frozen=True, eq=False)
class Prepared:
    """What was prepared.

    Attributes:
        output: The tree.
        summary: A row per dataset and a row ``(all)``: dataset, images, train, val, empty, animals, crowd, boxes,
            repaired, clipped, dropped.
        similar: Validation images whose scene is also in the training images, most similar first.
        notes: What else a person should know, a sentence each.
    """

    output: Path
    summary: pl.DataFrame
    similar: tuple[SplitScene, ...]
    notes: tuple[str, ...]


def prepare(source: Path, output: Path, *, validation: float = 0.15, force: bool = False) -> Prepared:
    """Make a prepared tree of the datasets in a folder, all of it or nothing.

    Args:
        source: Folder of dataset folders, each with images and ``instances_default.json``.
        output: The tree to make.
        validation: Fraction of the images to hold back for validation, from 0 to 1.
        force: Replace an existing prepared tree.

    Raises:
        UsageError: The fraction is not from 0 to 1, or input and output lie in each other.
        OutputError: The output exists, is not a prepared tree, or cannot be written.
        DatasetError: A dataset is broken; nothing has been written.
    """
    if not 0 <= validation <= 1:
        raise UsageError(f"the validation fraction is {validation}, not from 0 to 1", mend="Give -p 0.15, for example.")
    source, output = source.resolve(), output.resolve()
    check_output(source, output, force=force)
    datasets = [read_dataset(folder) for folder in track(find_datasets(source), "Reading annotations")]
    images = _prepare_images([image for dataset in datasets for image in dataset.images], validation)
    similar = _split_scenes(images)
    summary = _summarise(datasets, images)
    with replacing(output) as folder:
        write_tree(folder, images, _about(datasets, validation, similar, summary))
    return Prepared(output, summary, similar, tuple(_notes(datasets, images)))


def _prepare_images(images: list[DatasetImage], validation: float) -> list[PreparedImage]:
    def make(image: DatasetImage, facts: ImageFacts, name: str) -> PreparedImage:
        return prepare_image(image, facts, "val" if is_validation(facts.md5, validation) else "train", name)

    # libvips and the digests leave the interpreter free, so threads use all cores.
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda image: _attempt(inspect_image, image.path), images)
        facts = _all_or_first_error(track(read, "Reading images", len(images)))
    named = zip(images, facts, unique_names(images), strict=True)
    return _all_or_first_error(_attempt(make, *each) for each in track(named, "Making labels", len(images)))


def _attempt(make: Callable[..., Made], *arguments: Any) -> Made | FlatBugError:
    try:
        return make(*arguments)
    except FlatBugError as error:
        return error


def _all_or_first_error(results: Iterable[Made | FlatBugError]) -> list[Made]:
    """Return the results, or raise one error that says how many more there are and names some."""
    made: list[Made] = []
    errors: list[FlatBugError] = []
    for result in results:
        if isinstance(result, FlatBugError):
            errors.append(result)
        else:
            made.append(result)
    if not errors:
        return made
    first, *others = errors
    hints = [first.mend] if first.mend else []
    if others:
        listed = "; ".join(error.brief() for error in others[:5])
        hints.append(f"Also broken, {len(others)} in all: {listed}{'; …' if len(others) > 5 else ''}")
    raise DatasetError(first.what, where=first.where, mend=" ".join(hints)) from first


def _split_scenes(images: Sequence[PreparedImage]) -> tuple[SplitScene, ...]:
    train = [image for image in images if image.split == "train"]
    val = [image for image in images if image.split == "val"]
    scenes = [
        SplitScene(val[found.picture].source, train[found.other].source, found.difference, found.more)
        for found in same_scene([image.facts.look for image in val], [image.facts.look for image in train])
    ]
    return tuple(sorted(scenes, key=lambda scene: (scene.difference, scene.val)))


def _summarise(datasets: Sequence[DatasetFolder], images: Sequence[PreparedImage]) -> pl.DataFrame:
    counts: dict[str, Callable[[PreparedImage], Any]] = {
        "images": lambda image: 1,
        "train": lambda image: image.split == "train",
        "val": lambda image: image.split == "val",
        "empty": lambda image: not len(image.truth),
        "animals": lambda image: image.labelled.sum(),
        "crowd": lambda image: image.truth.crowd.sum(),
        "boxes": lambda image: (image.truth.box_only & image.labelled).sum(),
        "repaired": lambda image: image.truth.repaired.sum(),
        "clipped": lambda image: image.clipped,
        "dropped": lambda image: (~image.labelled & ~image.truth.crowd).sum(),
    }
    rows = [
        {"dataset": image.image.dataset, **{name: int(count(image)) for name, count in counts.items()}}
        for image in images
    ]
    # A dataset may list no image at all, and still has its row.
    rows += [{"dataset": dataset.name, **dict.fromkeys(counts, 0)} for dataset in datasets]
    per_dataset = pl.DataFrame(rows).group_by("dataset").sum().sort("dataset")
    total = per_dataset.select(pl.lit("(all)").alias("dataset"), pl.exclude("dataset").sum())
    return pl.concat([per_dataset, total])


def _about(
    datasets: Sequence[DatasetFolder], validation: float, similar: Sequence[SplitScene], summary: pl.DataFrame
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "flat_bug": __version__,
        "split": {"rule": "int(md5(file)[:4], 16) / 65535 < fraction is val", "fraction": validation},
        "datasets": {
            dataset.name: {
                "annotations": dataset.coco.path.relative_to(dataset.path).as_posix(),
                "annotations_sha256": sha256_of(dataset.coco.path),
                "categories": list(dataset.coco.categories.values()),
                "info": dataset.coco.extras.get("info"),
                "licenses": dataset.coco.extras.get("licenses"),
                "unlisted": [path.as_posix() for path in dataset.unlisted],
            }
            for dataset in datasets
        },
        "summary": summary.to_dicts(),
        "similar": [asdict(scene) for scene in similar],
    }


def _notes(datasets: Sequence[DatasetFolder], images: Sequence[PreparedImage]) -> Iterable[str]:
    for dataset in datasets:
        if dataset.unlisted:
            yield (
                f"{dataset.name}: {len(dataset.unlisted)} images are not in the annotations and left out, such as"
                f" {dataset.unlisted[0]}; list them, without annotations, if no animal is on them"
            )
        if len(dataset.coco.categories) > 1:
            yield f"{dataset.name}: its {len(dataset.coco.categories)} categories become one, insect"
    for split in ("train", "val"):
        if not any(image.split == split for image in images):
            yield f"no image fell into {split}"
    copies: dict[str, list[str]] = defaultdict(list)
    for image in images:
        copies[image.facts.sha256].append(image.source)
    for names in copies.values():
        if len(names) > 1:
            yield f"the same file is there {len(names)} times: {', '.join(names)}"
