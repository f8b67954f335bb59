"""``fb train``: train a segmentation model on a prepared tree."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import Parameter

from flat_bug.cli._support import print_json
from flat_bug.errors import UsageError
from flat_bug.training.record import newest_run
from flat_bug.training.settings import TrainSettings
from flat_bug.training.train import resume as resume_run
from flat_bug.training.train import train as train_model


def train(
    *,
    data: Annotated[Path | None, Parameter(name=["--data", "-d", "--data-dir"])] = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c", "--config-file"])] = None,
    resume: Annotated[list[Path] | None, Parameter(name=["--resume", "-r"], consume_multiple=(0, 1))] = None,
    trust_weights: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    **overrides: str,
) -> None:
    """Train a segmentation model on a prepared tree, and export it to ONNX.

    Any setting of the configuration, ours or ultralytics', can be given as `--key value`; values are read as YAML.

    Example: fb train -d fb_yolo -c config.yaml --epochs 50 --name moths

    Args:
        data: Folder that `fb data prepare` made.
        config: YAML file of settings.
        resume: Go on with the newest run of this project and name, or with the given checkpoint or run folder.
        trust_weights: Begin with the weights of a .pt file, or go on from a checkpoint of another run. Such a file can
            run any code.
        json: Print the result as one JSON object.
        overrides: Settings.
    """
    given = _given(config, overrides)
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
        return
    if model.was_finished:
        print("This run had finished already; nothing was done.")
    print(f"Run folder: {model.run}")
    print(f"Checkpoint: {model.checkpoint}")
    print(f"Weights:    {model.weights}")


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
