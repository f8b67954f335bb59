"""Predict the images of a ground truth with one model and evaluate the predictions: one task of an experiment."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, JsonValue

from flat_bug.config import PredictSettings
from flat_bug.evaluation.run import evaluate
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Frozen
from flat_bug.experiments.record import Outcome
from flat_bug.experiments.run_folder import attempts_in
from flat_bug.files import cannot_write
from flat_bug.predict import Predictor
from flat_bug.prediction_run import OutputSettings, PredictionRun, find_images, predict_images
from flat_bug.prediction_run.inputs import DEFAULT_PATTERN
from flat_bug.segmenters.base import ModelCard

PREDICTIONS = "predictions"
EVALUATION = "evaluation"
CALL = "score-model"


class ScoreModel(Frozen):
    """The arguments of the task; every path is text of a ``NodePath``.

    Attributes:
        model: Name of the model, for tables.
        weights: Weight file.
        card: Its card, if it has one.
        images: Folder of images.
        ground_truth: COCO file that annotates them.
        config: Settings of the prediction, in YAML.
        tmp: Folder for the work until it is done; by default the attempt folder.
        input_pattern: Regular expression for the names of images.
        device: Where the network runs.
        trust_weights: Open a ``.pt`` file that no card vouches for.
        store_all: Keep crops, overviews and the overlays of all images.
        predict: Settings of the prediction that take precedence over ``config``.
        evaluate: Settings of the evaluation.
    """

    model: str
    weights: str
    card: str | None = None
    images: str
    ground_truth: str
    config: str | None = None
    tmp: str | None = None
    input_pattern: str | None = None
    device: str = "auto"
    trust_weights: bool = False
    store_all: bool = False
    predict: dict[str, JsonValue] = Field(default_factory=dict)
    evaluate: dict[str, JsonValue] = Field(default_factory=dict)

    def predict_settings(self) -> PredictSettings:
        """Return the settings of the prediction.

        Raises:
            ConfigError: The configuration cannot be read or holds an impossible value.
        """
        base = PredictSettings.from_yaml(NodePath(self.config).resolve()) if self.config else PredictSettings()
        return PredictSettings.from_mapping({**base.model_dump(), **self.predict}, where="the command line")

    def evaluation_settings(self) -> EvaluationSettings:
        """Return the settings of the evaluation.

        Raises:
            ConfigError: A value is impossible.
        """
        overlays = "all" if self.store_all else "extremes"
        return EvaluationSettings.from_mapping({"overlays": overlays, **self.evaluate}, where="the command line")


class Scored(Frozen):
    """The figures that the task leaves in its record.

    Attributes:
        megapixels: Of the images that were predicted in this attempt.
        predict_seconds: Time for them, without loading the model.
        card: The card of the weights.
    """

    megapixels: float
    predict_seconds: float
    card: ModelCard


def score_model(args: dict[str, JsonValue], attempt: Path) -> Outcome:
    """Write ``predictions/`` and ``evaluation/`` into the attempt folder and return what they took.

    Images that cannot be predicted are failed items; in the evaluation they count as images without detections.

    Raises:
        FlatBugError: The weights, the images, the ground truth or the settings are not usable.
    """
    wanted = ScoreModel.model_validate(args)
    images_folder, truth = NodePath(wanted.images).resolve(), NodePath(wanted.ground_truth).resolve()
    predictor = Predictor(
        NodePath(wanted.weights).resolve(),
        wanted.predict_settings(),
        wanted.device,
        trust_weights=wanted.trust_weights,
    )
    images = find_images([images_folder], pattern=wanted.input_pattern or DEFAULT_PATTERN, recursive=True)
    with _workplace(wanted, attempt) as work:
        _take_over_unfinished(attempt, work)
        output = OutputSettings(crops=wanted.store_all, overviews=wanted.store_all)
        predicted = predict_images(images, predictor, work / PREDICTIONS, output)
        evaluate(truth, work / PREDICTIONS, work / EVALUATION, wanted.evaluation_settings(), images_folder)
    return Outcome(
        values=_scored(predicted, predictor.card).model_dump(mode="json"),
        failed_items=tuple(f"{row.image}: {row.reason}" for row in predicted.failed),
    )


@contextmanager
def _workplace(wanted: ScoreModel, attempt: Path) -> Iterator[Path]:
    """Yield the folder to work in; what is in it at the end is moved to the attempt folder."""
    if wanted.tmp is None:
        yield attempt
        return
    parent = NodePath(wanted.tmp).resolve()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="flat-bug-", dir=parent))
    except OSError as error:
        raise cannot_write(parent, error) from error
    try:
        yield work
        for made in sorted(work.iterdir()):
            shutil.move(made, attempt / made.name)
    except OSError as error:
        raise cannot_write(attempt, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _take_over_unfinished(attempt: Path, work: Path) -> None:
    """Link the predictions of the attempt before, if it left any; those of the same inputs are not made again."""
    before = [other for other in attempts_in(attempt.parent) if other != attempt]
    if before and (before[-1] / PREDICTIONS).is_dir():
        shutil.copytree(before[-1] / PREDICTIONS, work / PREDICTIONS, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    # Results are replaced and never changed in place, so a link keeps the earlier attempt as it is.
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _scored(predicted: PredictionRun, card: ModelCard) -> Scored:
    # Images that an earlier attempt had done took no time in this one, so neither their pixels count.
    timed = [row for row in predicted.rows if row.status == "done"]
    return Scored(
        megapixels=sum(row.megapixels or 0.0 for row in timed),
        predict_seconds=sum(row.seconds or 0.0 for row in timed),
        card=card,
    )
