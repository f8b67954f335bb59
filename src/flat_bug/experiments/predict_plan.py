"""The run of ``fb predict --slurm``: many images in shares, each predicted by a task into the folder of all."""

import math
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from flat_bug.config import PredictSettings
from flat_bug.errors import RunError, WeightsError
from flat_bug.experiments.digests import digest_of
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Plan, Resources, Task
from flat_bug.experiments.predict_shard import write_images
from flat_bug.experiments.predict_task import CALL, PredictImages
from flat_bug.experiments.record import current_versions
from flat_bug.experiments.run_folder import INNER_NAME, LOCK_NAME, PLAN_NAME, RunFolder
from flat_bug.locks import is_held
from flat_bug.prediction_run import InputImage, OutputSettings, Recipe
from flat_bug.prediction_run.compiled import clear_compiled
from flat_bug.prediction_run.pace import megapixels_of
from flat_bug.progress import track
from flat_bug.segmenters.base import card_path
from flat_bug.segmenters.load import default_weights

EXPERIMENT = "predict"
IMAGES_NAME = "images.json"
MEGAPIXELS_PER_TASK = 2000.0
"""By default: half an hour on four processors, so that little is lost with a node, and starting costs little."""
MOST_TASKS = 1000
READERS = 16
"""Headers that are read at a time: over a network, reading one is mostly waiting."""


def run_folder_of(output: Path) -> Path:
    """Return the folder of the run whose results an output folder holds."""
    return output / INNER_NAME


def check_no_run(output: Path) -> None:
    """Check that no run has been made for an output folder.

    Raises:
        RunError: There is one.
    """
    run = run_folder_of(output)
    if (run / PLAN_NAME).exists():
        go_on, gone = shlex.quote(str(output)), shlex.quote(str(run))
        raise RunError(
            "there is a run for this folder already",
            where=run,
            mend=f"Go on with it: fb resume {go_on}. For other images or settings remove it first: rm -r {gone}; "
            "results are kept, and what is done is skipped.",
        )


def check_no_task_runs(output: Path) -> None:
    """Check that no task of a run is predicting into an output folder.

    Raises:
        RunError: One is.
    """
    path = run_folder_of(output)
    if not (path / PLAN_NAME).is_file():
        return
    run = RunFolder.open(path)
    busy = next((task.id for task in run.plan.tasks if is_held(run.task_folder(task) / LOCK_NAME)), None)
    if busy is not None:
        where = shlex.quote(str(output))
        raise RunError(
            f"a task of the run for this folder is running: {busy}",
            where=path,
            mend=f"Wait until it has ended (fb status {where}), or cancel the run: fb cancel {where}",
        )


def plan_prediction(
    images: Sequence[InputImage],
    recipe: Recipe,
    output: Path,
    settings: OutputSettings,
    *,
    devices: Sequence[str] = ("auto",),
    jobs: int | Literal["auto"] | None = None,
    shards: int | None = None,
    command: Sequence[str] = (),
) -> Plan:
    """Return a plan with a task for each share of the images.

    Args:
        images: From ``find_images``.
        recipe: The model and its settings.
        output: Folder for the results.
        settings: What is written.
        devices: Where the networks of a task run.
        jobs: Processes of a task; by default one for each device.
        shards: How many tasks; by default as many as make some 2000 megapixels each.
        command: The command line that asks for it.

    Raises:
        WeightsError: The weights are absent.
    """
    weights = default_weights() if recipe.model is None else recipe.model
    if not weights.is_file():
        raise WeightsError("there is no such weight file", where=weights, mend="Check the path.")
    shares = shares_of(_sizes(images), shards)
    common = PredictImages(
        images=_literal(run_folder_of(output) / IMAGES_NAME),
        first=0,
        count=1,
        output=_literal(output),
        weights=_literal(weights),
        card=_literal(card_path(weights)) if card_path(weights).is_file() else None,
        devices=tuple(devices),
        jobs=jobs,
        trust_weights=recipe.trust_weights,
        predict=(recipe.settings or PredictSettings()).model_dump(mode="json"),
        write=settings.model_dump(mode="json"),
    )
    digits = len(str(len(images)))
    return Plan(
        experiment=EXPERIMENT,
        command=tuple(command),
        versions=current_versions(),
        digests={str(weights): digest_of(weights).sha256},
        tasks=tuple(_task(common, share, digits) for share in shares),
    )


def shares_of(megapixels: Sequence[float], count: int | None = None) -> list[range]:
    """Return the positions of the images of each task: neighbours, about as many megapixels for each.

    Args:
        megapixels: Of each image.
        count: How many tasks; by default as many as make some 2000 megapixels each.
    """
    # Some of the work is the same for the smallest image.
    work = np.cumsum([max(size, 1.0) for size in megapixels])
    wanted = count or min(MOST_TASKS, math.ceil(work[-1] / MEGAPIXELS_PER_TASK))
    wanted = max(1, min(wanted, len(megapixels)))
    limits = work[-1] * np.arange(1, wanted) / wanted
    ends = [*np.searchsorted(work, limits, side="left") + 1, len(megapixels)]
    starts = [0, *ends[:-1]]
    return [range(int(start), int(end)) for start, end in zip(starts, ends, strict=True) if start < end]


def begin_prediction(run: RunFolder, images: Sequence[InputImage], output: Path, settings: OutputSettings) -> None:
    """Write what the tasks of a new run read, and remove what describes a former one.

    Raises:
        OutputError: The folders cannot be written, or what is to be replaced there is somebody's work.
    """
    write_images(run.path / IMAGES_NAME, list(images))
    clear_compiled(output, settings.all_formats)


def _sizes(images: Sequence[InputImage]) -> list[float]:
    with ThreadPoolExecutor(READERS) as pool:
        sizes = track(pool.map(megapixels_of, images), "Reading the sizes of images", len(images))
        return [size or 0.0 for size in sizes]


def _task(common: PredictImages, share: range, digits: int) -> Task:
    args = common.model_copy(update={"first": share.start, "count": len(share)})
    values = args.model_dump(mode="json")
    return Task(
        id=f"images-{share.start + 1:0{digits}d}-{share.stop:0{digits}d}",
        call=CALL,
        args=values,
        inputs=tuple(name for name in ("weights", "card") if values[name] is not None),
        resources=Resources(gpus=0 if set(common.devices) == {"cpu"} else len(common.devices)),
        goes_on=True,
    )


def _literal(path: Path) -> str:
    return str(NodePath.literal(path))
