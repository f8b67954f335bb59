"""What a throw-away cluster is like: its nodes, accounts and limits, and where its files are."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

GUIDE_MODULES = ("StdEnv/2023", "python/3.11.5", "opencv/4.10.0", "gcc/12.3", "scipy-stack/2024a", "r/4.4.0")
"""Environment modules that people of the Digital Research Alliance of Canada load."""


@dataclass(frozen=True)
class ClusterShape:
    """What a throw-away cluster is like.

    Attributes:
        nodes: Number of nodes: node1, node2, …
        gpus: Pretended GPUs of each node.
        gpu_type: Their type, as in ``--gres=gpu:t4:1``.
        cpus: Processors of each node; may be more than this machine has.
        memory_mb: Memory of each node, which jobs are kept to.
        accounting: Whether there is a database of jobs, which ``sacct`` asks.
        accounts: Accounts that exist. When given, jobs to any other are refused.
        max_array_size: Largest index of a job array, plus one.
        max_submit_jobs: Most jobs of a user in the queue; needs accounting.
        min_job_age: Seconds until the controller forgets a job that has ended.
        node_folder: Whether jobs get a folder of their own on the node, in ``SLURM_TMPDIR``.
        internet: Whether jobs may use the network; without, they are sent to a proxy that is not there.
        modules: Environment modules to pretend: names, true for those of the guide, false for none at all.
        python: Interpreter that the module ``python`` offers; by default the one that this environment was made from.
        preempt: Whether jobs in the partition ``urgent`` take the place of others.
        arrays: Whether job arrays exist.
        partitions: Names of the partitions, the default one first.
        qos: Qualities of service that exist beside ``normal``; needs accounting.
        features: Features of every node, for ``--constraint``.
        countable: More generic resources of each node, as ``name:count``.
        licenses: Licenses of the cluster, as ``name:count``.
        state: Folder for all files of the cluster; by default a new one under the folder for temporary files.
    """

    nodes: int = 3
    gpus: int = 1
    gpu_type: str = "t4"
    cpus: int = 4
    memory_mb: int = 4096
    accounting: bool = True
    accounts: tuple[str, ...] = ()
    max_array_size: int = 1001
    max_submit_jobs: int | None = None
    min_job_age: int = 300
    node_folder: bool = True
    internet: bool = True
    modules: bool | tuple[str, ...] = True
    python: Path | None = None
    preempt: bool = False
    arrays: bool = True
    partitions: tuple[str, ...] = ("main",)
    qos: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    countable: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    state: Path | None = None

    def __post_init__(self) -> None:
        if self.max_submit_jobs is not None and not self.accounting:
            raise ValueError("max_submit_jobs needs accounting")

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the names of the nodes."""
        return tuple(f"node{number}" for number in range(1, self.nodes + 1))

    @property
    def module_names(self) -> tuple[str, ...]:
        """Return the names of the pretended modules."""
        if isinstance(self.modules, tuple):
            return self.modules
        return GUIDE_MODULES if self.modules else ()

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), default=str), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what ``write`` has written."""
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        paths = {name: Path(values[name]) for name in ("python", "state") if values[name] is not None}
        return cls(**{**values, **lists, **paths})


@dataclass(frozen=True)
class Folders:
    """Where the files of one cluster are, all of them below ``state``."""

    state: Path

    @property
    def etc(self) -> Path:
        """Return the folder of configuration files."""
        return self.state / "etc"

    @property
    def conf(self) -> Path:
        """Return the file that ``SLURM_CONF`` names."""
        return self.etc / "slurm.conf"

    @property
    def shape(self) -> Path:
        """Return the file that says what the cluster is like."""
        return self.state / "shape.json"

    @property
    def run(self) -> Path:
        """Return the folder of sockets and of the files that say which processes there are."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """Return the folder of the daemons' logs."""
        return self.state / "log"

    @property
    def scratch(self) -> Path:
        """Return the folder that holds a local disk for each node."""
        return self.state / "scratch"

    @property
    def bin(self) -> Path:
        """Return the folder of the scripts that Slurm starts around jobs."""
        return self.state / "bin"

    @property
    def munge_socket(self) -> Path:
        """Return the socket of munged."""
        return self.run / "munge.sock"

    @property
    def database_socket(self) -> Path:
        """Return the socket of the database."""
        return self.run / "mysql.sock"

    def make(self, nodes: tuple[str, ...]) -> None:
        """Make all folders."""
        self.state.chmod(0o755)
        for folder in (self.etc, self.run, self.logs, self.bin, self.state / "ctld", self.state / "dev"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        for node in nodes:
            (self.scratch / node).mkdir(parents=True, exist_ok=True)
            (self.state / "spool" / node).mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class Ports:
    """TCP ports of the daemons, all on 127.0.0.1."""

    controller: int
    accounting: int
    nodes: tuple[int, ...]
