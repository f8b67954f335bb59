"""The parts of Slurm that a throw-away cluster needs, and the packages of Debian that bring them."""

import os
import shutil
from pathlib import Path

from flat_bug.cluster.rehearsal.around_jobs import LMOD
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.errors import MissingPartError

SEARCH = os.pathsep.join(("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))
"""Where daemons are looked for: an ordinary user's PATH lacks the folders of some."""

ALWAYS = {
    "munged": "munge",
    "munge": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "scontrol": "slurm-client",
    "sinfo": "slurm-client",
}
WITH_ACCOUNTING = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
}
BASIC_PLUGIN = ("select_cons_tres.so", "slurm-wlm-basic-plugins")
DATABASE_PLUGIN = ("accounting_storage_mysql.so", "slurm-wlm-mysql-plugin")


def check_parts(shape: ClusterShape) -> None:
    """Check that every part which a cluster needs is installed.

    Raises:
        MissingPartError: Some are not; it names the packages, and the command that installs them.
    """
    packages = missing_packages(shape)
    if packages:
        raise MissingPartError(
            "a throw-away Slurm needs packages that are not installed",
            where=", ".join(packages),
            mend=f"On Debian or Ubuntu: apt-get install --no-install-recommends {' '.join(packages)}",
        )


def missing_packages(shape: ClusterShape) -> list[str]:
    """Return the packages of Debian that a cluster lacks here."""
    programs = ALWAYS | (WITH_ACCOUNTING if shape.accounting else {})
    missing = [package for program, package in programs.items() if find(program) is None]
    for plugin, package in (BASIC_PLUGIN, *([DATABASE_PLUGIN] if shape.accounting else [])):
        if find_library(plugin) is None:
            missing.append(package)
    if shape.module_names and not LMOD.is_file():
        missing.append("lmod")
    return sorted(set(missing))


def find(program: str) -> str | None:
    """Return the path of a program, or nothing."""
    return shutil.which(program, path=SEARCH) or shutil.which(program)


def find_library(name: str) -> Path | None:
    """Return the path of a library or plugin of Slurm, or nothing."""
    folders = [
        *Path("/usr/lib").glob("*/slurm-wlm"),
        *Path("/usr/lib").glob("*/slurm"),
        *Path("/usr/lib64").glob("slurm"),
    ]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
