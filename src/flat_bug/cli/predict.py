"""``fb predict``: find and outline every arthropod in images."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flat_bug.cli._support import print_json, print_lines, print_table
from flat_bug.cli.interrupts import tidied_up
from flat_bug.cli.predict_options.crops import CropChoice
from flat_bug.cli.predict_options.formats import FormatChoice
from flat_bug.cli.predict_options.images import ImageOptions
from flat_bug.cli.predict_options.measurements import MeasurementOptions
from flat_bug.cli.predict_options.model import ModelOptions
from flat_bug.cli.predict_options.results import ResultOptions
from flat_bug.cli.predict_options.run import RunOptions
from flat_bug.config import PredictSettings
from flat_bug.errors import EXIT_INTERRUPTED, EXIT_OK, ItemsFailedError

if TYPE_CHECKING:
    from flat_bug.prediction_run import ImageRow, PredictionRun

SHOWN_FAILURES = 20
SHOWN_FILES = 5


def predict(
    *,
    chosen: ImageOptions,
    model: ModelOptions | None = None,
    results: ResultOptions | None = None,
    crops: CropChoice | None = None,
    others: FormatChoice | None = None,
    sizes: MeasurementOptions | None = None,
    run: RunOptions | None = None,
) -> int:
    """Find and outline every arthropod in images of any size.

    Each image gets a JSON with its outlines, a picture of each animal and an
    overview; all images together a COCO file and a summary. After an
    interruption run the same command again: images that are done are skipped.

    Example: fb predict -i scans -o results
    """
    model, results, run = model or ModelOptions(), results or ResultOptions(), run or RunOptions()
    sizes = sizes or MeasurementOptions()
    if results.verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("flat_bug").setLevel(logging.INFO)
    output, wanted, settings, devices = (
        results.folder(),
        results.settings(others, crops, sizes),
        model.settings(),
        model.devices(),
    )

    # Imported here, because onnxruntime and libvips take longer to load than `fb predict --help` should.
    from flat_bug.prediction_run import Recipe, devices_of_jobs, predict_images, predictor_of  # noqa: PLC0415

    images = sizes.with_scales(chosen.images(output))
    recipe = Recipe(model.model_weights, settings, model.trust_weights)
    if run.slurm is not None:
        _note_missing_card(model.model_weights, settings)
        command = [Path(sys.argv[0]).name, *sys.argv[1:]]
        return run.submit(images, recipe, output, wanted, devices, command=command, json=results.json)
    run.check_is_here(output)
    try:
        with tidied_up():
            predictor = predictor_of(recipe, devices_of_jobs(devices, run.jobs)[: len(images)])
            _note_missing_card(model.model_weights, settings)
            found = predict_images(images, predictor, output, wanted)
            _note_other_pages(found)
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    if results.json:
        print_json(_as_mapping(found, output))
    else:
        _print_report(found, output)
        if output is not None and not wanted.viewer:
            _note_old_viewer(found, output)
    if found.failed:
        raise ItemsFailedError(
            f"{len(found.failed)} of {len(found.rows)} images failed",
            where=_listed(found.failed),
            mend="Mend or remove these files and run the same command again; the others are skipped.",
        )
    return EXIT_OK


def _interrupted(stop: KeyboardInterrupt) -> int:
    """Say how far the run was and how to go on, and return the exit code."""
    mend = "Nothing is half-written; run the same command again, and what is finished is skipped."
    print_lines(["interrupted", *getattr(stop, "__notes__", []), mend])
    return EXIT_INTERRUPTED


def _note_missing_card(weights: Path | None, settings: PredictSettings) -> None:
    from flat_bug.segmenters.base import note_without_card  # noqa: PLC0415  # see predict

    if weights is None or settings.score_threshold is not None:
        return
    if (note := note_without_card(weights)) is not None:
        print(f"note: {note}", file=sys.stderr)


def _note_old_viewer(run: "PredictionRun", output: Path) -> None:
    from flat_bug.prediction_run.viewing import VIEWER  # noqa: PLC0415  # see predict

    if (output / VIEWER / "index.html").is_file() and any(row.status == "done" for row in run.rows):
        print("note: the viewer shows what an earlier command has found; add --viewer to renew it", file=sys.stderr)


def _note_other_pages(run: "PredictionRun") -> None:
    several = [f"{row.file} ({row.pages})" for row in run.rows if row.pages is not None]
    if several:
        shown = ", ".join(several[:SHOWN_FILES]) + (" …" if len(several) > SHOWN_FILES else "")
        print(f"note: of files with several pages only the first was looked at (--page all): {shown}", file=sys.stderr)


def _print_report(run: "PredictionRun", output: Path | None) -> None:
    import polars as pl  # noqa: PLC0415  # not needed for --help

    print_table(pl.DataFrame([run.totals()]))
    if output is not None:
        print(f"Results: {output}")
        for path in (run.summary_file, *run.formats.values()):
            if path is not None:
                print(f"         {path}")


def _as_mapping(run: "PredictionRun", output: Path | None) -> dict[str, object]:
    return {
        "output": None if output is None else str(output),
        "coco": None if run.coco is None else str(run.coco),
        "formats": {name: str(path) for name, path in run.formats.items()},
        "summary": None if run.summary_file is None else str(run.summary_file),
        "totals": run.totals(),
        "images": run.summary.to_dicts(),
    }


def _listed(failed: "tuple[ImageRow, ...]") -> str:
    shown = [f"{row.image}: {row.reason}" for row in failed[:SHOWN_FAILURES]]
    if len(failed) > SHOWN_FAILURES:
        shown.append(f"and {len(failed) - SHOWN_FAILURES} more, all of them in the summary")
    return "\n    ".join(shown)
