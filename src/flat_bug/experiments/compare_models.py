"""The experiment ``compare-models``: score every model on the same images, a task for each."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field, JsonValue

from flat_bug.config import PredictSettings
from flat_bug.datasets.coco import read_coco
from flat_bug.errors import DatasetError, UsageError
from flat_bug.evaluation.predictions import pair_images
from flat_bug.experiments.digests import digest_of
from flat_bug.experiments.models import Model, find_models
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Frozen, Plan, Resources, Stage, Task, plain_id
from flat_bug.experiments.record import current_versions
from flat_bug.experiments.score_task import CALL, ScoreModel
from flat_bug.experiments.staged import staged_inputs
from flat_bug.files import printable
from flat_bug.prediction_run import find_images
from flat_bug.prediction_run.inputs import DEFAULT_PATTERN
from flat_bug.segmenters.base import card_path, note_without_card

EXPERIMENT = "compare-models"
INPUTS = ("weights", "card", "images", "ground_truth", "config")


class CompareModels(Frozen):
    """What is compared, and how.

    Attributes:
        input: Folder of images; may hold variables of the node.
        ground_truth: COCO file; may hold variables of the node.
        archive: Archive that nodes take images and ground truth from; these are then in ``$SLURM_TMPDIR``.
        directories: Folders of trained models, weight files, or globs.
        weights: Weight files, ``name=file`` or ``default``.
        tmp: Folder of the node to work in.
        soft: Do not look for images and ground truth here.
        config: Settings of the prediction, in YAML.
        input_pattern: Regular expression for the names of images.
        weight_pattern: Regular expression for weight files.
        all_weights: Take all weights of a folder.
        devices: Where the networks run; several are taken in turn.
        trust_weights: Open ``.pt`` files, which can run any code.
        store_all: Keep crops, overviews and all overlays.
        predict: Settings of the prediction that take precedence over ``config``.
        evaluate: Settings of the evaluation.
    """

    input: str | None = None
    ground_truth: str | None = None
    archive: str | None = None
    directories: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    tmp: str | None = None
    soft: bool = False
    config: str | None = None
    input_pattern: str | None = None
    weight_pattern: str | None = None
    all_weights: bool = False
    devices: tuple[str, ...] = ("auto",)
    trust_weights: bool = False
    store_all: bool = False
    predict: dict[str, JsonValue] = Field(default_factory=dict)
    evaluate: dict[str, JsonValue] = Field(default_factory=dict)


def plan(options: CompareModels, output: Path, command: Sequence[str] = ()) -> tuple[Plan, tuple[str, ...]]:
    """Return a plan with a task for each model, and what the user should know of it: one sentence each.

    Args:
        options: What is compared.
        output: The run folder, which must not lie in the input.
        command: The command line that asks for it.

    Raises:
        UsageError: A path is absent or was emptied by the shell, an option is impossible, or there is no model.
        DatasetError: The ground truth is not usable.
        ConfigError: A setting is impossible.
    """
    staged = None if options.archive is None else staged_inputs(options.archive, options.input, options.ground_truth)
    if staged is None and (options.input is None or options.ground_truth is None):
        raise UsageError("there is nothing to score on", where="-i, -g", mend="Name images and ground truth, or -a.")
    images = _node_path(staged.images if staged else str(options.input))
    truth = _node_path(staged.ground_truth if staged else str(options.ground_truth))
    config = _node_path(options.config) if options.config is not None else None
    tmp = _node_path(options.tmp) if options.tmp is not None else None
    if not options.soft and staged is None:
        _check_inputs(images, truth, options.input_pattern or DEFAULT_PATTERN, output)
    found = find_models(
        options.directories, options.weights, pattern=options.weight_pattern, all_weights=options.all_weights
    )
    shared = {
        "images": str(images),
        "ground_truth": str(truth),
        "config": None if config is None else str(config),
        "tmp": None if tmp is None else str(tmp),
        **options.model_dump(include={"input_pattern", "trust_weights", "store_all", "predict", "evaluate"}),
    }
    devices = itertools.cycle([device_name(device) for device in options.devices])
    scored = [
        ScoreModel(model=model.name, weights=_literal(model.weights), card=_card_of(model), device=device, **shared)
        for model, device in zip(found.models, devices, strict=False)
    ]
    settings = _checked_settings(scored[0], config, options.soft)
    made = Plan(
        experiment=EXPERIMENT,
        command=tuple(command),
        versions=current_versions(),
        digests=_digests(found.models, [truth, *([config] if config else [])]),
        tasks=tuple(
            _task(name, args, staged.stage if staged else ())
            for name, args in zip(task_ids(found.models), scored, strict=True)
        ),
    )
    return made, (*found.notes, *_notes_on_cards(found.models, settings))


def task_ids(models: Iterable[Model]) -> list[str]:
    """Return an id for each model that is like its name, and needs no quoting anywhere."""
    ids: list[str] = []
    for model in models:
        stem = plain_id(model.name)
        taken = {name.casefold() for name in ids}
        candidates = [stem, *(f"{stem}-{number}" for number in range(2, len(ids) + 3))]
        ids.append(next(name for name in candidates if name.casefold() not in taken))
    return ids


def device_name(device: str) -> str:
    """Return the name of a device; a bare number is that of a GPU, as in flat-bug 1.x."""
    return f"cuda:{device}" if device.isdecimal() else device


def _node_path(text: str) -> NodePath:
    path = NodePath(text)
    path.check_not_emptied()
    return path.anchored()


def _check_inputs(images: NodePath, truth: NodePath, pattern: str, output: Path) -> None:
    folder, file = images.resolve(), truth.resolve()
    soft = "Check the path; --soft leaves this to the node that runs the task."
    if not folder.is_dir():
        raise UsageError("there is no such folder of images", where=folder, mend=soft)
    if not file.is_file():
        raise DatasetError("there is no such ground truth", where=file, mend=soft)
    if output.resolve().is_relative_to(folder.resolve()):
        raise UsageError("the output lies in the input", where=output, mend="Choose a folder beside the images.")
    found = find_images([folder], pattern=pattern, recursive=True)
    annotated = [printable(image.file_name) for image in read_coco(file).images]
    # The evaluation pairs them by the same names, but only when all images are predicted.
    pair_images(annotated, [printable(image.file_name) for image in found])


def _checked_settings(args: ScoreModel, config: NodePath | None, soft: bool) -> PredictSettings | None:
    """Check the settings before any task does; nothing is returned for a configuration that only the node has."""
    args.evaluation_settings()
    is_here = config is None or (config.is_known_here() and config.resolve().exists())
    return args.predict_settings() if is_here or not soft else None


def _notes_on_cards(models: Iterable[Model], settings: PredictSettings | None) -> list[str]:
    """Return a note for each model whose score threshold nobody has chosen, where that can be known here."""
    if settings is None or settings.score_threshold is not None:
        return []
    return [note for model in models if (note := note_without_card(model.weights)) is not None]


def _card_of(model: Model) -> str | None:
    card = card_path(model.weights)
    return _literal(card) if card.is_file() else None


def _literal(path: Path) -> str:
    return str(NodePath.literal(path))


def _task(name: str, args: ScoreModel, stage: tuple[Stage, ...]) -> Task:
    values = args.model_dump(mode="json")
    return Task(
        id=name,
        call=CALL,
        args=values,
        inputs=tuple(key for key in INPUTS if values[key] is not None),
        resources=Resources(gpus=0 if args.device == "cpu" else 1),
        stage=stage,
    )


def _digests(models: Iterable[Model], others: Iterable[NodePath]) -> dict[str, str]:
    digests = {str(model.weights): model.sha256 for model in models if model.sha256}
    here = [path.resolve() for path in others if path.is_known_here()]
    return {**digests, **{str(path): digest_of(path).sha256 for path in here if path.is_file()}}
