"""``fb data``: check, prepare and synthesize datasets."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import polars as pl
from cyclopts import Parameter

from flat_bug.cli._support import print_json, print_table
from flat_bug.datasets.prepare import Prepared
from flat_bug.datasets.prepare import prepare as prepare_tree
from flat_bug.datasets.synth import synthesize

MOST_SCENES = 10


def prepare(
    *,
    input: Annotated[Path, Parameter(name=["--input", "-i", "--input-data"])],  # noqa: A002 - the option's name
    output: Annotated[Path, Parameter(name=["--output", "-o", "--output-dir"])],
    validation: Annotated[float, Parameter(name=["--validation", "-p", "--validation-proportion"])] = 0.15,
    force: Annotated[bool, Parameter(name=["--force", "-f"])] = False,
    json: bool = False,
) -> None:
    """Turn COCO folders into one tree for training and evaluation.

    Each folder in the input is a dataset: images, and instances_default.json as
    CVAT exports it. Which images are held back for validation depends on their
    bytes alone, so it stays as it is when images are added.

    Example: fb data prepare -i pre-pro -o fb_yolo -p 0.15

    Args:
        input: Folder of dataset folders.
        output: Folder to make: data.yaml, and insects/ with images, labels and a manifest.
        validation: Fraction of the images to hold back for validation, 0.15 by default.
        force: Replace an existing prepared tree.
        json: Print the summary as one JSON object.
    """
    prepared = prepare_tree(input, output, validation=validation, force=force)
    if json:
        print_json(
            {
                "output": str(prepared.output),
                "datasets": prepared.summary.to_dicts(),
                "similar": [asdict(scene) for scene in prepared.similar],
                "notes": list(prepared.notes),
            }
        )
        return
    print_table(_columns_with_counts(prepared.summary))
    print(f"Prepared: {prepared.output / 'data.yaml'}", flush=True)
    _print_notes(prepared)


def synth(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    images: Annotated[int, Parameter(name=["--images", "-n"])] = 6,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    dataset: Annotated[list[str] | None, Parameter(name=["--dataset", "-d"])] = None,
    jobs: int | None = None,
    json: bool = False,
) -> None:
    """Make small arthropod-like datasets with exact outlines.

    The same options give the same files.

    Example: fb data synth -o pre-pro --images 8 --seed 1

    Args:
        output: Folder to make, with a folder of images and annotations for each dataset.
        images: Images in each dataset, 6 by default.
        seed: Another seed gives other images; 0 by default.
        size: Width and height of the images; by default each dataset has its own.
        dataset: Make this dataset only; may be given several times.
        jobs: Number of processes; by default one for each core.
        json: Print the summary as one JSON object.
    """
    report = synthesize(output, seed=seed, images=images, size=size, datasets=dataset, jobs=jobs)
    rows = [asdict(made) for made in report.datasets]
    if json:
        print_json({"output": str(report.output), "seed": report.seed, "datasets": rows})
        return
    print_table(
        pl.DataFrame(
            [
                {
                    "dataset": made.name,
                    "images": made.images,
                    "empty": made.empty,
                    "animals": made.animals,
                    "sizes (px)": " – ".join(f"{made_size:.0f}" for made_size in made.sizes),
                }
                for made in report.datasets
            ]
        )
    )
    print(f"Made: {report.output}")


def _print_notes(prepared: Prepared) -> None:
    for note in prepared.notes:
        print(f"note: {note}", file=sys.stderr)
    for scene in prepared.similar[:MOST_SCENES]:
        more = f" and {scene.more} more training images" if scene.more else ""
        print(f"warning: {scene.val} (val) shows the same scene as {scene.train} (train){more}", file=sys.stderr)
    if len(prepared.similar) > MOST_SCENES:
        others = len(prepared.similar) - MOST_SCENES
        print(f"warning: so do {others} more validation images, see insects/manifest.json", file=sys.stderr)


def _columns_with_counts(summary: pl.DataFrame) -> pl.DataFrame:
    # A table with every count is wider than many terminals, and most datasets have nothing to repair.
    always = {"dataset", "images", "train", "val", "animals"}
    return summary.select(name for name in summary.columns if name in always or summary[name].sum())
