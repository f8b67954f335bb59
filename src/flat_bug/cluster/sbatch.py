"""Hand a submission to Slurm through submitit, once, even if Slurm is slow to answer."""

import io
import os
import time
from contextlib import redirect_stderr
from pathlib import Path

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from flat_bug.cluster.batch_script import batch_script
from flat_bug.cluster.observe import adopt
from flat_bug.cluster.scheduler import SchedulerSilentError, clean_environment, error_of_text
from flat_bug.cluster.submission import Jobs, Submitted
from flat_bug.errors import MissingPartError
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.files import cannot_write

TRIES = 3
SECONDS_BETWEEN_TRIES = 5.0


class _Executor(SlurmExecutor):
    """Submits a given script from a given folder; submitit's own pickles are never made."""

    def __init__(self, folder: Path, script: str, start: Path) -> None:
        super().__init__(folder=folder)
        self.script, self.start = script, start

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return self.script

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        # Variables of a surrounding job would take precedence over the header.
        kept = clean_environment()
        unset = [word for name in sorted(os.environ.keys() - kept.keys()) for word in ("-u", name)]
        return ["env", *unset, "-C", str(self.start), "sbatch", str(submission_file_path.absolute())]


def submit_jobs(run: RunFolder, submitted: Submitted, max_parallel: int | None) -> None:
    """Submit the jobs of a submission and note their ids.

    Raises:
        SchedulerSilentError: Slurm does not answer; what it may have taken is found when the run is resumed.
        SchedulerError: Slurm refuses.
        OutputError: The script cannot be written.
    """
    submission = submitted.submission
    if submission.is_array or not submission.elements:
        job = _once(run, submitted, batch_script(submission, max_parallel=max_parallel), None)
        submitted.note_jobs(Jobs(array=job) if submission.is_array else Jobs(single={0: job}))
        return
    for index in range(len(submission.elements)):
        job = _once(run, submitted, batch_script(submission, index), index)
        submitted.note_jobs(Jobs(single=submitted.jobs.single | {index: job}))


def _once(run: RunFolder, submitted: Submitted, script: str, index: int | None) -> str:
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            return _sbatch(run, submitted, script)
        except SchedulerSilentError:
            # It may have taken the job before it fell silent, or do so any moment: so right before the next try.
            time.sleep(SECONDS_BETWEEN_TRIES)
            adopt(run)
            job = submitted.jobs.array or submitted.jobs.single.get(index or 0)
            if job is not None:
                return job
            if last:
                raise
    raise AssertionError  # the last try returns or raises


def _sbatch(run: RunFolder, submitted: Submitted, script: str) -> str:
    try:
        # What sbatch complains of is in the error; submitit prints it besides.
        with redirect_stderr(io.StringIO()):
            executor = _Executor(submitted.folder.absolute(), script, run.path.absolute())
            job: str = executor._submit_command("").job_id
    except OSError as error:
        raise cannot_write(submitted.folder, error) from error
    except (FailedJobError, FailedSubmissionError) as error:
        raise error_of_text("sbatch", str(error)) from error
    except RuntimeError as error:  # there is no srun
        raise MissingPartError("Slurm's commands are not here", mend="Run this on a login node.") from error
    return job
