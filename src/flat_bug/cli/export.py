"""``fb export``: results that are there already, for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flat_bug.cli._support import print_json, print_table
from flat_bug.cli.predict_options.formats import FormatChoice, known_formats
from flat_bug.errors import ItemsFailedError, UsageError

if TYPE_CHECKING:
    from flat_bug.prediction_run.export import Exported

SHOWN_FAILURES = 20


def export(
    results: Path,
    /,
    *,
    others: FormatChoice | None = None,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    images: Annotated[Path | None, Parameter(["--images", "-I"])] = None,
    json: bool = False,
) -> None:
    """Write results for other programs, without predicting again.

    The results may be those of `fb predict`, of flat-bug 1.x, or any COCO file.
    Each format is a folder with a README.txt that says how it is used.

    Example: fb export results --formats geojson,yolo

    Args:
        results: Output folder of `fb predict`, JSON of one image, or COCO file.
        others: In which formats.
        output: Folder to write into; by default that of the results.
        images: Folder of the images, if they are no longer where they were predicted.
        json: Print one machine-readable object.
    """
    others = others or FormatChoice()
    # Imported here, because what reads and writes takes longer to load than `fb export --help` should.
    from flat_bug.instances.formats import FormatOptions  # noqa: PLC0415
    from flat_bug.prediction_run.export import export_results  # noqa: PLC0415
    from flat_bug.prediction_run.former_results import find_results  # noqa: PLC0415

    chosen = others.chosen()
    if not (chosen["formats"] or chosen["viewer"]):
        raise UsageError("no format is named", where="--formats", mend=f"Known: {known_formats()}.")
    others.refuse_unused(chosen["formats"])
    found = find_results(results, images)
    folder = output or (results if results.is_dir() else results.parent)
    options = FormatOptions(others.coco_rle, others.image_url)
    exported = export_results(found, chosen["formats"], folder, options, viewer=chosen["viewer"])
    if json:
        print_json(_as_mapping(exported))
    else:
        _print(exported)
    if exported.failures:
        shown = [failure.brief() for failure in exported.failures[:SHOWN_FAILURES]]
        raise ItemsFailedError(
            f"the results of {len(exported.failures)} images cannot be read, and are left out",
            where="\n    ".join(shown),
            mend="Predict these images again.",
        )


def _print(exported: "Exported") -> None:
    import polars as pl  # noqa: PLC0415  # not needed for --help

    print_table(pl.DataFrame([{"images": exported.images, "instances": exported.instances}]))
    for name, path in exported.formats.items():
        print(f"{name:12} {path}")
    if exported.not_found and {"yolo", "fiftyone"} & set(exported.formats):
        print(f"note: {exported.not_found} images were not found, so there are no links to them; name their folder: -I")


def _as_mapping(exported: "Exported") -> dict[str, object]:
    return {
        "formats": {name: str(path) for name, path in exported.formats.items()},
        "images": exported.images,
        "instances": exported.instances,
        "not_found": exported.not_found,
        "failures": [failure.brief() for failure in exported.failures],
    }
