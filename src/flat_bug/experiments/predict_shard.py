"""Predict a share of many images into the folder of all: one task of a run of ``fb predict --slurm``."""

import json
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.predict_task import FINISHED, TABLES, Predicted, PredictImages
from flat_bug.experiments.record import NoProgressError, Outcome, OutOfTimeError
from flat_bug.files import write_json
from flat_bug.prediction_run import InputImage, OutputSettings, Recipe, devices_of_jobs
from flat_bug.prediction_run.crew import predictor_of
from flat_bug.prediction_run.one_image import Finished, Place
from flat_bug.prediction_run.remembered import read_memory
from flat_bug.prediction_run.run import predict_each

IMAGES = TypeAdapter(list[InputImage])
ALL_FINISHED = TypeAdapter(list[Finished])


def predict_shard(args: dict[str, JsonValue], attempt: Path) -> Outcome:
    """Write the results of the images into the output folder, and what became of them into the attempt folder.

    Images that cannot be predicted are failed items. What an earlier attempt has done is skipped.

    Raises:
        FlatBugError: The weights or the settings are not usable.
        NoProgressError: The time limit came near before a single image was done.
    """
    wanted = PredictImages.model_validate(args)
    images = read_images(NodePath(wanted.images).resolve())[wanted.first : wanted.first + wanted.count]
    recipe = Recipe(NodePath(wanted.weights).resolve(), wanted.predict_settings(), wanted.trust_weights)
    place = Place(wanted.folder(), OutputSettings.from_mapping(dict(wanted.write)), attempt / TABLES)
    predictor = predictor_of(recipe, devices_of_jobs(wanted.devices, wanted.jobs)[: len(images)])
    done: list[Finished] = []
    try:
        memory = read_memory(place.output).images
        finished = predict_each(images, predictor, place, memory, lambda _, each: done.append(each))
    except OutOfTimeError as stop:
        if any(each.row.status == "done" for each in done):
            raise
        what = "the time limit of its job came near before a single image was done"
        raise NoProgressError(what, mend="Give it more time: fb resume RUN --grow time.") from stop
    write_json(attempt / FINISHED, ALL_FINISHED.dump_python(finished, mode="json"))
    return Outcome(
        values=_predicted(finished).model_dump(mode="json"),
        failed_items=tuple(f"{each.row.image}: {each.row.reason}" for each in finished if each.row.status == "failed"),
    )


def write_images(path: Path, images: list[InputImage]) -> None:
    """Write which images a run is about, with whole paths: a task starts in another folder.

    Raises:
        OutputError: The file cannot be written.
    """
    whole = [{**each, "path": str(Path(each["path"]).absolute())} for each in IMAGES.dump_python(images, mode="json")]
    write_json(path, whole)


def read_images(path: Path) -> list[InputImage]:
    """Return which images a run is about."""
    # Not `validate_json`, which refuses what json.dumps makes of a file name that is not UTF-8.
    return IMAGES.validate_python(json.loads(path.read_text(encoding="utf-8")))


def _predicted(finished: list[Finished]) -> Predicted:
    rows = [each.row for each in finished]
    now = [row for row in rows if row.status == "done"]
    return Predicted(
        images=len(rows),
        skipped=sum(row.status == "skipped" for row in rows),
        failed=sum(row.status == "failed" for row in rows),
        instances=sum(row.instances or 0 for row in rows),
        megapixels=sum(row.megapixels or 0.0 for row in now),
        predict_seconds=sum(row.seconds or 0.0 for row in now),
    )
