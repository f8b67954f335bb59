"""What a cluster says of itself: its configuration, its partitions, and what its user may do."""

import os
import pwd
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flat_bug.cluster.option_values import seconds_of_time
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, run_command

SECONDS_TO_ANSWER = 10.0
NOTHING = frozenset({"", "(null)", "none", "None", "n/a", "N/A"})


@dataclass(frozen=True)
class Partition:
    """One partition; of nodes that differ, the best of each.

    Attributes:
        name: Its name.
        is_default: Whether jobs go there unless they name another.
        is_up: Whether it takes jobs.
        time_limit: Longest time of a job, as ``1-00:00:00`` or ``infinite``.
        cpus: Processors of a node.
        memory_mb: Memory of a node.
        disk_mb: Local disk of a node, or 0 where nobody has told Slurm.
        gres: Generic resources of a node: ``gpu:t4:4``.
        nodes: Number of nodes.
    """

    name: str
    is_default: bool = False
    is_up: bool = True
    time_limit: str = "infinite"
    cpus: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    gres: tuple[str, ...] = ()
    nodes: int = 0

    @property
    def seconds(self) -> float:
        """Return the longest time of a job."""
        return seconds_of_time(self.time_limit)

    @property
    def gpus(self) -> tuple[str, ...]:
        """Return the generic resources that are GPUs."""
        return tuple(name for name in self.gres if name.split(":")[0] == "gpu")


@dataclass(frozen=True)
class Association:
    """What a user may do with one account.

    Attributes:
        account: The account.
        is_default: Whether jobs are charged to it unless they name another.
        qos: Qualities of service that may be asked for.
        max_submit_jobs: Most jobs in the queue at a time, those of its quality of service included.
    """

    account: str
    is_default: bool = False
    qos: tuple[str, ...] = ()
    max_submit_jobs: int | None = None

    def is_meant_by(self, account: str | None) -> bool:
        """Return whether a job is charged to it; without an account, whether it is the default one."""
        return self.is_default if account is None else account in {self.account, self.short_name}

    @property
    def short_name(self) -> str:
        """Return what people write: on clusters of the Alliance def-lab means def-lab_cpu or def-lab_gpu."""
        return re.sub(r"_[cg]pu$", "", self.account)


@dataclass(frozen=True)
class Site:
    """What a cluster says.

    Attributes:
        config: Configuration of Slurm: name → value.
        partitions: Its partitions, the default one first.
        associations: Of the user; nothing where there is no accounting, or it does not answer.
        hosts: Names of the machines that nodes run on.
    """

    config: dict[str, str] = field(default_factory=dict)
    partitions: tuple[Partition, ...] = ()
    associations: tuple[Association, ...] | None = None
    hosts: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Return the name of the cluster."""
        return self.config.get("ClusterName", "cluster")

    @property
    def version(self) -> str:
        """Return the version of Slurm."""
        return self.config.get("SLURM_VERSION", "")

    @property
    def max_array_size(self) -> int:
        """Return the largest index of an array, plus one."""
        return _number(self.config.get("MaxArraySize", "")) or 1001

    @property
    def has_arrays(self) -> bool:
        """Return whether there are job arrays."""
        return self.config.get("MaxArraySize") not in {"0", "1"}

    @property
    def has_accounting(self) -> bool:
        """Return whether there is a database of jobs."""
        return "slurmdbd" in self.config.get("AccountingStorageType", "")

    @property
    def enforces_accounts(self) -> bool:
        """Return whether jobs are refused that are charged to an account which is not the user's."""
        return "associations" in self.config.get("AccountingStorageEnforce", "").lower()

    @property
    def is_this_machine(self) -> bool:
        """Return whether all nodes run on this very machine, as those of a rehearsal do."""
        here = os.uname().nodename
        return bool(self.hosts) and self.hosts <= {here, here.partition(".")[0], "localhost"}


def read_site() -> Site:
    """Ask the cluster about itself.

    Raises:
        SchedulerSilentError: Slurm is not here, or does not answer.
    """
    check_alive()
    config = _config(run_command(["scontrol", "show", "config"]))
    associations = None
    if "slurmdbd" in config.get("AccountingStorageType", ""):
        associations = _without_error(lambda: read_associations(config.get("ClusterName", "")))
    hosts = run_command(["sinfo", "--noheader", "--Node", "--format=%n"]).split()
    return Site(config, read_partitions(), associations, frozenset(hosts))


def check_alive() -> None:
    """Check that a controller answers, in no time; other commands wait for it for half a minute.

    Raises:
        SchedulerSilentError: None does.
    """
    try:
        # Without a configuration, it looks for one for a minute.
        answer = run_command(["scontrol", "ping"], timeout=SECONDS_TO_ANSWER)
    except SchedulerSilentError:
        raise
    except SchedulerError as error:  # newer versions fail, older ones only say so
        answer = error.what
    if not re.search(r"\bis UP\b", answer):
        what = "the scheduler does not answer: slurmctld is down"
        raise SchedulerSilentError(what, where="scontrol ping", mend="Try again in some minutes.")


def user_name() -> str:
    """Return the name of the user that runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def read_partitions() -> tuple[Partition, ...]:
    """Return the partitions that the user may see, the default one first.

    Raises:
        SchedulerError: Slurm does not answer.
    """
    answer = run_command(["sinfo", "--noheader", "--exact", "--format=%P|%a|%l|%c|%m|%d|%G|%D"])
    found: dict[str, Partition] = {}
    for line in answer.splitlines():
        cells = line.split("|")
        if len(cells) == 8:
            row = _partition(cells)
            found[row.name] = _better(found[row.name], row) if row.name in found else row
    return tuple(sorted(found.values(), key=lambda partition: not partition.is_default))


def read_associations(cluster: str) -> tuple[Association, ...]:
    """Return the accounts of the user on a cluster, the default one first.

    Raises:
        SchedulerError: There is no accounting, or it does not answer.
    """
    user = user_name()
    fields = "format=account,partition,qos,defaultqos,maxsubmitjobs"
    rows = _rows(["show", "assoc", f"user={user}", f"cluster={cluster}", fields], 5)
    default = _first([row[0] for row in _rows(["show", "user", f"name={user}", "format=defaultaccount"], 1)])
    limits = {name: _number(most) for name, most in _rows(["show", "qos", "format=name,maxsubmitjobsperuser"], 2)}
    found: dict[str, Association] = {}
    for account, _, qos, default_qos, most in rows:
        names = tuple(name for name in qos.split(",") if name)
        usual = default_qos or (names[0] if len(names) == 1 else "")
        least = min(filter(None, [_number(most), limits.get(usual)]), default=None)
        found.setdefault(account, Association(account, account == default, names, least))
    return tuple(sorted(found.values(), key=lambda association: not association.is_default))


def _rows(words: list[str], cells: int) -> list[list[str]]:
    answer = run_command(["sacctmgr", "--noheader", "--parsable2", "--readonly", *words])
    rows = [line.split("|") for line in answer.splitlines()]
    return [row for row in rows if len(row) == cells and row[0]]


def _without_error(ask: Callable[[], tuple[Association, ...]]) -> tuple[Association, ...] | None:
    try:
        return ask()
    except SchedulerError:
        return None


def _config(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _partition(cells: list[str]) -> Partition:
    name, up, limit, cpus, memory, disk, gres, nodes = (cell.strip() for cell in cells)
    return Partition(
        name=name.rstrip("*"),
        is_default=name.endswith("*"),
        is_up=up == "up",
        time_limit="infinite" if limit in NOTHING else limit,
        cpus=_number(cpus) or 0,
        memory_mb=_number(memory) or 0,
        disk_mb=_number(disk) or 0,
        gres=_gres(gres),
        nodes=_number(nodes) or 0,
    )


def _better(one: Partition, other: Partition) -> Partition:
    return Partition(
        name=one.name,
        is_default=one.is_default,
        is_up=one.is_up,
        time_limit=one.time_limit,
        cpus=max(one.cpus, other.cpus),
        memory_mb=max(one.memory_mb, other.memory_mb),
        disk_mb=max(one.disk_mb, other.disk_mb),
        gres=tuple(dict.fromkeys([*one.gres, *other.gres])),
        nodes=one.nodes + other.nodes,
    )


def _gres(text: str) -> tuple[str, ...]:
    # Sockets stand in brackets: gpu:t4:4(S:0-1),shard:8
    plain = re.sub(r"\([^)]*\)", "", text)
    return tuple(name for name in plain.split(",") if name not in NOTHING)


def _number(text: str) -> int | None:
    match = re.match(r"[0-9]+", text.strip())
    return int(match[0]) if match else None


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")
