"""Whether the queue has room for jobs: how many are allowed, how many there are, and what a refusal means."""

from flat_bug.cluster.scheduler import SchedulerError, is_full, may_be_full
from flat_bug.cluster.site import Site, read_site
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import SlurmSettings


def room_left(settings: SlurmSettings) -> int | None:
    """Return how many jobs may be submitted now, without the finaliser; None where the profile names no limit.

    Raises:
        SchedulerError: The queue is full already, or the scheduler does not answer.
    """
    limit = settings.profile.max_submit_jobs
    if limit is None:
        return None
    queued = _queued()
    room = limit - queued - 1
    if room < 1:
        raise SchedulerError(
            f"the queue holds {queued} of your jobs, and {limit} are allowed",
            mend="Wait until some have ended, then: fb resume RUN",
        )
    return room


def lacks_room(
    error: SchedulerError, settings: SlurmSettings, jobs: int, account: str | None = None, site: Site | None = None
) -> bool:
    """Return whether Slurm refuses jobs only for now, since too many are in the queue.

    Some versions say no more than that a limit of the account is exceeded, which may as well be the one of time. Then
    the jobs are counted.

    Args:
        error: What Slurm says.
        settings: How the run is submitted.
        jobs: How many it refuses.
        account: The account that they are charged to.
        site: What the cluster says of itself; it is asked if need be.
    """
    if is_full(error):
        return True
    if not may_be_full(error):
        return False
    try:
        limit = settings.profile.max_submit_jobs or most_jobs(site or read_site(), account)
        return limit is not None and _queued() + jobs > limit
    except SchedulerError:
        return False


def most_jobs(site: Site, account: str | None) -> int | None:
    """Return how many jobs of an account the user may have in the queue; None where no limit is known."""
    known = (association for association in site.associations or () if association.is_meant_by(account))
    return next((found.max_submit_jobs for found in known if found.max_submit_jobs), None)


def _queued() -> int:
    return sum(job.task_state is not None for job in ask_queue(None))
