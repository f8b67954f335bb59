"""The options of sbatch, from Slurm 20.11 to 25.11: their names, whether they take a value, and what kind of value.

From the manual pages of these versions. Which of them a site's own Slurm knows, sbatch says.
"""

from dataclasses import dataclass
from enum import StrEnum


class Takes(StrEnum):
    """Whether an option has a value."""

    VALUE = "value"
    MAYBE = "maybe"
    NOTHING = "nothing"


class Kind(StrEnum):
    """What a value must look like; of text nothing is known here."""

    TEXT = "text"
    COUNT = "count"
    NUMBER = "number"
    TIME = "time"
    MEMORY = "memory"


@dataclass(frozen=True)
class SbatchOption:
    """One option of sbatch."""

    name: str
    takes: Takes = Takes.VALUE
    kind: Kind = Kind.TEXT


_TEXT = (
    "account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container "
    "container-id container-type cpu-freq deadline delay-boot dependency distribution error exclude export export-file "
    "extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint "
    "input job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem-bind network nodefile nodelist "
    "nodes open-mode output partition power prefer priority profile qos reservation resources resv-ports segment "
    "signal switches tres-bind tres-per-task uid wait-all-nodes wckey wrap"
)
_COUNT = (
    "core-spec cores-per-socket cpus-per-gpu cpus-per-task mincpus ntasks ntasks-per-core ntasks-per-gpu "
    "ntasks-per-node ntasks-per-socket sockets-per-node thread-spec threads-per-core"
)
_TIME = "time time-min"
_MEMORY = "mem mem-per-cpu mem-per-gpu tmp"
_MAYBE_TEXT = "exclusive no-kill propagate requeue"
_MAYBE_NUMBER = "get-user-env nice oom-kill-step"
_NOTHING = (
    "consolidate-segments contiguous help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet reboot "
    "spread-job spread-segments stepmgr test-only usage use-min-nodes verbose version wait"
)

OPTIONS: dict[str, SbatchOption] = {
    name: SbatchOption(name, takes, kind)
    for names, takes, kind in (
        (_TEXT, Takes.VALUE, Kind.TEXT),
        (_COUNT, Takes.VALUE, Kind.COUNT),
        (_TIME, Takes.VALUE, Kind.TIME),
        (_MEMORY, Takes.VALUE, Kind.MEMORY),
        (_MAYBE_TEXT, Takes.MAYBE, Kind.TEXT),
        (_MAYBE_NUMBER, Takes.MAYBE, Kind.NUMBER),
        (_NOTHING, Takes.NOTHING, Kind.TEXT),
    )
    for name in names.split()
}
"""Long name → option."""

LETTERS = {
    **{"A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus"},
    **{"H": "hold", "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes", "O": "overcommit"},
    **{"Q": "quiet", "S": "core-spec", "V": "version", "W": "wait", "a": "array", "b": "begin", "c": "cpus-per-task"},
    **{"d": "dependency", "e": "error", "h": "help", "i": "input", "k": "no-kill", "m": "distribution"},
    **{"n": "ntasks", "o": "output", "p": "partition", "q": "qos", "s": "oversubscribe", "t": "time", "v": "verbose"},
    **{"w": "nodelist", "x": "exclude"},
}
"""Letter of an option → its long name."""

OTHER_NAMES = {"tasks-per-node": "ntasks-per-node", "name": "job-name"}
"""Names that sbatch or submitit understands → the name of the manual page."""

_LOGS = ("the logs of a run are in its folder RUN/slurm", "Read them with: fb logs RUN")
_PRINTS = ("it makes sbatch print something else than the id of the job", "Leave it out.")
_OTHER_USER = ("the files of a run belong to one user", "Submit as that user.")

MANAGED = {
    "array": ("the array follows from the tasks of the run", "Use max_parallel=N and tasks_per_job=N."),
    "wrap": ("the program that a job runs is not chosen here", "Commands for the nodes go into slurm_setup=FILE."),
    "parsable": _PRINTS,
    "help": _PRINTS,
    "usage": _PRINTS,
    "version": _PRINTS,
    "quiet": _PRINTS,
    "verbose": _PRINTS,
    "test-only": ("nothing would be submitted", "Use fb doctor, or --dry-run."),
    "wait": ("submitting returns at once", "Follow the run with: fb status RUN --watch"),
    "output": _LOGS,
    "error": _LOGS,
    "open-mode": _LOGS,
    "input": ("tasks read nothing from standard input", "Leave it out."),
    "chdir": ("jobs start in the folder of the run", "Change the folder in slurm_setup=FILE where you need another."),
    "signal": ("the run asks for a signal before the time limit itself, to save its work", "Leave it out."),
    "clusters": ("the run is followed on the cluster of this login node", "Log in to that cluster, and submit there."),
    "uid": _OTHER_USER,
    "gid": _OTHER_USER,
}
"""Name of an option that the run sets itself → why, and what to do instead."""

EXCLUSIVE = (
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"requeue", "no-requeue"}),
    frozenset({"exclusive", "oversubscribe"}),
    frozenset({"export", "export-file"}),
)
"""Options of which a job can have one."""

ONE_WISH = (
    *EXCLUSIVE,
    # Each says how many GPUs. A profile's gres=gpu:1 beside the user's gpus=4 is refused by sbatch, or adds up.
    frozenset({"gres", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"}),
)
"""Options that say the same in other words, so that a user's one takes the place of a profile's."""
