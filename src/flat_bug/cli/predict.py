"""``fb predict``: find and outline every arthropod in images."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flat_bug.cli._support import print_json, print_table
from flat_bug.cli.predict_options.images import ImageOptions
from flat_bug.cli.predict_options.model import ModelOptions
from flat_bug.cli.predict_options.results import ResultOptions
from flat_bug.config import PredictSettings
from flat_bug.errors import ItemsFailedError

if TYPE_CHECKING:
    from flat_bug.prediction_run import ImageRow, PredictionRun

SHOWN_FAILURES = 20


def predict(*, chosen: ImageOptions, model: ModelOptions | None = None, results: ResultOptions | None = None) -> None:
    """Find and outline every arthropod in images of any size.

    Each image gets a JSON with its outlines, a picture of each animal and an
    overview; all images together a COCO file and a summary. After an
    interruption run the same command again: images that are done are skipped.

    Example: fb predict -i scans -o results
    """
    model, results = model or ModelOptions(), results or ResultOptions()
    if results.verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("flat_bug").setLevel(logging.INFO)
    output, wanted, settings, device = results.folder(), results.settings(), model.settings(), model.device_name()

    # Imported here, because onnxruntime and libvips take longer to load than `fb predict --help` should.
    from flat_bug.predict import Predictor  # noqa: PLC0415
    from flat_bug.prediction_run import predict_images  # noqa: PLC0415

    images = chosen.images(output)
    predictor = Predictor(model.model_weights, settings, device, trust_weights=model.trust_weights)
    _note_missing_card(model.model_weights, settings)
    run = predict_images(images, predictor, output, wanted)
    if results.json:
        print_json(_as_mapping(run, output))
    else:
        _print_report(run, output)
    if run.failed:
        raise ItemsFailedError(
            f"{len(run.failed)} of {len(run.rows)} images failed",
            where=_listed(run.failed),
            mend="Mend or remove these files and run the same command again; the others are skipped.",
        )


def _note_missing_card(weights: Path | None, settings: PredictSettings) -> None:
    from flat_bug.segmenters.base import note_without_card  # noqa: PLC0415  # see predict

    if weights is None or settings.score_threshold is not None:
        return
    if (note := note_without_card(weights)) is not None:
        print(f"note: {note}", file=sys.stderr)


def _print_report(run: "PredictionRun", output: Path | None) -> None:
    import polars as pl  # noqa: PLC0415  # not needed for --help

    print_table(pl.DataFrame([run.totals()]))
    if output is not None:
        print(f"Results: {output}")
        for path in (run.summary_file, run.coco):
            if path is not None:
                print(f"         {path}")


def _as_mapping(run: "PredictionRun", output: Path | None) -> dict[str, object]:
    return {
        "output": None if output is None else str(output),
        "coco": None if run.coco is None else str(run.coco),
        "summary": None if run.summary_file is None else str(run.summary_file),
        "totals": run.totals(),
        "images": run.summary.to_dicts(),
    }


def _listed(failed: "tuple[ImageRow, ...]") -> str:
    shown = [f"{row.image}: {row.reason}" for row in failed[:SHOWN_FAILURES]]
    if len(failed) > SHOWN_FAILURES:
        shown.append(f"and {len(failed) - SHOWN_FAILURES} more, all of them in the summary")
    return "\n    ".join(shown)
