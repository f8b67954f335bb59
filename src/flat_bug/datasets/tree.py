"""Write a prepared tree, and put it in the place of an earlier one."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from flat_bug.datasets.coco import ANNOTATION_FILE
from flat_bug.datasets.prepared import PreparedImage, Split, coco_document
from flat_bug.errors import OutputError, UsageError
from flat_bug.files import atomic_path, sha256_of, write_json
from flat_bug.progress import track

FOLDER = "insects"
CONFIGURATION = "data.yaml"
MANIFEST = "manifest.json"
SPLITS: tuple[Split, ...] = get_args(Split)

# Without `path`, ultralytics looks beside this file, wherever the tree is moved to; with a relative one it does not.
CONFIGURATION_TEXT = f"""\
train: {FOLDER}/images/train
val: {FOLDER}/images/val
nc: 1
names: [insect]
"""


def check_output(source: Path, output: Path, *, force: bool) -> None:
    """Refuse an output that would mix with the input or destroy something else.

    Raises:
        UsageError: The output is the input, or one lies in the other.
        OutputError: The output exists and is not to be replaced, or is not a prepared tree.
    """
    if source == output or source in output.parents or output in source.parents:
        raise UsageError("the output and the input lie in each other", where=output, mend="Choose another output.")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    others = _strangers(output)
    if others:
        raise OutputError(
            f"the output exists and is not a prepared tree: it {others}", where=output, mend="Choose another output."
        )
    if not force:
        raise OutputError("the output exists", where=output, mend="Give --force (-f) to replace it.")


def _strangers(output: Path) -> str:
    """Return what keeps a folder from being a prepared tree, or nothing; 1.x trees are prepared trees."""
    if not output.is_dir():
        return "is a file"
    found = {path.name for path in output.iterdir()}
    missing = {CONFIGURATION, FOLDER} - found
    if missing:
        return f"has no {min(missing)}"
    others = sorted(found - {CONFIGURATION, FOLDER})
    return f"also holds {others[0]!r}" if others else ""


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """Yield a folder to fill that takes the place of ``output`` when the block ends without an error.

    The earlier folder is there until the new one is complete, and comes back if the exchange fails.
    """
    aside: Path | None = None
    try:
        with atomic_path(output) as folder:
            folder.mkdir()
            yield folder
            if output.exists():
                aside = Path(tempfile.mkdtemp(prefix=".tmp-", dir=output.parent)) / "old"
                output.rename(aside)
    except BaseException:
        if aside is not None and aside.exists():
            aside.rename(output)
            aside.parent.rmdir()
        raise
    if aside is not None:
        shutil.rmtree(aside.parent)


def write_tree(folder: Path, images: Sequence[PreparedImage], about: dict[str, Any]) -> None:
    """Write images, labels, annotations, configuration and manifest into an empty folder.

    Args:
        folder: The folder to fill.
        images: The images, in the order of their ids.
        about: What the manifest says beside images and digests.
    """
    inner = folder / FOLDER
    for split in SPLITS:
        (inner / "images" / split).mkdir(parents=True)
        (inner / "labels" / split).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        for _ in track(pool.map(lambda image: _write_image(inner, image), images), "Writing images", len(images)):
            pass
    (folder / CONFIGURATION).write_text(CONFIGURATION_TEXT, encoding="utf-8")
    written = [folder / CONFIGURATION]
    for split in SPLITS:
        document = coco_document([image for image in images if image.split == split])
        written.append(inner / "labels" / split / ANNOTATION_FILE)
        write_json(written[-1], document, indent=None)
    digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in written}
    entries = [_manifest_entry(inner, image) for image in images]
    write_json(inner / MANIFEST, {**about, "digests": digests, "images": entries})


def _write_image(inner: Path, image: PreparedImage) -> None:
    target = inner / "images" / image.split / image.name
    _place(image.image.path, target, link=image.facts.clean_end)
    _labels_path(inner, image).write_text(image.labels, encoding="utf-8")


def _place(source: Path, target: Path, *, link: bool) -> None:
    """Link or copy an image; one that a training library would rewrite in place is copied, to save the original."""
    if link:
        try:
            target.hardlink_to(source.resolve())
        except OSError:  # another file system, or one without links: a copy does as well
            pass
        else:
            return
    shutil.copyfile(source, target)


def _labels_path(inner: Path, image: PreparedImage) -> Path:
    return (inner / "labels" / image.split / image.name).with_suffix(".txt")


def _manifest_entry(inner: Path, image: PreparedImage) -> dict[str, Any]:
    return {
        "file_name": image.name,
        "dataset": image.image.dataset,
        "source": image.image.relative.as_posix(),
        "split": image.split,
        "width": image.truth.width,
        "height": image.truth.height,
        "instances": int(image.labelled.sum()),
        "sha256": image.facts.sha256,
        "labels_sha256": sha256_of(_labels_path(inner, image)),
    }
