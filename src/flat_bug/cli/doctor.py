"""``fb doctor``: whether a run on SLURM would work, and what to do where it would not."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flat_bug.cli._support import print_json
from flat_bug.cli.compare_models import InputOptions, ModelOptions
from flat_bug.cluster.checks.finding import Finding, Level, worst
from flat_bug.cluster.doctor import examine
from flat_bug.cluster.files_of_jobs import settings_of
from flat_bug.cluster.options import SlurmRequest, parse_slurm
from flat_bug.cluster.rehearsal.command import Command
from flat_bug.cluster.submission import SlurmSettings, is_on_slurm, read_settings
from flat_bug.errors import EXIT_MISSING_PART, EXIT_OK, FlatBugError, UsageError
from flat_bug.experiments.compare_models import CompareModels, plan
from flat_bug.experiments.models import DEFAULT
from flat_bug.experiments.plan import Task
from flat_bug.experiments.run_folder import RunFolder, TaskState
from flat_bug.files import printable

COLOURS = {Level.GREEN: "green", Level.YELLOW: "yellow", Level.RED: "bold red"}


def doctor(
    *words: str,
    inputs: InputOptions | None = None,
    models: ModelOptions | None = None,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    slurm: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    profile: str | None = None,
    environment: str | None = None,
    json: bool = False,
) -> int:
    """Look at all that a run on SLURM needs, and say what to do about each red line.

    Alone it looks at the cluster: modules, Python, environment, account, what
    sbatch would say to the jobs, limits, space. With the options of a run, before
    its whole command, or with a run folder, also at weights, data, archive and
    time. Nothing is submitted.

    Example: fb doctor -a fb_yolo.zip -d "runs/*" -o out --slurm mem=32GB time=01:00:00

    Example: fb doctor -- fb run compare-models -a fb_yolo.zip -d "runs/*" -o out --slurm mem=32GB

    Args:
        words: A run folder, or -- and a command that submits to SLURM.
        inputs: What the models would be scored on.
        models: Which models.
        output: Folder of the run.
        slurm: Options of sbatch, and of ours, as after --slurm of a run.
        profile: Name or file of the cluster's profile; by default your own, else generic.
        environment: Folder that fb env build has made.
        json: Print the findings as one JSON object.
    """
    request = parse_slurm([*slurm, *_own("profile", profile), *_own("environment", environment)])
    if words and (inputs or models or output):
        mend = "Write -- before a command, and its options behind."
        raise UsageError("these options belong to no command", where=shlex.join(words), mend=mend)
    if words:
        findings = examine(*_asked(words, request))
    else:
        tasks, wrong = _tasks(inputs, models, output)
        findings = [*wrong, *examine(settings_of(request), tasks, output)]
    if json:
        rows = [
            {"name": found.name, "level": str(found.level), "found": found.found, "mend": found.mend}
            for found in findings
        ]
        print_json({"worst": str(worst(findings)), "findings": rows})
    else:
        _show(findings)
    return EXIT_MISSING_PART if worst(findings) is Level.RED else EXIT_OK


def _tasks(
    inputs: InputOptions | None, models: ModelOptions | None, output: Path | None
) -> tuple[tuple[Task, ...], list[Finding]]:
    """Return the tasks that the options of a run make, or what is wrong with these."""
    if inputs is None and models is None:
        return (), []
    inputs, models = inputs or InputOptions(), models or ModelOptions(weights=(DEFAULT,))
    options = CompareModels(
        input=inputs.input,
        ground_truth=inputs.ground_truth,
        archive=inputs.archive,
        directories=models.directory,
        weights=models.weights,
        # What is wrong with a path is a line of its own.
        soft=True,
        input_pattern=inputs.input_pattern,
        weight_pattern=models.weight_pattern,
        all_weights=models.all_weights,
        trust_weights=models.trust_weights,
    )
    try:
        made, _ = plan(options, output or Path("run"))
    except FlatBugError as error:
        return (), [Finding("options", Level.RED, error.brief(), error.mend or "Correct the options.")]
    return made.tasks, []


def _own(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{name}={value}"]


def _asked(words: Sequence[str], request: SlurmRequest) -> tuple[SlurmSettings, tuple[Task, ...], Path | None]:
    """Return how it is submitted, the tasks, and the run folder."""
    if len(words) == 1:
        return _of_run(Path(words[0]), request)
    if request != SlurmRequest():
        raise UsageError("the command has its own options of SLURM", where="--slurm", mend="Change them there.")
    output = _output_of(words)
    # `fb` itself may be left out, as in the list of commands.
    asked = Command(("fb", *words) if words[0] == "run" else tuple(words)).ask(output)
    return _with_account(asked.settings), asked.plan.tasks, output


def _with_account(settings: SlurmSettings) -> SlurmSettings:
    """Return settings with the account of this shell, without whose variables the command was asked."""
    account = None if settings.profile.accounts else settings.profile.default_account()
    options = {**({"account": account} if account else {}), **settings.options}
    return settings.model_copy(update={"options": options})


def _of_run(path: Path, request: SlurmRequest) -> tuple[SlurmSettings, tuple[Task, ...], Path]:
    run = RunFolder.open(path)
    open_tasks = tuple(status.task for status in run.statuses() if status.state is not TaskState.DONE)
    if not is_on_slurm(run) or request.profile or request.environment or request.setup:
        return settings_of(request), open_tasks, path
    before = read_settings(run)
    options = request.over(before.options)
    without = tuple({*before.without, *request.without} - options.keys())
    return before.model_copy(update={"options": options, "without": without}), open_tasks, path


def _output_of(words: Sequence[str]) -> Path:
    for place, word in enumerate(words):
        if word in {"-o", "--output"} and place + 1 < len(words):
            return Path(words[place + 1])
        if word.startswith("--output="):
            return Path(word.partition("=")[2])
        if word.startswith("-o"):
            return Path(word[2:].removeprefix("="))
    raise UsageError("the command names no run folder", where=shlex.join(words), mend="Add -o FOLDER, as for the run.")


def _show(findings: Sequence[Finding]) -> None:
    if sys.stdout.isatty():
        _show_on_terminal(findings)
    else:
        _show_in_log(findings)
    counts = [(level, sum(found.level is level for found in findings)) for level in reversed(Level)]
    print(", ".join(f"{count} {level}" for level, count in counts if count))


def _show_on_terminal(findings: Sequence[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415 - rich takes a tenth of a second to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for found in findings:
        text = Text(_plain(found.found))
        if found.mend:
            text.append(f"\n→ {_plain(found.mend)}", style=COLOURS[found.level])
        table.add_row(Text(found.level, style=COLOURS[found.level]), Text(found.name, style="bold"), text)
    Console().print(table)


def _show_in_log(findings: Sequence[Finding]) -> None:
    width = max(len(found.name) for found in findings)
    for found in findings:
        print(f"{found.level:6}  {found.name:{width}}  {_plain(found.found)}")
        if found.mend:
            print(f"{'':6}  {'':{width}}  → {_plain(found.mend)}")


def _plain(text: str) -> str:
    """Return a text in which nothing acts on a terminal."""
    return printable("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text))
