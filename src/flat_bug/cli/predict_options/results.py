"""What is written of each image."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from flat_bug.cli.predict_options.crops import CropChoice
from flat_bug.cli.predict_options.formats import FormatChoice
from flat_bug.cli.predict_options.measurements import MeasurementOptions
from flat_bug.errors import UsageError

if TYPE_CHECKING:
    from flat_bug.prediction_run import OutputSettings


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
        track: Number the animals of each video, and keep the numbers from frame to frame.
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
    track: bool = False
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

    def settings(
        self,
        formats: FormatChoice | None = None,
        crops: CropChoice | None = None,
        sizes: MeasurementOptions | None = None,
    ) -> "OutputSettings":
        """Return what is written, for other programs too."""
        from flat_bug.prediction_run import OutputSettings  # noqa: PLC0415  # loads libvips

        if self.only_overviews and self.no_overviews:
            raise UsageError("--only-overviews and --no-overviews leave nothing to write", mend="Give one of them.")
        if self.track and (self.no_metadata or self.only_overviews or self.no_save):
            raise UsageError(
                "--track writes numbers of animals into the JSON of each frame, and another option leaves it out",
                mend="Give one of them.",
            )
        formats, cutting = formats or FormatChoice(), (crops or CropChoice()).chosen()
        others = formats.chosen()
        if self.no_save and (others["formats"] or others["viewer"]):
            raise UsageError("-S writes nothing, and --formats or --viewer asks for files", mend="Give one of them.")
        if cutting and (self.no_crops or self.only_overviews):
            option = "--" + next(iter(cutting)).replace("_", "-")
            raise UsageError(f"{option} is about crops, and another option leaves them out", mend="Give one of them.")
        if "coco" in others["formats"] and (self.no_compiled_coco or self.only_overviews):
            raise UsageError("--formats asks for coco, and another option leaves it out", mend="Give one of them.")
        measure = not (self.only_overviews or (sizes is not None and sizes.no_measurements))
        for name in {"measurements", "parquet"}.intersection(others["formats"]):
            if not measure:
                raise UsageError(f"--formats asks for {name}, and another option leaves it out", mend="Give one.")
        chosen = {
            **others,
            **cutting,
            "crops": not (self.no_crops or self.only_overviews),
            "overviews": not self.no_overviews,
            "metadata": not (self.no_metadata or self.only_overviews),
            "coco": not (self.no_compiled_coco or self.only_overviews),
            "measurements": measure,
            "tracks": self.track,
            "long_format": self.long_format,
            "fast": self.fast,
            "identifier": self.id,
        }
        settings = OutputSettings.from_mapping(chosen, where="command line")
        formats.refuse_unused(settings.all_formats)
        return settings
