"""What one cluster is like: modules, accounts, limits, folders, and the resources that each kind of task asks for."""

import difflib
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, Field, PositiveInt, field_validator

from flat_bug.cluster.option_values import Value, check_text
from flat_bug.cluster.options import SlurmRequest, parse_defaults
from flat_bug.config import Settings
from flat_bug.errors import ConfigError, FlatBugError
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.registry import CALLS

DEFAULT = "default"
"""The profile of the user that is taken when none is named; ``fb cluster probe`` writes it."""
FALLBACK = "generic"
SUFFIXES = (".yaml", ".yml")
KINDS = (*CALLS, "finalise")
"""Kinds of tasks that resources are given for; ``all`` stands for every one of them."""
SAME_WORK = {"predict-images": "score-model"}
"""Kind of task → the one whose resources it gets where a profile gives it none of its own."""
ACCOUNT_VARIABLES = ("SBATCH_ACCOUNT", "SLURM_ACCOUNT")
"""Where people keep the account that they always use."""

SHELL_WORD = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9._/+:@-]*")
"""What needs no quoting in a script."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _shell_word(value: str) -> str:
    """Modules and the interpreter are the only values that stand in the script of a job, so they need no quoting."""
    if not SHELL_WORD.fullmatch(value):
        raise ValueError("only letters, digits and . _ / + : @ - are possible here")
    return value


def _variable(value: str) -> str:
    """Names of variables stand in that script, too."""
    if not _VARIABLE.fullmatch(value):
        raise ValueError("this is not the name of a variable; write it without the $")
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("only one line of printable text is possible here")
    return value


def _header_text(value: str) -> str:
    """Values that stand in the header of a job."""
    try:
        check_text("value", value)
    except FlatBugError as error:
        raise ValueError(error.what) from error
    return value


def _folder(value: str) -> str:
    try:
        NodePath(_line(value)).check_not_emptied()
    except FlatBugError as error:
        raise ValueError(error.what) from error
    return value


ShellWord = Annotated[str, AfterValidator(_shell_word)]
Variable = Annotated[str, AfterValidator(_variable)]
Line = Annotated[str, AfterValidator(_line)]
HeaderText = Annotated[str, AfterValidator(_header_text)]
Folder = Annotated[str, AfterValidator(_folder)]


class _TextLoader(yaml.SafeLoader):
    """Leaves numbers as they are written: YAML takes 01:00:00 for 3600, and 3.10 for 3.1."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] in {"null", "bool", "merge"}]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class ClusterProfile(Settings):
    """What one cluster is like, as YAML; see ``docs/cluster.md``."""

    name: Line = Field(description="Name of the cluster, for people.")
    description: Line = Field("", description="One line about it.")
    modules: tuple[ShellWord, ...] = Field((), description="Environment modules that a job loads first, in this order.")
    purge_modules: bool = Field(False, description="Unload the modules of the login shell before.")
    python: ShellWord = Field("python3", description="The interpreter of a node once the modules are loaded.")
    python_version: str = Field("3.11", pattern=r"^3\.\d+$", description="Its version, which wheels are chosen for.")
    machine: str = Field("x86_64", pattern=r"^[a-z0-9_]+$", description="Processor of the nodes, as uname -m says.")
    glibc: str = Field("2.28", pattern=r"^2\.\d+$", description="C library of the nodes; wheels may ask for no newer.")
    accounts: tuple[HeaderText, ...] = Field((), description="Accounts that may be charged; the first is, by default.")
    account_required: bool = Field(False, description="Whether jobs without an account are refused.")
    partitions: tuple[HeaderText, ...] = Field((), description="Partitions that jobs may go to, for fb doctor.")
    partition: HeaderText | None = Field(None, description="Partition to ask for; by default the cluster chooses.")
    scratch: Folder | None = Field(
        None, description="Folder for large files; may hold $SCRATCH, $PROJECT, $HOME, $USER."
    )
    node_folders: tuple[Variable, ...] = Field(
        ("SLURM_TMPDIR", "TMPDIR"), description="Variables that may name the local folder of a job; the first one set."
    )
    environment: Line | None = Field(None, description="Folder that fb env build has made for this cluster.")
    provided_wheels: tuple[Line, ...] = Field((), description="Folders of wheels that the cluster provides.")
    resources: dict[str, dict[str, Value]] = Field(
        default_factory=dict,
        description="Options of sbatch by task: score-model, train-model, predict-images, finalise, all.",
    )
    arrays: bool = Field(True, description="Whether job arrays exist.")
    accounting: bool = Field(True, description="Whether sacct knows what became of jobs.")
    max_array_size: PositiveInt = Field(1001, description="MaxArraySize: the largest index of an array, plus one.")
    max_submit_jobs: PositiveInt | None = Field(None, description="Most jobs of a user in the queue at a time.")
    max_parallel: PositiveInt | None = Field(None, description="Most tasks of a run at a time, by default.")

    @field_validator("resources", mode="before")
    @classmethod
    def _are_options_of_sbatch(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        try:
            return {kind: _checked_resources(str(kind), options) for kind, options in value.items()}
        except ConfigError as error:
            raise ValueError(error.brief()) from error

    @classmethod
    def read_yaml(cls, text: str) -> Any:
        """Return what YAML holds, with times and versions as they are written."""
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506 - a SafeLoader that knows fewer types

    @classmethod
    def from_mapping(cls, values: dict[str, Any], *, where: str | Path = "") -> Self:
        """Check a mapping of setting names to values.

        Raises:
            ConfigError: A key is unknown or a value impossible; the message names the nearest valid one.
        """
        kinds = values.get("resources")
        for kind, options in kinds.items() if isinstance(kinds, dict) else ():
            try:
                _checked_resources(str(kind), options)
            except ConfigError as error:
                # Otherwise all resources would be repeated, instead of what to do about the one that is wrong.
                raise ConfigError(error.what, where=f"{where}, {error.where}", mend=error.mend) from error
        return super().from_mapping(values, where=where)

    def resources_for(self, kind: str) -> dict[str, Value]:
        """Return the options of sbatch that a kind of task asks for by default, those of ``all`` included."""
        own = kind if kind in self.resources else SAME_WORK.get(kind, kind)
        return SlurmRequest(self.resources.get(own, {})).over(self.resources.get("all", {}))

    def default_account(self, environment: Mapping[str, str] | None = None) -> str | None:
        """Return the account to charge unless the user names one: the first one, or that of ``SBATCH_ACCOUNT``."""
        if self.accounts:
            return self.accounts[0]
        values = os.environ if environment is None else environment
        found = (values.get(name) for name in ACCOUNT_VARIABLES)
        return next((value for value in found if value and value.isprintable()), None)

    def module_commands(self) -> list[str]:
        """Return the lines of shell that load the modules; their words need no quoting."""
        # Not --force: modules that stick, such as StdEnv of the Alliance, lead to all others.
        purge = ["module purge"] if self.purge_modules else []
        return [*purge, f"module load {' '.join(self.modules)}"] if self.modules else []


def _checked_resources(kind: str, options: Any) -> Any:
    if kind not in {*KINDS, "all"}:
        nearest = difflib.get_close_matches(kind, [*KINDS, "all"], n=1, cutoff=0)
        raise ConfigError("there is no such kind of task", where=kind, mend=f"Did you mean {nearest[0]}?")
    if not isinstance(options, dict):
        return options
    try:
        return parse_defaults({str(name): value for name, value in options.items()})
    except FlatBugError as error:
        raise ConfigError(error.what, where=f"resources of {kind}: {error.where}", mend=error.mend) from error


def user_profiles() -> Path:
    """Return the folder of the user's own profiles."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "flat-bug"


def shipped_profiles() -> dict[str, Path]:
    """Return name → file of the profiles that come with flat-bug."""
    return _in_folder(Path(str(resources.files("flat_bug.cluster") / "profiles")))


def all_profiles() -> dict[str, Path]:
    """Return name → file of all profiles; a user's own hides a shipped one of the same name."""
    return shipped_profiles() | _in_folder(user_profiles())


def profile_file(name: str | None = None) -> Path:
    """Return the file of a profile.

    Args:
        name: Its name or the path of its file; by default the user's ``default``, else ``generic``.

    Raises:
        ConfigError: There is no such profile.
    """
    known = all_profiles()
    if name is None:
        return known.get(DEFAULT, known[FALLBACK])
    if name in known:
        return known[name]
    if name.endswith(SUFFIXES) or "/" in name:
        return Path.home() / name[2:] if name.startswith("~/") else Path(name)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Known: {', '.join(sorted(known))}, or give a file."
    raise ConfigError("there is no such profile", where=name if name.isprintable() else repr(name), mend=hint)


def load_profile(name: str | None = None) -> ClusterProfile:
    """Return a profile.

    Args:
        name: Its name or the path of its file; by default the user's ``default``, else ``generic``.

    Raises:
        ConfigError: There is no such profile, or it is broken.
    """
    return ClusterProfile.from_yaml(profile_file(name))


def _in_folder(folder: Path) -> dict[str, Path]:
    return {path.stem: path for suffix in reversed(SUFFIXES) for path in sorted(folder.glob(f"*{suffix}"))}
