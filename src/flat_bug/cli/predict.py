"""``fb predict``: find and outline every arthropod in images."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from flat_bug.cli._support import print_json, print_table
from flat_bug.config import PredictSettings
from flat_bug.errors import ItemsFailedError, UsageError

if TYPE_CHECKING:
    from flat_bug.prediction_run import ImageRow, InputImage, OutputSettings, PredictionRun

SHOWN_FAILURES = 20


@Parameter(name="*", group=Group("Images", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images.

    Attributes:
        input: Images, folders, patterns such as "scans/*.jpg", or a .txt file that names an image per line.
        input_pattern: Regular expression that file names in a folder must match; by default those of images.
        max_images: Only the first so many images, in alphabetical order.
        recursive: Look into sub-folders too.
    """

    input: Annotated[list[str], Parameter(name=["--input", "-i"], consume_multiple=True)]
    input_pattern: Annotated[str | None, Parameter(name=["--input-pattern", "-p"])] = None
    max_images: Annotated[int | None, Parameter(name=["--max-images", "-n"])] = None
    recursive: Annotated[bool, Parameter(name=["--recursive", "-R"])] = False

    def images(self, output: Path | None) -> "list[InputImage]":
        """Return the images that are meant; those in the output are not."""
        from flat_bug.prediction_run import DEFAULT_PATTERN, find_images  # noqa: PLC0415  # loads libvips

        if self.max_images is not None and self.max_images < 1:
            raise UsageError(f"--max-images is {self.max_images}", mend="Give 1 or more.")
        return find_images(
            self.input,
            pattern=self.input_pattern or DEFAULT_PATTERN,
            recursive=self.recursive,
            limit=self.max_images,
            exclude=output,
        )


@Parameter(name="*", group=Group("Model", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and how it is applied.

    Attributes:
        model_weights: Weights, .onnx or .pt; by default those that come with flat-bug.
        trust_weights: Open a .pt file. Such a file can run any code; weights in an .onnx file cannot.
        device: auto (the default), cpu, cuda, or cuda:1 (or just 1).
        dtype: Taken for the sake of flat-bug 1.x: the network runs in float32, whatever is asked for.
        config: YAML file with settings; the options below come before it.
        score_threshold: Keep animals that score above this; by default what the model's card says.
        scale_before: Scale each image by this before everything else; 1 by default.
        single_scale: Look at the native scale only: faster, but misses animals larger than a tile.
        nms_metric: How the overlap of two outlines is measured: over their union (the default), or the smaller one.
    """

    model_weights: Annotated[Path | None, Parameter(name=["--model-weights", "-w"])] = None
    trust_weights: bool = False
    device: Annotated[str, Parameter(name=["--device", "--gpu", "-g"])] = "auto"
    dtype: Annotated[Literal["float32", "float16", "bfloat16"], Parameter(name=["--dtype", "-d"])] = "float32"
    config: Path | None = None
    score_threshold: float | None = None
    scale_before: Annotated[float | None, Parameter(name=["--scale-before", "-s"])] = None
    single_scale: bool = False
    nms_metric: Annotated[Literal["IoU", "IoS"] | None, Parameter(name=["--nms-metric", "-M"])] = None

    def settings(self) -> PredictSettings:
        """Return the settings of the configuration, and over them those of the command line."""
        given = {
            "score_threshold": self.score_threshold,
            "scale_before": self.scale_before,
            "single_scale": self.single_scale or None,
            "overlap_metric": self.nms_metric,
        }
        configured = PredictSettings.from_yaml(self.config) if self.config else PredictSettings()
        overrides = {name: value for name, value in given.items() if value is not None}
        return PredictSettings.from_mapping(configured.model_dump() | overrides, where="command line")

    def device_name(self) -> str:
        """Return the device under its present name; flat-bug 1.x also had plain numbers."""
        if "," in self.device:
            raise UsageError("only one device can be used", where=f"--device {self.device}", mend="Name one.")
        return f"cuda:{self.device}" if self.device.isdigit() else self.device


@Parameter(name="*", group=Group("Results", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """What is written.

    Attributes:
        output: Folder for the results.
        no_crops: Leave out the picture of each animal.
        no_overviews: Leave out the overviews.
        no_metadata: Leave out the JSON of each image.
        no_compiled_coco: Leave out coco_instances.json.
        only_overviews: Write overviews and the summary only.
        long_format: Write into three shared folders (overviews, crops, metadata), not one for each image.
        fast: Make smaller overviews.
        id: Last part of the file names; by default made from the content of the image.
        no_save: Write nothing, only report what is found.
        json: Print one machine-readable object instead of tables.
        verbose: Say what becomes of each image.
    """

    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    no_crops: bool = False
    no_overviews: bool = False
    no_metadata: bool = False
    no_compiled_coco: Annotated[bool, Parameter(name=["--no-compiled-coco", "-C"])] = False
    only_overviews: bool = False
    long_format: bool = False
    fast: Annotated[bool, Parameter(name=["--fast", "-f"])] = False
    id: str | None = None
    no_save: Annotated[bool, Parameter(name=["--no-save", "-S"])] = False
    json: bool = False
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"])] = False

    def folder(self) -> Path | None:
        """Return the output folder, or None if nothing is to be written."""
        if self.output is None and not self.no_save:
            raise UsageError("there is no output folder", mend="Name one with -o, or write nothing with -S.")
        return None if self.no_save else self.output

    def settings(self) -> "OutputSettings":
        """Return what is written."""
        from flat_bug.prediction_run import OutputSettings  # noqa: PLC0415  # loads libvips

        if self.only_overviews and self.no_overviews:
            raise UsageError("--only-overviews and --no-overviews leave nothing to write", mend="Give one of them.")
        chosen = {
            "crops": not (self.no_crops or self.only_overviews),
            "overviews": not self.no_overviews,
            "metadata": not (self.no_metadata or self.only_overviews),
            "coco": not (self.no_compiled_coco or self.only_overviews),
            "long_format": self.long_format,
            "fast": self.fast,
            "identifier": self.id,
        }
        return OutputSettings.from_mapping(chosen, where="command line")


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
