"""Predict the images of a ground truth with one model and evaluate the predictions: one task of an experiment."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from flat_bug.evaluation.run import evaluate
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.record import Outcome
from flat_bug.experiments.run_folder import attempts_in
from flat_bug.experiments.score_task import EVALUATION, PREDICTIONS, Scored, ScoreModel
from flat_bug.files import cannot_write, link_or_copy
from flat_bug.predict import Predictor
from flat_bug.prediction_run import OutputSettings, PredictionRun, find_images, predict_images
from flat_bug.prediction_run.inputs import DEFAULT_PATTERN


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
        values=_scored(predicted, predictor).model_dump(mode="json"),
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
        _move_all(work, attempt)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_all(source: Path, target: Path) -> None:
    try:
        for made in sorted(source.iterdir()):
            shutil.move(made, target / made.name)
    except OSError as error:
        raise cannot_write(target, error) from error


def _take_over_unfinished(attempt: Path, work: Path) -> None:
    """Link the predictions of the newest attempt that left any; those of the same inputs are not made again."""
    earlier = [other / PREDICTIONS for other in reversed(attempts_in(attempt.parent)) if other != attempt]
    before = next((folder for folder in earlier if folder.is_dir()), None)
    if before is None:
        return
    try:
        # Results are replaced and never changed in place, so a link keeps the earlier attempt as it is.
        shutil.copytree(before, work / PREDICTIONS, copy_function=link_or_copy)
    except OSError as error:
        raise cannot_write(work / PREDICTIONS, error) from error


def _scored(predicted: PredictionRun, predictor: Predictor) -> Scored:
    # Images that an earlier attempt had done took no time in this one, so neither their pixels count.
    timed = [row for row in predicted.rows if row.status == "done"]
    return Scored(
        megapixels=sum(row.megapixels or 0.0 for row in timed),
        predict_seconds=sum(row.seconds or 0.0 for row in timed),
        card=predictor.card,
        score_threshold=predictor.score_threshold,
    )
