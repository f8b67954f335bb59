"""Which options of sbatch each kind of job gets: those of the profile, and over them those of the user."""

from flat_bug.cluster.option_values import Value
from flat_bug.cluster.options import SlurmRequest, parse_defaults
from flat_bug.cluster.submission import SlurmSettings

FINALISE = "finalise"
SHARED = frozenset({"account", "comment", "export", "mail-type", "mail-user", "no-requeue", "partition", "qos"}) | {
    "reservation"
}
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


def _defaults(settings: SlurmSettings, kind: str) -> dict[str, Value]:
    profile = settings.profile
    of_the_site: dict[str, Value] = {}
    if profile.accounts:
        of_the_site["account"] = profile.accounts[0]
    if profile.partition:
        of_the_site["partition"] = profile.partition
    return of_the_site | parse_defaults(profile.resources_for(kind))
