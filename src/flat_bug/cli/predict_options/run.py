"""Where and how the images are worked through."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.types import PositiveInt

from flat_bug.errors import UsageError

if TYPE_CHECKING:
    from flat_bug.prediction_run import InputImage, OutputSettings, Recipe


@Parameter(name="*", group=Group("Run", sort_key=9))
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the images are worked through, and how many at a time.

    Attributes:
        jobs: Processes, each with a network of its own on its share of the processors; one by default, or one for each
            device. auto: as many as there are processors and memory for.
        slurm: Submit to SLURM: a job array, whose tasks predict a share of the images each. Options of sbatch follow:
            mem=16GB time=01:00:00 --hold; of ours: profile=NAME, environment=DIR, slurm_setup=FILE, max_parallel=N,
            tasks_per_job=N, retries=N.
        shards: Tasks on SLURM; by default as many as make some 2000 megapixels each.
        dry_run: Show what would be submitted, and do nothing.
    """

    jobs: Annotated[Literal["auto"] | int | None, Parameter(["--jobs", "-j"])] = None
    slurm: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None
    shards: PositiveInt | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.jobs, int) and self.jobs < 1:
            raise UsageError(f"there cannot be {self.jobs} processes", where="--jobs", mend="Give 1 or more, or auto.")

    def check_is_here(self, output: Path | None) -> None:
        """Check that no option is for SLURM, and that no job there predicts into the same folder.

        Raises:
            UsageError: An option is.
            RunError: A job does.
        """
        for name, value in {"--shards": self.shards, "--dry-run": self.dry_run or None}.items():
            if value is not None:
                raise UsageError("this is for predictions on SLURM", where=name, mend="Add --slurm, or leave it out.")
        if output is not None:
            from flat_bug.experiments.predict_plan import check_no_task_runs  # noqa: PLC0415  # loads libvips

            check_no_task_runs(output)

    def submit(
        self,
        images: "Sequence[InputImage]",
        recipe: "Recipe",
        output: Path | None,
        settings: "OutputSettings",
        devices: Sequence[str],
        *,
        command: Sequence[str],
        json: bool,
    ) -> int:
        """Submit the images to SLURM and return the exit code.

        Raises:
            UsageError: Nothing is to be written.
            RunError: There is a run for the output folder already.
        """
        from flat_bug.cli.slurm import submit  # noqa: PLC0415 - predictions here need no Slurm
        from flat_bug.cluster.checks.visible import hidden  # noqa: PLC0415
        from flat_bug.experiments.predict_plan import (  # noqa: PLC0415
            begin_prediction,
            check_no_run,
            plan_prediction,
            run_folder_of,
        )

        if output is None:
            raise UsageError("nothing would be left of it", where="-S --slurm", mend="Name an output folder with -o.")
        check_no_run(output)
        own = next((image for image in images if hidden(image.path, None)), None)
        if own is not None:
            where = f"{own.path} {hidden(own.path, None)}"
            print(f"note: the image {where}; fine only where the nodes are this machine", file=sys.stderr)
        made = plan_prediction(
            images, recipe, output, settings, devices=devices, jobs=self.jobs, shards=self.shards, command=command
        )
        return submit(
            made,
            run_folder_of(output),
            self.slurm or (),
            dry_run=self.dry_run,
            json=json,
            prepare=lambda run: begin_prediction(run, images, output, settings),
        )
