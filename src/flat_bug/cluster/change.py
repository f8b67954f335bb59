"""Other options for a run that goes on: ``fb resume RUN --slurm mem=64G``."""

from flat_bug.cluster.files_of_jobs import changed_settings
from flat_bug.cluster.options import SlurmRequest
from flat_bug.cluster.preflight import check_jobs
from flat_bug.cluster.submission import read_settings, write_settings
from flat_bug.experiments.run_folder import RunFolder, TaskState


def change_options(run: RunFolder, request: SlurmRequest) -> None:
    """Take over other options for what is submitted from now on, if Slurm takes jobs with them.

    The caller holds the lock of the run. What is refused changes nothing: a finaliser that waits in the queue would
    submit with it.

    Args:
        run: The run.
        request: What the user gave.

    Raises:
        UsageError: Something cannot change any more.
        SchedulerError: Slurm would refuse such jobs, or does not answer.
    """
    changed = changed_settings(read_settings(run), request)
    check_jobs(changed, {found.task.call for found in run.statuses() if found.state is not TaskState.DONE}, run.path)
    write_settings(run, changed)
