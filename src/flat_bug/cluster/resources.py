"""Which options of sbatch each kind of job gets: those of the profile, and over them those of the user."""

from flat_bug.cluster.option_values import Value
from flat_bug.cluster.options import SlurmRequest, parse_defaults
from flat_bug.cluster.submission import SlurmSettings
from flat_bug.errors import UsageError

FINALISE = "finalise"
SHARED = frozenset(
    {"account", "clusters", "comment", "export", "mail-type", "mail-user", "no-requeue", "partition", "qos"}
) | {"reservation"}
"""Options of the user's that hold for the finaliser too, which needs no GPU, little memory and little time."""


def options_of(settings: SlurmSettings, call: str) -> dict[str, Value]:
    """Return the options of a job whose tasks call a function.

    Raises:
        UsageError: The profile asks for something impossible.
    """
    request = SlurmRequest(options=dict(settings.options), without=frozenset(settings.without))
    return request.over(_defaults(settings, call))


def finaliser_options(settings: SlurmSettings) -> dict[str, Value]:
    """Return the options of the job that combines results.

    Raises:
        UsageError: The profile asks for something impossible.
    """
    shared = {name: value for name, value in settings.options.items() if name in SHARED}
    return SlurmRequest(options=shared).over(_defaults(settings, FINALISE))


def check_account(settings: SlurmSettings) -> None:
    """Check that there is an account where the cluster wants one.

    Raises:
        UsageError: There is none.
    """
    if settings.profile.account_required and "account" not in options_of(settings, ""):
        raise UsageError(
            f"jobs on {settings.profile.name} need an account",
            where="--slurm",
            mend="Add account=def-someone, or put it into the profile: accounts: [def-someone]",
        )


def _defaults(settings: SlurmSettings, kind: str) -> dict[str, Value]:
    profile = settings.profile
    of_the_site: dict[str, Value] = {}
    if profile.accounts:
        of_the_site["account"] = profile.accounts[0]
    if profile.partition:
        of_the_site["partition"] = profile.partition
    return of_the_site | parse_defaults(profile.resources_for(kind))
