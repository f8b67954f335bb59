"""``fb run compare-models``, also known as ``scripts/experiments/compare_models.py``."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from cyclopts import Parameter
from cyclopts.types import PositiveInt

from flat_bug.cli._support import print_json, print_lines, print_table
from flat_bug.cli.status import interrupted, show
from flat_bug.errors import MissingPartError, UsageError
from flat_bug.experiments.compare_models import CompareModels, plan
from flat_bug.experiments.local import LocalSubmitter
from flat_bug.experiments.plan import Plan
from flat_bug.experiments.results import write_results
from flat_bug.experiments.run_folder import RunFolder, check_is_free

Flag = Annotated[bool, Parameter(negative="")]
Several = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]


def compare_models(
    *,
    input: Annotated[str, Parameter(["--input", "-i"])],  # noqa: A002 - the name of the option
    ground_truth: Annotated[str, Parameter(["--ground-truth", "-g"])],
    output: Annotated[Path, Parameter(["--output", "-o"])],
    directory: Annotated[tuple[str, ...], Parameter(["--directory", "-d"], consume_multiple=True)] = (),
    weights: Annotated[tuple[str, ...], Parameter(["--weights", "-w"], consume_multiple=True)] = (),
    tmp: str | None = None,
    soft: Flag = False,
    config: str | None = None,
    input_pattern: str | None = None,
    weight_pattern: str | None = None,
    all_weights: Flag = False,
    device: Annotated[tuple[str, ...], Parameter(["--device", "--devices"], consume_multiple=True)] = ("auto",),
    trust_weights: Flag = False,
    store_all: Annotated[bool, Parameter(["--store-all", "--save-all"], negative="")] = False,
    score_threshold: float | None = None,
    iou_type: Literal["mask", "box"] | None = None,
    iou_threshold: float | None = None,
    min_size: float | None = None,
    jobs: Annotated[PositiveInt | None, Parameter(["--jobs", "-j"])] = None,
    dry_run: Flag = False,
    slurm: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    json: Flag = False,
) -> int | None:
    r"""Score every model on the same ground truth: a task for each, then tables and a report.

    Example: fb run compare-models -i fb_yolo/insects/images/val
    -g fb_yolo/insects/labels/val/instances_default.json -d "runs/experiment_*" -w default -o comparison

    Paths may hold ~ and the variables HOME, USER, SCRATCH, PROJECT, TMPDIR, SLURM_TMPDIR, SLURM_JOB_ID and
    SLURM_ARRAY_TASK_ID. Escape those that only the node knows: "\$SLURM_TMPDIR/fb_yolo".

    Args:
        input: Folder of images.
        ground_truth: COCO file that annotates them.
        output: Folder for the run; must be absent or empty.
        directory: Folders of trained models, weight files, or globs of either; can be repeated. Of a folder the best
            weights are taken, else the last, else all.
        weights: A weight file, name=file, or default for the weights that come with flat-bug; can be repeated.
        tmp: Folder to work in, such as a local disk of the node; results are moved to the run when they are complete.
        soft: Do not look for images and ground truth here: they exist on the node that runs the task.
        config: Settings of the prediction in YAML; keys of flat-bug 1.x are understood.
        input_pattern: Regular expression for the names of images.
        weight_pattern: Regular expression for the paths of weights in their folder.
        all_weights: Take all weights of a folder.
        device: auto, cpu, cuda:0 or 0; several are taken in turn.
        trust_weights: Open .pt files, which can run any code, although no card vouches for them.
        store_all: Keep crops, overviews and match overlays of all images.
        score_threshold: Keep instances that score above this.
        iou_type: Compare outlines or boxes; outlines by default.
        iou_threshold: Least overlap of a prediction with its animal, 0.5 by default.
        min_size: Smaller objects do not count; sqrt(width x height) of the box in pixels, 32 by default.
        jobs: Tasks at a time; by default one for every four processors, or one when they use a GPU.
        dry_run: Show what would be done, and do nothing.
        slurm: Submit to SLURM, with options as key=value.
        json: Print one machine-readable object.
    """
    evaluate = {"iou_type": iou_type, "iou_threshold": iou_threshold, "min_size": min_size}
    options = CompareModels(
        input=input,
        ground_truth=ground_truth,
        directories=directory,
        weights=weights,
        tmp=tmp,
        soft=soft,
        config=config,
        input_pattern=input_pattern,
        weight_pattern=weight_pattern,
        all_weights=all_weights,
        devices=device,
        trust_weights=trust_weights,
        store_all=store_all,
        predict={} if score_threshold is None else {"score_threshold": score_threshold},
        evaluate={name: value for name, value in evaluate.items() if value is not None},
    )
    check_is_free(output)
    made, notes = plan(options, output, [Path(sys.argv[0]).name, *sys.argv[1:]])
    for note in notes:
        print_lines([note])
    if slurm is not None:
        _refuse_slurm(slurm)
    if dry_run:
        _show_plan(made, output, json=json)
        return None
    try:
        with RunFolder.create(output, made) as run:
            LocalSubmitter(jobs or (len(device) if len(device) > 1 else None)).submit(run, made.tasks)
    except KeyboardInterrupt:
        return interrupted(output)
    return show(write_results(run), output, json=json)


def _refuse_slurm(options: tuple[str, ...]) -> None:
    for option in options:
        if not option.partition("=")[0] or "=" not in option:
            raise UsageError("an option of SLURM is not key=value", where=option, mend="Write it as mem=32GB.")
    raise MissingPartError(
        "the SLURM submitter is not part of this version yet",
        where="--slurm",
        mend="Leave it out to run the tasks on this machine, within a job of your own.",
    )


def _show_plan(made: Plan, output: Path, *, json: bool) -> None:
    if json:
        print_json(made.model_dump(mode="json"))
        return
    rows = [{"task": task.id, **{key: task.args[key] for key in ("model", "weights", "device")}} for task in made.tasks]
    first = made.tasks[0].args
    print_table(pl.DataFrame(rows, infer_schema_length=None), f"{output} would be made with {len(rows)} tasks")
    print(f"Images: {first['images']}")
    print(f"Ground truth: {first['ground_truth']}")
