"""A real, throw-away Slurm on this machine: its daemons and nodes, on the loopback, in one folder."""

import os
import pwd
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from flat_bug.cluster.rehearsal import accounting, hosts, keeper
from flat_bug.cluster.rehearsal import slurm_conf as texts
from flat_bug.cluster.rehearsal.around_jobs import bash_env, modulefiles, write_scripts
from flat_bug.cluster.rehearsal.daemon_set import DaemonSet
from flat_bug.cluster.rehearsal.daemons import NODE, Process, kill, marked, wait_until
from flat_bug.cluster.rehearsal.ending import PREFIX, end_abandoned, end_cluster, is_in_use, usual_parent, write_owner
from flat_bug.cluster.rehearsal.out_of_memory import end_out_of_memory
from flat_bug.cluster.rehearsal.parts import check_parts, find
from flat_bug.cluster.rehearsal.ports import ReservedPorts
from flat_bug.cluster.rehearsal.shape import ClusterShape, Folders, Ports
from flat_bug.errors import UsageError

LONGEST_STATE = 60
SERVING = {"idle", "mixed", "allocated", "completing"}


class LocalSlurm:
    """A throw-away Slurm; as a context manager it starts with the block and ends with it.

    Everything is on 127.0.0.1 and in one folder, so several can run at once. When this process ends without ``stop``,
    even by ``kill -9``, a keeper ends the cluster; where the keeper was killed too, the next cluster does.

    Attributes:
        shape: What the cluster is like.
        folders: Where its files are, once it is started.
    """

    def __init__(self, shape: ClusterShape | None = None) -> None:
        self.shape = shape or ClusterShape()
        self._folders: Folders | None = None
        self._ports: ReservedPorts | None = None
        self._daemons: DaemonSet | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @classmethod
    def attach(cls, state: Path) -> Self:
        """Return a cluster that another process has started, and kept.

        Raises:
            UsageError: There is none.
        """
        folders = Folders(state)
        if not folders.shape.is_file():
            raise UsageError("there is no throw-away Slurm", where=state, mend="Start it first.")
        cluster = cls(ClusterShape.read(folders.shape))
        cluster._folders = folders
        cluster._daemons = DaemonSet(cluster._folders)
        return cluster

    @property
    def folders(self) -> Folders:
        """Return where the files of the cluster are."""
        if self._folders is None:
            raise UsageError("the cluster is not started")
        return self._folders

    @property
    def daemons(self) -> DaemonSet:
        """Return the daemons of the cluster."""
        if self._daemons is None:
            raise UsageError("the cluster is not started")
        return self._daemons

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the names of the nodes."""
        return self.shape.node_names

    @property
    def logs(self) -> Path:
        """Return the folder of logs: slurmctld.log, slurmdbd.log and one for each node."""
        return self.folders.logs

    def node_disk(self, node: str) -> Path:
        """Return the folder that stands for the local disk of a node; the folders of jobs are in it."""
        return self.folders.scratch / node

    # ------------------------------------------------------------------ start and stop

    def start(self, *, keep: bool = False) -> None:
        """Start the cluster and return when all nodes serve.

        Args:
            keep: Leave it running when this process ends; ``end_cluster`` stops it.

        Raises:
            MissingPartError: Packages are missing, or a daemon did not start.
        """
        check_parts(self.shape)
        end_abandoned(usual_parent())
        state = self._make_state()
        self._folders = Folders(state)
        self._daemons = DaemonSet(self._folders)
        write_owner(state, None if keep else Process.of(os.getpid()))
        try:
            if not keep:
                self._start_keeper()
            self._configure()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def stop(self, *, wipe: bool = True) -> None:
        """End everything that belongs to the cluster, jobs and their stray processes included.

        Args:
            wipe: Also remove its folder, with all logs.
        """
        if self._folders is None:
            return
        # Nothing of a cluster that is thrown away is worth a polite end, which takes many seconds.
        end_cluster(self.folders.state, wipe=wipe)
        self.daemons.wait()
        if self._ports is not None:
            self._ports.release()
        if self._keeper is not None:
            self._keeper.communicate(keeper.DONE)
        self._keeper = self._ports = None
        if wipe:
            self._folders = self._daemons = None

    def environment(self) -> dict[str, str]:
        """Return the variables with which Slurm's commands, and ours, find the cluster."""
        found = {"SLURM_CONF": str(self.folders.conf)}
        if self.shape.module_names:
            found |= {"BASH_ENV": str(bash_env(self.folders)), "MODULEPATH": str(modulefiles(self.folders))}
        return found

    # ------------------------------------------------------------------ asking and telling

    def ask(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands on the cluster and return what it prints.

        Raises:
            UsageError: It failed.
        """
        done = subprocess.run(
            [find(command[0]) or command[0], *command[1:]],
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise UsageError(f"{command[0]} failed: {done.stderr.strip()}", where=" ".join(command))
        return done.stdout

    def answers(self, *command: str) -> bool:
        """Return whether one of Slurm's commands succeeds."""
        try:
            self.ask(*command)
        except UsageError:
            return False
        return True

    def node_states(self) -> dict[str, str]:
        """Return node → state as ``sinfo`` calls it: idle, mixed, allocated, down; with a star while it is silent."""
        pairs = [line.split() for line in self.ask("sinfo", "-h", "-N", "-o", "%N %T", check=False).splitlines()]
        return {name: "down" if state == "down*" else state for name, state in pairs}

    def drained(self) -> bool:
        """Return whether no job is in the queue, and the database knows how each of them ended."""
        return not self.ask("squeue", "-h", "-o", "%i").strip() and self._database_knows_all()

    def wait_drained(self, seconds: float = 120.0) -> bool:
        """Return whether ``drained`` comes true within some seconds."""
        return wait_until(self.drained, seconds)

    # ------------------------------------------------------------------ failures

    def crash_node(self, name: str) -> None:
        """Have a node go down as by a power cut: its daemon and all that runs on it, at once."""
        self._check_node(name)
        kill(lambda: marked(self.folders.state, name))
        self.daemons.reap()

    def start_node(self, name: str, *, wait: bool = True) -> None:
        """Start a node again after a crash and, with ``wait``, return when it serves."""
        self._check_node(name)
        self.daemons.start(name, ["slurmd", "-D", "-N", name, "-f", str(self.folders.conf)], {NODE: name})
        if wait:
            self.daemons.wait_for(name, lambda: self.node_states().get(name) in SERVING)

    def out_of_memory(self, job: str) -> None:
        """End a running job, or task of an array as ``12_3``, as the system does when it is out of memory."""
        end_out_of_memory(self.raw_job_id(job), self.environment())

    def end_time_now(self, job: str) -> None:
        """Have the time limit of a running job reached within seconds; limits have whole minutes otherwise."""
        self.end_time_in(job, 1)

    def end_time_in(self, job: str, seconds: int) -> None:
        """Move the time limit of a running job, which it keeps if it is queued again.

        The controller looks at the clock every half a minute.
        """
        self.ask("scontrol", "update", f"JobId={job}", f"EndTime=now+{seconds}seconds")

    def stop_controller(self) -> None:
        """Stop the controller as an administrator does; jobs go on, and no command is answered."""
        self.daemons.stop("slurmctld")

    def start_controller(self) -> None:
        """Start the controller again and return when it answers; it knows its jobs."""
        self.daemons.start("slurmctld", ["slurmctld", "-D", "-f", str(self.folders.conf)])
        self.daemons.wait_for("slurmctld", lambda: self.answers("scontrol", "ping"))

    def stop_accounting(self) -> None:
        """Stop the database of jobs: ``sacct`` fails, and the controller keeps what it has to tell."""
        self.daemons.stop("slurmdbd")

    def start_accounting(self) -> None:
        """Start the database of jobs and return when it answers."""
        self.daemons.start("slurmdbd", ["slurmdbd", "-D"], accounting.variables(self.folders))
        self.daemons.wait_for("slurmdbd", lambda: self.answers("sacctmgr", "-n", "show", "cluster"))

    def repair(self) -> None:
        """Start whatever is down, and put every node into service again."""
        self._start_munge()
        if self.shape.accounting:
            self.start_accounting()
        self.start_controller()
        for name in self.node_names:
            self.start_node(name)

    def cancel_all(self, seconds: float = 30.0) -> bool:
        """Cancel all jobs and return whether the queue is empty within some seconds."""
        jobs = self.ask("squeue", "-h", "-o", "%F").split()  # scancel takes no number of a task of an array
        if jobs:
            self.ask("scancel", *sorted(set(jobs)))
        return wait_until(lambda: not self.ask("squeue", "-h", "-o", "%i").strip(), seconds)

    def raw_job_id(self, job: str) -> str:
        """Return the number of its own that a running job has, which a task of an array has, too."""
        found = self.ask("squeue", "-h", "-j", job, "-t", "running", "-o", "%A", check=False).split()
        if len(found) != 1:
            raise UsageError("this is not one running job", where=job)
        return found[0]

    # ------------------------------------------------------------------ within

    def _make_state(self) -> Path:
        if self.shape.state is None:
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=usual_parent()))
        state = self.shape.state.absolute()
        if not re.fullmatch(r"[A-Za-z0-9/._-]+", str(state)) or len(str(state)) > LONGEST_STATE:
            raise UsageError(
                f"the folder of a cluster may have letters, digits and / . _ - only, and {LONGEST_STATE} of them",
                where=state,
            )
        if is_in_use(state):
            raise UsageError("a throw-away Slurm runs there already", where=state, mend="Stop it first.")
        end_cluster(state)
        try:
            state.mkdir(parents=True)
        except OSError as error:
            raise UsageError(f"the folder of a cluster cannot be made: {error.strerror}", where=state) from error
        return state

    def _start_keeper(self) -> None:
        command = [sys.executable, "-m", keeper.__name__, str(self.folders.state)]
        self._keeper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _configure(self) -> None:
        shape, folders, user = self.shape, self.folders, _user()
        folders.make(shape.node_names)
        shape.write(folders.shape)
        hosts.have_addresses()
        hosts.lead_to_loopback(folders.state)
        host = hosts.short_name()
        self._ports = ReservedPorts(2 + shape.nodes)
        controller, database, *nodes = self._ports.numbers
        ports = Ports(controller, database, tuple(nodes))
        folders.conf.write_text(texts.slurm_conf(shape, folders, ports, host, user), encoding="utf-8")
        (folders.etc / "gres.conf").write_text(texts.gres_conf(shape, folders), encoding="utf-8")
        (folders.etc / "cgroup.conf").write_text(texts.cgroup_conf(), encoding="utf-8")
        _write_secret(folders.etc / "munge.key", secrets.token_bytes(1024))
        if shape.accounting:
            text = texts.slurmdbd_conf(folders, ports, host, user)
            _write_secret(folders.etc / "slurmdbd.conf", text.encode())
        for number in range(shape.gpus):
            (folders.state / "dev" / f"gpu{number}").symlink_to("/dev/null")
        write_scripts(shape, folders)

    def _start_daemons(self) -> None:
        self._start_munge()
        if self.shape.accounting:
            self._start_database()
            self.start_accounting()
            for command in accounting.set_up(self.shape, _user()):
                self.ask(*command)
        self.start_controller()
        for name in self.node_names:
            self.start_node(name, wait=False)
        self.daemons.wait_for(self.node_names[0], self._all_serve)

    def _start_munge(self) -> None:
        folders = self.folders
        command = ["munged", "--foreground", "--force", f"--key-file={folders.etc}/munge.key", "--num-threads=4"]
        command += [f"--socket={folders.munge_socket}", f"--pid-file={folders.run}/munged.own-pid"]
        command += [f"--log-file={folders.logs}/munged.log", f"--seed-file={folders.run}/munge.seed"]
        self.daemons.start("munged", command)
        self.daemons.wait_for("munged", lambda: self.answers("munge", "-S", str(folders.munge_socket), "-n"))

    def _start_database(self) -> None:
        accounting.install_database(self.folders, _user(), self.daemons.variables())
        self.daemons.start("mariadbd", accounting.database_command(self.folders, _user()))
        self.daemons.wait_for("mariadbd", lambda: accounting.answers(self.folders))

    def _all_serve(self) -> bool:
        states = self.node_states()
        return len(states) == self.shape.nodes and set(states.values()) <= SERVING

    def _database_knows_all(self) -> bool:
        """Return whether sacct knows the end of every job that squeue remembers, which takes up to five seconds."""
        if not self.shape.accounting:
            return True
        pairs = [line.split() for line in self.ask("squeue", "-h", "-r", "-t", "all", "-o", "%i %T").splitlines()]
        # Tasks of an array that are cancelled before they start are never told of.
        jobs = [job for job, state in pairs if state != "CANCELLED"]
        rows = self.ask("sacct", "-n", "-X", "-P", "-o", "JobID,End", "-j", ",".join(jobs)).splitlines() if jobs else []
        known = {job for job, _, end in (row.partition("|") for row in rows) if end != "Unknown"}
        return known >= set(jobs)

    def _check_node(self, name: str) -> None:
        if name not in self.node_names:
            raise UsageError("there is no such node", where=name, mend=f"Nodes: {', '.join(self.node_names)}.")


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _write_secret(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
