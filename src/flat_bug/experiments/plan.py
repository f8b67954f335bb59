"""What an experiment is before it runs: tasks as plain JSON, checked as a whole."""

import graphlib
import re
import unicodedata
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeInt, ValidationError, model_validator

from flat_bug.errors import RunError

TaskId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Names a folder, a scheduler's job and a row of a table, so it needs no quoting anywhere."""
LONGEST_PLAIN_ID = 80
"""Leaves room for a number behind it."""


class Frozen(BaseModel):
    """A frozen value that is written as JSON and read back as it was; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Frozen)


class Resources(Frozen):
    """What a task needs of the machine that it runs on.

    Attributes:
        gpus: GPUs that the task uses when the machine has any.
    """

    gpus: NonNegativeInt = 0


class Stage(Frozen):
    """Parts of an archive that a task reads from a folder of its node; see ``datasets.stage``.

    Attributes:
        archive: The archive, as text of a ``NodePath``.
        only: Its parts: ``insects/images/val``. All of it by default.
        into: The folder to put them in, as text of a ``NodePath``.
    """

    archive: str
    only: tuple[str, ...] = ()
    into: str = "$SLURM_TMPDIR"


class Task(Frozen):
    """One call of a registered function, in a process of its own.

    Attributes:
        id: Unique in the plan.
        call: Name of the function in the registry.
        args: Its arguments. Values are never seen by a shell; text is taken as it is.
        inputs: Names of those arguments that are paths which the result depends on. Their digests go into the record,
            and the task is stale when they change.
        resources: What it needs.
        after: Tasks that must be done before this one starts.
        stage: What is put on the node before the call.
        goes_on: Whether another attempt goes on where one that ran out of time has stopped.
    """

    id: TaskId
    call: str
    args: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    resources: Resources = Resources()
    after: tuple[TaskId, ...] = ()
    stage: tuple[Stage, ...] = ()
    goes_on: bool = False

    @model_validator(mode="after")
    def _inputs_are_paths(self) -> Self:
        for name in self.inputs:
            if not isinstance(self.args.get(name), str):
                raise ValueError(f"input {name!r} is not the name of an argument that holds a path")
        return self

    def input_paths(self) -> dict[str, str]:
        """Return argument name → path, unresolved, of every input."""
        return {name: str(self.args[name]) for name in self.inputs}

    def archives(self) -> dict[str, Stage]:
        """Return name in the record → what is staged: ``archive``, ``archive 2``."""
        return {f"archive {number}" if number > 1 else "archive": stage for number, stage in enumerate(self.stage, 1)}


class Plan(Frozen):
    """All tasks of an experiment and where they come from; written once and never changed.

    Attributes:
        experiment: Name of the experiment: ``compare-models``.
        command: The command line that asked for it.
        created: When, ISO 8601 in UTC.
        versions: Of flat-bug, Python and the parts that results depend on.
        digests: Path → SHA-256 of the inputs that could be read when the plan was made.
        tasks: The tasks; each ``after`` names a task of the same plan, without cycles.
    """

    schema_version: Literal[1] = 1
    experiment: str
    command: tuple[str, ...] = ()
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    versions: dict[str, str] = Field(default_factory=dict)
    digests: dict[str, str] = Field(default_factory=dict)
    tasks: tuple[Task, ...]

    @model_validator(mode="after")
    def _tasks_fit_together(self) -> Self:
        # Folders of a file system that ignores case would collide as well.
        counts = Counter(task.id.casefold() for task in self.tasks)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"task {twice[0]!r} occurs twice")
        known = {task.id for task in self.tasks}
        for task in self.tasks:
            for other in task.after:
                if other not in known:
                    raise ValueError(f"task {task.id!r} comes after {other!r}, which is not in the plan")
        try:
            graphlib.TopologicalSorter({task.id: task.after for task in self.tasks}).prepare()
        except graphlib.CycleError as error:
            raise ValueError(f"tasks wait for each other: {' → '.join(error.args[1])}") from error
        return self


def plain_id(name: str) -> str:
    """Return an id for a task that is like the name of a model."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:LONGEST_PLAIN_ID] or "model"


def read_plan(path: Path) -> Plan:
    """Read ``plan.json``.

    Raises:
        RunError: The file is absent or does not hold a valid plan.
    """
    return _read(Plan, path)


def read_task(path: Path) -> Task:
    """Read ``spec.json``.

    Raises:
        RunError: The file is absent or does not hold a valid task.
    """
    return _read(Task, path)


def _read(kind: type[Kind], path: Path) -> Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read: {error.strerror}", where=path) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(f"not a valid {kind.__name__.lower()}: {place}: {first['msg']}", where=path) from error
