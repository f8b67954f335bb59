"""``fb train``: train a segmentation model on a prepared tree."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from cyclopts import Parameter

from flat_bug.cli._support import print_json
from flat_bug.errors import UsageError
from flat_bug.training.record import newest_run
from flat_bug.training.settings import TrainSettings
from flat_bug.training.train import resume as resume_run
from flat_bug.training.train import train as train_model

if TYPE_CHECKING:
    from flat_bug.experiments.plan import Plan

Flag = Parameter(negative=())


def train(
    *,
    data: Annotated[Path | None, Parameter(name=["--data", "-d", "--data-dir"])] = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c", "--config-file"])] = None,
    resume: Annotated[list[Path] | None, Parameter(name=["--resume", "-r"], consume_multiple=(0, 1))] = None,
    trust_weights: Annotated[bool, Flag] = False,
    slurm: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    archive: Annotated[str | None, Parameter(name=["--archive", "-a"])] = None,
    dry_run: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
    **overrides: str,
) -> int | None:
    r"""Train a segmentation model on a prepared tree, and export it to ONNX.

    Any setting of the configuration, ours or ultralytics', can be given as `--key value`; values are read as YAML.

    Example: fb train -d fb_yolo -c config.yaml --epochs 50 --name moths

    On a cluster: fb train -d fb_yolo -c config.yaml -o runs/moths --slurm
    gres=gpu:1 time=12:00:00. A job that runs out of time is queued again and
    goes on. Give settings before --slurm; what follows it is for sbatch.

    Args:
        data: Folder that `fb data prepare` made. With --slurm it may hold variables that only the node knows:
            "\$SLURM_TMPDIR/fb_yolo".
        config: YAML file of settings.
        resume: Go on with the newest run of this project and name, or with the given checkpoint or run folder.
        trust_weights: Begin with the weights of a .pt file, or go on from a checkpoint of another run. Such a file can
            run any code.
        slurm: Submit to SLURM. Options of sbatch follow: mem=32GB time=12:00:00; of ours: profile=NAME,
            environment=DIR, slurm_setup=FILE.
        output: With --slurm, the folder for the run; must be absent or empty.
        archive: With --slurm, what `fb data pack` made: the node takes the tree from it.
        dry_run: With --slurm, show what would be submitted.
        json: Print the result as one JSON object.
        overrides: Settings.
    """
    given = _given(config, overrides)
    if slurm is not None:
        made = _plan(data, given, archive, resume, trust_weights=trust_weights)
        return _submit(made, output, slurm, dry_run=dry_run, json=json)
    for name, value in {"--output": output, "--archive": archive, "--dry-run": dry_run or None}.items():
        if value is not None:
            raise UsageError("this is for a training on SLURM", where=name, mend="Add --slurm, or use --project.")
    command = shlex.join(["fb", *sys.argv[1:]])
    if resume is not None:
        run, checkpoint = _run_to_resume(resume, TrainSettings.from_mapping(given))
        model = resume_run(run, checkpoint, changes=given, command=command, trust_weights=trust_weights)
    elif data is None:
        raise UsageError("there is nothing to train on", where="--data", mend="Give the folder of a prepared tree.")
    else:
        model = train_model(data, TrainSettings.from_mapping(given), command=command, trust_weights=trust_weights)
    if json:
        print_json({"run": str(model.run), "checkpoint": str(model.checkpoint), "weights": str(model.weights)})
        return None
    if model.was_finished:
        print("This run had finished already; nothing was done.")
    print(f"Run folder: {model.run}")
    print(f"Checkpoint: {model.checkpoint}")
    print(f"Weights:    {model.weights}")
    return None


def _plan(
    data: Path | None, given: dict[str, Any], archive: str | None, resume: list[Path] | None, *, trust_weights: bool
) -> "Plan":
    from flat_bug.experiments.train_plan import plan_training  # noqa: PLC0415 - training here does not need it

    if resume is not None:
        raise UsageError("a run on SLURM goes on by itself", where="--resume", mend="Or by hand: fb resume RUN")
    settings = TrainSettings.from_mapping(given)
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    tree = None if data is None else str(data)
    return plan_training(tree, settings, archive=archive, trust_weights=trust_weights, command=command)


def _submit(made: "Plan", output: Path | None, words: Sequence[str], *, dry_run: bool, json: bool) -> int:
    from flat_bug.cli.slurm import submit  # noqa: PLC0415 - training here does not need it
    from flat_bug.experiments.run_folder import check_is_free  # noqa: PLC0415

    if output is None:
        raise UsageError("there is no folder for the run", where="--output", mend="Give one: -o runs/moths")
    check_is_free(output)
    return submit(made, output, words, dry_run=dry_run, json=json)


def _given(config: Path | None, overrides: dict[str, str]) -> dict[str, Any]:
    """Return the settings that are given, by file or on the command line, checked."""
    settings = TrainSettings.from_yaml(config) if config else TrainSettings.from_mapping({})
    from_file = settings.model_dump(exclude_unset=True)
    values = {name.replace("-", "_"): _scalar(name, text) for name, text in overrides.items()}
    TrainSettings.from_mapping(values, where="the command line")
    passed: dict[str, Any] = from_file.pop("ultralytics", {})
    return passed | from_file | values


def _scalar(name: str, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"the value {text!r} is not YAML", where=f"--{name}") from error
    try:
        # YAML 1.1 takes 1e-3 for text, since it has no dot.
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _run_to_resume(given: list[Path], settings: TrainSettings) -> tuple[Path, Path | None]:
    if not given:
        return newest_run(Path(settings.project), settings.name), None
    path = given[0]
    # A checkpoint lies in the folder `weights` of its run.
    return (path, None) if path.is_dir() else (path.parent.parent, path)
