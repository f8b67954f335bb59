"""``fb data``: check, prepare and synthesize datasets."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flat_bug.cli._support import print_json, print_table
from flat_bug.datasets.prepare import Prepared
from flat_bug.datasets.prepare import prepare as prepare_tree

MOST_PAIRS = 10


def prepare(
    *,
    input: Annotated[Path, Parameter(name=["--input", "-i"])],  # noqa: A002 - the option's name
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    validation: Annotated[float, Parameter(name=["--validation", "-p"])] = 0.15,
    force: Annotated[bool, Parameter(name=["--force", "-f"], negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Turn COCO folders into one tree for training and evaluation.

    Each folder in the input is a dataset: images, and `instances_default.json` as CVAT exports it. Which images are
    held back for validation depends on their bytes alone, so it stays as it is when images are added.

    Example: fb data prepare -i pre-pro -o fb_yolo -p 0.15

    Args:
        input: Folder of dataset folders.
        output: Folder to make: data.yaml, and insects/ with images, labels and a manifest.
        validation: Fraction of the images to hold back for validation.
        force: Replace an existing prepared tree.
        json: Print the summary as one JSON object.
    """
    prepared = prepare_tree(input, output, validation=validation, force=force)
    if json:
        print_json(
            {
                "output": str(prepared.output),
                "datasets": prepared.summary.to_dicts(),
                "similar": [vars(pair) for pair in prepared.similar],
                "notes": list(prepared.notes),
            }
        )
        return
    print_table(prepared.summary)
    _print_notes(prepared)
    print(f"Prepared: {prepared.output / 'data.yaml'}")


def _print_notes(prepared: Prepared) -> None:
    for note in prepared.notes:
        print(f"note: {note}", file=sys.stderr)
    for pair in prepared.similar[:MOST_PAIRS]:
        print(f"warning: {pair.train} (train) and {pair.val} (val) show the same scene", file=sys.stderr)
    if len(prepared.similar) > MOST_PAIRS:
        others = len(prepared.similar) - MOST_PAIRS
        print(f"warning: and {others} more pairs, listed in insects/manifest.json", file=sys.stderr)
