"""Cancel what a run still has in the queue."""

from flat_bug.cluster.observe import adopt
from flat_bug.cluster.scheduler import run_command
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import is_on_slurm, submissions
from flat_bug.errors import RunError
from flat_bug.experiments.run_folder import RunFolder


def cancel_jobs(run: RunFolder) -> list[str]:
    """Cancel all jobs of a run, the finaliser first so that it does not begin, and return their ids.

    Raises:
        RunError: The run was not submitted to SLURM.
        SchedulerError: The scheduler does not answer.
    """
    if not is_on_slurm(run):
        raise RunError("this run was not submitted to SLURM", where=run.path, mend="End its command with Ctrl-C.")
    adopt(run)
    ids = [job for submitted in reversed(submissions(run)) for job in submitted.jobs.ids()]
    if not ids:
        return []
    live = {state.job.partition("_")[0] for state in ask_queue(ids) if state.task_state is not None}
    cancelled = [job for job in ids if job in live]
    if cancelled:
        run_command(["scancel", *cancelled])
    return cancelled
