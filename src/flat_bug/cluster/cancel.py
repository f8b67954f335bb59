"""Cancel what a run still has in the queue."""

from contextlib import ExitStack, suppress

from flat_bug.cluster.observe import with_found
from flat_bug.cluster.scheduler import run_command
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import is_on_slurm, submissions
from flat_bug.errors import OutputError, RunError
from flat_bug.experiments.run_folder import RunFolder


def cancel_jobs(run: RunFolder) -> list[str]:
    """Cancel all jobs of a run, the finaliser first so that it does not begin, and return their ids.

    A process that is submitting jobs of the run is waited for; otherwise what it submits next would stay.

    Raises:
        RunError: The run was not submitted to SLURM, or yet another process has begun to submit jobs of it.
        SchedulerError: The scheduler does not answer.
    """
    if not is_on_slurm(run):
        raise RunError("this run was not submitted to SLURM", where=run.path, mend="End its command with Ctrl-C.")
    run.wait_until_free()
    with ExitStack() as held:
        # Where nothing can be written, nobody can submit either, and jobs can be cancelled all the same.
        with suppress(OutputError):
            held.enter_context(run.lock())
        return _cancel(run)


def _cancel(run: RunFolder) -> list[str]:
    found = submissions(run)
    if not found:
        return []
    states = ask_queue(None)
    ids = [job for each in reversed(found) for job in with_found(each, states).jobs.ids()]
    live = {state.job.partition("_")[0] for state in states if state.task_state is not None}
    cancelled = [job for job in ids if job in live]
    if cancelled:
        run_command(["scancel", *cancelled])
    return cancelled
