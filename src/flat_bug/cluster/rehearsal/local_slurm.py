"""A real, throw-away Slurm on this machine: its daemons and nodes, on the loopback, in one folder."""

import contextlib
import os
import pwd
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from flat_bug.cluster.rehearsal import accounting, daemons, failures, hosts, keeper
from flat_bug.cluster.rehearsal import slurm_conf as texts
from flat_bug.cluster.rehearsal.around_jobs import bash_env, modulefiles, write_scripts
from flat_bug.cluster.rehearsal.daemons import MARK, NODE, Process, wait_until
from flat_bug.cluster.rehearsal.ending import PREFIX, end_abandoned, end_cluster, usual_parent, write_owner
from flat_bug.cluster.rehearsal.parts import SEARCH, check_parts, find
from flat_bug.cluster.rehearsal.ports import ReservedPorts
from flat_bug.cluster.rehearsal.shape import ClusterShape, Folders, Ports
from flat_bug.errors import MissingPartError, UsageError

LONGEST_STATE = 60
SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 10.0
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
        self._children: list[subprocess.Popen[bytes]] = []
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @classmethod
    def attach(cls, shape: ClusterShape, state: Path) -> Self:
        """Return a cluster that another process has started."""
        cluster = cls(shape)
        cluster._folders = Folders(state)
        return cluster

    @property
    def folders(self) -> Folders:
        """Return where the files of the cluster are."""
        if self._folders is None:
            raise UsageError("the cluster is not started")
        return self._folders

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the names of the nodes."""
        return self.shape.node_names

    @property
    def logs(self) -> Path:
        """Return the folder of logs: slurmctld.log, slurmdbd.log, node1.log, …"""
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
        for child in self._children:
            child.wait()
        self._children.clear()
        if self._ports is not None:
            self._ports.release()
        if self._keeper is not None:
            self._keeper.communicate(keeper.DONE)
        self._keeper = self._ports = None
        if wipe:
            self._folders = None

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
        """Return node → state as ``sinfo`` calls it: idle, mixed, allocated, down, …"""
        pairs = [line.split() for line in self.ask("sinfo", "-h", "-N", "-o", "%N %T", check=False).splitlines()]
        # A star says that the node does not answer, whatever it did when it last did.
        return {name: "down" if state.endswith("*") else state for name, state in pairs}

    def drained(self) -> bool:
        """Return whether no job is in the queue and the database was told of all."""
        return not self.ask("squeue", "-h", "-o", "%i").strip() and self._database_is_told()

    def wait_drained(self, seconds: float = 120.0) -> bool:
        """Return whether ``drained`` comes true within some seconds."""
        return wait_until(self.drained, seconds)

    # ------------------------------------------------------------------ failures

    def crash_node(self, name: str) -> None:
        """Have a node go down as by a power cut: its daemon and all that runs on it, at once."""
        self._check_node(name)
        daemons.kill(lambda: daemons.marked(self.folders.state, name))
        self._reap()

    def start_node(self, name: str, *, wait: bool = True) -> None:
        """Start a node again after a crash and, with ``wait``, return when it serves."""
        self._check_node(name)
        if not self._is_alive(name):
            self._launch(name, ["slurmd", "-D", "-N", name, "-f", str(self.folders.conf)], {NODE: name})
        if wait and not wait_until(lambda: self.node_states().get(name) in SERVING, SECONDS_TO_START):
            raise self._not_started(name)

    def out_of_memory(self, job: str) -> None:
        """End a running job, or task of an array as ``12_3``, as the system does when it is out of memory."""
        failures.out_of_memory(self.raw_job_id(job), self.environment())

    def end_time_now(self, job: str) -> None:
        """Have the time limit of a running job reached within seconds; limits have whole minutes otherwise."""
        self.ask("scontrol", "update", f"JobId={job}", "EndTime=now+1seconds")

    def stop_controller(self) -> None:
        """Stop the controller as an administrator does; jobs go on, and no command is answered."""
        self._stop("slurmctld")

    def start_controller(self) -> None:
        """Start the controller again and return when it answers; it knows its jobs."""
        if not self._is_alive("slurmctld"):
            self._launch("slurmctld", ["slurmctld", "-D", "-f", str(self.folders.conf)])
        if not wait_until(lambda: self.answers("scontrol", "ping"), SECONDS_TO_START):
            raise self._not_started("slurmctld")

    def stop_accounting(self) -> None:
        """Stop the database of jobs: ``sacct`` fails, and the controller keeps what it has to tell."""
        self._stop("slurmdbd")

    def start_accounting(self) -> None:
        """Start the database of jobs and return when it answers."""
        if not self._is_alive("slurmdbd"):
            self._launch("slurmdbd", ["slurmdbd", "-D"], accounting.variables(self.folders))
        if not wait_until(lambda: self.answers("sacctmgr", "-n", "show", "cluster"), SECONDS_TO_START):
            raise self._not_started("slurmdbd")

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
        jobs = self.ask("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.ask("scancel", *sorted(set(jobs)))
        return wait_until(lambda: not self.ask("squeue", "-h", "-o", "%i").strip(), seconds)

    def raw_job_id(self, job: str) -> str:
        """Return the number of its own that a running job has, which a task of an array has, too."""
        found = re.findall(r"^JobId=(\d+)", self.ask("scontrol", "show", "job", job), re.MULTILINE)
        if len(found) != 1:
            raise UsageError("this is not one running job", where=job)
        return str(found[0])

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
            database = self._start_database()
            if not wait_until(lambda: accounting.answers(self.folders), SECONDS_TO_START):
                raise self._not_started(database)
            self.start_accounting()
            for command in accounting.set_up(self.shape, _user()):
                self.ask(*command)
        self.start_controller()
        for name in self.node_names:
            self.start_node(name, wait=False)
        if not wait_until(self._all_serve, SECONDS_TO_START):
            raise self._not_started(self.node_names[0])

    def _start_munge(self) -> None:
        folders = self.folders
        command = ["munged", "--foreground", "--force", f"--key-file={folders.etc}/munge.key", "--num-threads=4"]
        command += [f"--socket={folders.munge_socket}", f"--pid-file={folders.run}/munged.own-pid"]
        command += [f"--log-file={folders.logs}/munged.log", f"--seed-file={folders.run}/munge.seed"]
        if not self._is_alive("munged"):
            self._launch("munged", command)
        if not wait_until(lambda: self.answers("munge", "-S", str(folders.munge_socket), "-n"), SECONDS_TO_START):
            raise self._not_started("munged")

    def _start_database(self) -> str:
        accounting.install_database(self.folders, _user(), self._variables())
        self._launch("mariadbd", accounting.database_command(self.folders, _user()))
        return "mariadbd"

    def _all_serve(self) -> bool:
        states = self.node_states()
        return len(states) == self.shape.nodes and set(states.values()) <= SERVING

    def _database_is_told(self) -> bool:
        return not self.shape.accounting or "DBD Agent queue size: 0\n" in self.ask("sdiag")

    def _variables(self) -> dict[str, str]:
        """Return the environment of a daemon: nothing of the caller's, who may have secrets in theirs."""
        home = pwd.getpwuid(os.getuid()).pw_dir
        mark = {MARK: str(self.folders.state), "SLURM_CONF": str(self.folders.conf)}
        return {"PATH": SEARCH, "HOME": home, "LANG": "C.UTF-8", **mark}

    def _launch(self, name: str, command: list[str], variables: dict[str, str] | None = None) -> None:
        program = find(command[0]) or command[0]
        environment = self._variables() | (variables or {})
        child = daemons.launch([program, *command[1:]], environment, self.logs / f"{name}.out")
        self._children.append(child)
        if process := Process.of(child.pid):
            daemons.note(process, self._pid_file(name))

    def _pid_file(self, name: str) -> Path:
        return self.folders.run / f"{name}.json"

    def _is_alive(self, name: str) -> bool:
        process = daemons.noted(self._pid_file(name))
        return process is not None and process.is_alive()

    def _stop(self, name: str) -> None:
        process = daemons.noted(self._pid_file(name))
        if process is not None:
            process.send(signal.SIGTERM)
            if not process.wait_gone(SECONDS_TO_STOP):
                process.send(signal.SIGKILL)
                process.wait_gone(SECONDS_TO_STOP)
        self._reap()

    def _reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]

    def _check_node(self, name: str) -> None:
        if name not in self.node_names:
            raise UsageError("there is no such node", where=name, mend=f"Nodes: {', '.join(self.node_names)}.")

    def _not_started(self, name: str) -> MissingPartError:
        """Return the error to raise when a daemon is not there; it holds the end of its log, which is removed."""
        lines: list[str] = []
        for suffix in ("out", "log"):
            with contextlib.suppress(OSError):
                lines += (self.logs / f"{name}.{suffix}").read_text("utf-8", errors="replace").splitlines()[-5:]
        return MissingPartError(f"{name} of the throw-away Slurm did not start", where="; ".join(lines))


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _write_secret(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
