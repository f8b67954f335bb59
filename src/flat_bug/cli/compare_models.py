"""``fb run compare-models``, also known as ``scripts/experiments/compare_models.py``."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.types import PositiveInt

from flat_bug.cli._support import print_json, print_table

if TYPE_CHECKING:
    from flat_bug.experiments.compare_models import CompareModels
    from flat_bug.experiments.plan import Plan

Several = Parameter(consume_multiple=True)


@Parameter(name="*", group=Group("Images and ground truth", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """What the models are scored on.

    Attributes:
        input: Folder of images.
        ground_truth: COCO file that annotates them.
        archive: What fb data pack made: each node takes from it what the tasks read. Without -i and -g, the validation
            images in it are used.
        input_pattern: Regular expression for the names of images.
        soft: Do not look for images and ground truth here: they exist on the node that runs the task.
    """

    input: Annotated[str | None, Parameter(["--input", "-i"])] = None
    ground_truth: Annotated[str | None, Parameter(["--ground-truth", "-g"])] = None
    archive: Annotated[str | None, Parameter(["--archive", "-a"])] = None
    input_pattern: str | None = None
    soft: bool = False


@Parameter(name="*", group=Group("Models", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which models.

    Attributes:
        directory: Folders of trained models, weight files, or globs of either; of a folder the best weights.
        weights: Weight files, name=file, or default for the weights that come with flat-bug.
        weight_pattern: Regular expression for the paths of weights in their folder.
        all_weights: Take all weights of a folder.
        trust_weights: Open .pt files. Such a file can run any code; weights in .onnx files cannot.
    """

    directory: Annotated[tuple[str, ...], Parameter(["--directory", "-d"]), Several] = ()
    weights: Annotated[tuple[str, ...], Parameter(["--weights", "-w"]), Several] = ()
    weight_pattern: str | None = None
    all_weights: bool = False
    trust_weights: bool = False


@Parameter(name="*", group=Group("Scoring", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How the models predict and are scored.

    Attributes:
        config: Settings of the prediction in YAML; keys of flat-bug 1.x are understood.
        score_threshold: Keep animals that score above this; by default what each model's card says.
        iou_type: Compare outlines, which is the default, or boxes.
        iou_threshold: Least overlap of a prediction with its animal, 0.5 by default.
        min_size: Smaller objects do not count; sqrt(width x height) of the box in pixels, 32 by default.
    """

    config: str | None = None
    score_threshold: float | None = None
    iou_type: Literal["mask", "box"] | None = None
    iou_threshold: float | None = None
    min_size: float | None = None


@Parameter(name="*", group=Group("Run", sort_key=4))
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how the tasks run.

    Attributes:
        output: Folder for the run; must be absent or empty.
        tmp: Folder to work in, such as a local disk; complete results are moved to the run.
        store_all: Keep crops, overviews and match overlays of all images.
        device: auto, cpu, cuda:0 or 0; several are taken in turn.
        jobs: Tasks at a time; by default one for every four processors, or one when they use a GPU.
        dry_run: Show what would be done, and do nothing.
        slurm: Submit to SLURM. Options of sbatch follow: mem=32GB time=01:00:00 --hold; of ours: profile=NAME,
            environment=DIR, slurm_setup=FILE, max_parallel=N, tasks_per_job=N, retries=N.
        json: Print one machine-readable object.
    """

    output: Annotated[Path, Parameter(["--output", "-o"])]
    tmp: str | None = None
    store_all: Annotated[bool, Parameter(["--store-all", "--save-all"])] = False
    device: Annotated[tuple[str, ...], Parameter(["--device", "--devices"]), Several] = ("auto",)
    jobs: Annotated[PositiveInt | None, Parameter(["--jobs", "-j"])] = None
    dry_run: bool = False
    slurm: Annotated[tuple[str, ...] | None, Several] = None
    json: bool = False


def compare_models(
    *,
    inputs: InputOptions | None = None,
    models: ModelOptions | None = None,
    scoring: ScoringOptions | None = None,
    run: RunOptions,
) -> int | None:
    r"""Score every model on the same images: a task for each, a table, a report.

    Example: fb run compare-models -i images -g truth.json -d "runs/*" -o out

    Paths may hold ~ and $HOME, $USER, $SCRATCH, $PROJECT, $TMPDIR,
    $SLURM_TMPDIR, $SLURM_JOB_ID and $SLURM_ARRAY_TASK_ID. Escape those that
    only the node knows: "\$SLURM_TMPDIR/fb_yolo".

    Args:
        inputs: What the models are scored on.
        models: Which models.
        scoring: How they predict and are scored.
        run: Where and how the tasks run.
    """
    # `--help` and a mistyped option wait for none of these.
    from flat_bug.experiments.compare_models import plan  # noqa: PLC0415
    from flat_bug.experiments.run_folder import check_is_free  # noqa: PLC0415

    options = _options(inputs or InputOptions(), models or ModelOptions(), scoring or ScoringOptions(), run)
    check_is_free(run.output)
    made, notes = plan(options, run.output, [Path(sys.argv[0]).name, *sys.argv[1:]])
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if run.slurm is not None:
        from flat_bug.cli.slurm import submit  # noqa: PLC0415 - runs on this machine do not need it

        return submit(made, run.output, run.slurm, dry_run=run.dry_run, json=run.json)
    if run.dry_run:
        _show_plan(made, run)
        return None
    return _carry_out(made, run)


def _options(inputs: InputOptions, models: ModelOptions, scoring: ScoringOptions, run: RunOptions) -> "CompareModels":
    from flat_bug.experiments.compare_models import CompareModels  # noqa: PLC0415 - see compare_models

    evaluate = {
        "iou_type": scoring.iou_type,
        "iou_threshold": scoring.iou_threshold,
        "min_size": scoring.min_size,
    }
    return CompareModels(
        input=inputs.input,
        ground_truth=inputs.ground_truth,
        archive=inputs.archive,
        directories=models.directory,
        weights=models.weights,
        tmp=run.tmp,
        soft=inputs.soft,
        config=scoring.config,
        input_pattern=inputs.input_pattern,
        weight_pattern=models.weight_pattern,
        all_weights=models.all_weights,
        devices=run.device,
        trust_weights=models.trust_weights,
        store_all=run.store_all,
        predict={} if scoring.score_threshold is None else {"score_threshold": scoring.score_threshold},
        evaluate={name: value for name, value in evaluate.items() if value is not None},
    )


def _carry_out(made: "Plan", run: RunOptions) -> int:
    from flat_bug.cli.status import interrupted, show  # noqa: PLC0415 - see compare_models
    from flat_bug.experiments.local import LocalSubmitter  # noqa: PLC0415
    from flat_bug.experiments.results import write_results  # noqa: PLC0415
    from flat_bug.experiments.run_folder import RunFolder  # noqa: PLC0415

    try:
        with RunFolder.create(run.output, made) as folder:
            if not run.json:
                hint = f"fb status {shlex.quote(str(run.output))}"
                print(f"Tasks: {len(made.tasks)}. How they are doing: {hint}", flush=True)
            LocalSubmitter(run.jobs or (len(run.device) if len(run.device) > 1 else None)).submit(folder, made.tasks)
    except KeyboardInterrupt:
        return interrupted(run.output)
    return show(write_results(folder), run.output, json=run.json)


def _show_plan(made: "Plan", run: RunOptions) -> None:
    import polars as pl  # noqa: PLC0415 - see compare_models

    if run.json:
        print_json(made.model_dump(mode="json"))
        return
    rows = [{"task": task.id, **{key: task.args[key] for key in ("model", "weights", "device")}} for task in made.tasks]
    first = made.tasks[0].args
    title = f"{run.output} would be made, tasks: {len(rows)}"
    print_table(pl.DataFrame(rows, infer_schema_length=None), title)
    print(f"Images: {first['images']}")
    print(f"Ground truth: {first['ground_truth']}")
