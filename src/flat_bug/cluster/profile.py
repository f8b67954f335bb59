"""What one cluster is like: modules, accounts, limits, folders, and the resources that each kind of task asks for."""

import os
import re
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from flat_bug.config import Settings
from flat_bug.errors import ConfigError

DEFAULT = "default"
"""The profile of the user that is taken when none is named; ``fb cluster probe`` writes it."""
FALLBACK = "generic"

_SHELL_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+:@-]*")


def _shell_word(value: str) -> str:
    """Modules and the interpreter are the only values that stand in the script of a job, so they need no quoting."""
    if not _SHELL_WORD.fullmatch(value):
        raise ValueError("only letters, digits and . _ / + : @ - are possible here")
    return value


ShellWord = Annotated[str, AfterValidator(_shell_word)]
Option = str | int | bool
"""Value of an option of sbatch; true for a flag."""


class ClusterProfile(Settings):
    """What one cluster is like, as YAML; see ``docs/cluster.md``."""

    name: str = Field(description="Name of the cluster, for people.")
    description: str = Field("", description="One line about it.")
    modules: tuple[ShellWord, ...] = Field((), description="Environment modules that a job loads first, in this order.")
    purge_modules: bool = Field(False, description="Unload the modules of the login shell before.")
    python: ShellWord = Field("python3", description="The interpreter of a node once the modules are loaded.")
    python_version: str = Field("3.11", pattern=r"^3\.\d+$", description="Its version, which wheels are chosen for.")
    machine: str = Field("x86_64", pattern=r"^[a-z0-9_]+$", description="Processor of the nodes, as uname -m says.")
    glibc: str = Field("2.28", pattern=r"^2\.\d+$", description="C library of the nodes; wheels may ask for no newer.")
    accounts: tuple[str, ...] = Field((), description="Accounts that may be charged; the first one is, by default.")
    account_required: bool = Field(False, description="Whether jobs without an account are refused.")
    partitions: tuple[str, ...] = Field((), description="Partitions that jobs may go to, for fb doctor.")
    partition: str | None = Field(None, description="Partition to ask for; by default the cluster chooses.")
    scratch: str | None = Field(None, description="Folder for large files; may hold $SCRATCH, $PROJECT, $HOME, $USER.")
    node_folders: tuple[ShellWord, ...] = Field(
        ("SLURM_TMPDIR", "TMPDIR"), description="Variables that may name the local folder of a job; the first one set."
    )
    environment: str | None = Field(None, description="Folder that fb env build has made for this cluster.")
    provided_wheels: tuple[str, ...] = Field((), description="Folders of wheels that the cluster provides.")
    resources: dict[str, dict[str, Option]] = Field(
        default_factory=dict, description="Options of sbatch by task: score-model, train-model, finalise, all."
    )
    arrays: bool = Field(True, description="Whether job arrays exist.")
    accounting: bool = Field(True, description="Whether sacct knows what became of jobs.")
    max_array_size: PositiveInt = Field(1001, description="MaxArraySize: the largest index of an array, plus one.")
    max_submit_jobs: PositiveInt | None = Field(None, description="Most jobs of a user in the queue at a time.")
    max_parallel: PositiveInt | None = Field(None, description="Most tasks of a run at a time, by default.")

    def resources_for(self, kind: str) -> dict[str, Option]:
        """Return the options of sbatch that a kind of task asks for by default, those of ``all`` included."""
        return {**self.resources.get("all", {}), **self.resources.get(kind, {})}


def user_profiles() -> Path:
    """Return the folder of the user's own profiles."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "flat-bug"


def shipped_profiles() -> dict[str, Path]:
    """Return name → file of the profiles that come with flat-bug."""
    folder = Path(str(resources.files("flat_bug.cluster") / "profiles"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def all_profiles() -> dict[str, Path]:
    """Return name → file of all profiles; a user's own hides a shipped one of the same name."""
    return shipped_profiles() | {path.stem: path for path in sorted(user_profiles().glob("*.yaml"))}


def load_profile(name: str | None = None) -> ClusterProfile:
    """Return a profile.

    Args:
        name: Its name or the path of its file; by default the user's ``default``, else ``generic``.

    Raises:
        ConfigError: There is no such profile, or it is broken.
    """
    known = all_profiles()
    if name is None:
        return ClusterProfile.from_yaml(known.get(DEFAULT, known[FALLBACK]))
    if name in known:
        return ClusterProfile.from_yaml(known[name])
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return ClusterProfile.from_yaml(Path(name).expanduser())
    raise ConfigError("there is no such profile", where=name, mend=f"Known: {', '.join(sorted(known))}, or a file.")
