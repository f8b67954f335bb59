"""The database behind ``sacct``: MariaDB on a socket, and the accounts in it."""

import socket
import subprocess
from collections.abc import Iterator, Mapping

from flat_bug.cluster.rehearsal.parts import find
from flat_bug.cluster.rehearsal.shape import ClusterShape, Folders
from flat_bug.cluster.rehearsal.slurm_conf import CLUSTER
from flat_bug.errors import MissingPartError

# Nobody wants it back after a power cut, so it never waits for the disk.
FAST = (
    "--debug-no-sync",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-log-file-size=8M",
    "--skip-name-resolve",
)


def variables(folders: Folders) -> dict[str, str]:
    """Return the variable by which slurmdbd finds the socket of the database."""
    return {"MYSQL_UNIX_PORT": str(folders.database_socket)}


def install_database(folders: Folders, user: str, environment: Mapping[str, str]) -> None:
    """Make an empty database that only ``user``, the one of this process, may use, and only on this machine.

    Raises:
        MissingPartError: It cannot be made.
    """
    command = [find("mariadb-install-db") or "mariadb-install-db", "--no-defaults", f"--datadir={folders.state}/db"]
    command += [f"--user={user}", "--auth-root-authentication-method=socket", f"--auth-root-socket-user={user}"]
    command += ["--skip-test-db", *FAST]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()[-5:]
        raise MissingPartError("the database of the throw-away Slurm cannot be made", where="; ".join(lines))


def database_command(folders: Folders, user: str) -> list[str]:
    """Return the command that runs the database: on a socket only, with little memory."""
    return [
        "mariadbd",
        "--no-defaults",
        f"--user={user}",
        f"--datadir={folders.state}/db",
        f"--tmpdir={folders.run}",
        f"--socket={folders.database_socket}",
        f"--pid-file={folders.run}/mariadbd.own-pid",
        "--skip-networking",
        "--skip-log-bin",
        "--performance-schema=off",
        "--innodb-buffer-pool-size=64M",
        "--innodb-lock-wait-timeout=900",
        *FAST,
    ]


def answers(folders: Folders) -> bool:
    """Return whether the database takes connections: it is the one that speaks first."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(folders.database_socket))
            return bool(connection.recv(1))
        except OSError:
            return False


def set_up(shape: ClusterShape, user: str) -> Iterator[list[str]]:
    """Yield the commands that make the cluster known to the database, and its accounts."""
    add, modify = ["sacctmgr", "-i", "add"], ["sacctmgr", "-i", "modify"]
    yield [*add, "cluster", CLUSTER]
    accounts = shape.accounts or (("root",) if user == "root" else (user,))
    if accounts != ("root",):
        yield [*add, "account", ",".join(accounts), f"cluster={CLUSTER}"]
        yield [*add, "user", user, f"account={','.join(accounts)}", f"cluster={CLUSTER}"]
        # Somebody with a single account need not name it.
        yield [*modify, "user", user, "set", f"defaultaccount={accounts[0]}"]
    if shape.qos:
        yield [*add, "qos", ",".join(shape.qos)]
        yield [*modify, "user", user, "set", f"qos+={','.join(shape.qos)}"]
    if shape.max_submit_jobs is not None:
        yield [*modify, "user", user, "set", f"maxsubmitjobs={shape.max_submit_jobs}"]
