"""The command that is rehearsed: what it asks for, and the same command with its output elsewhere."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flat_bug.cluster.files_of_jobs import begin, settings_of
from flat_bug.cluster.options import SlurmRequest
from flat_bug.cluster.scheduler import clean_environment
from flat_bug.cluster.slurm import SlurmSubmitter
from flat_bug.cluster.submission import SETUP, SlurmSettings, is_on_slurm, read_settings, slurm_folder
from flat_bug.errors import EXIT_MISSING_PART, FlatBugError, MissingPartError, UsageError
from flat_bug.experiments.plan import Plan
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.experiments.submitter import resume

OUTPUT = ("--output", "-o")


@dataclass(frozen=True)
class Asked:
    """What is rehearsed.

    Attributes:
        plan: Its tasks.
        settings: How they are submitted.
        setup: The user's own script of the job, as text.
    """

    plan: Plan
    settings: SlurmSettings
    setup: str = ""


@dataclass(frozen=True)
class Command:
    """A command as its user would type it, with ``--slurm``.

    Attributes:
        words: Its words.
    """

    words: tuple[str, ...]

    def ask(self, output: Path) -> Asked:
        """Return what it asks for, by ``--dry-run``.

        Args:
            output: Where its run would be made; nothing is.

        Raises:
            UsageError: It is not right, or submits nothing to SLURM.
            MissingPartError: It misses something around it.
        """
        if not any(word.partition("=")[0] == "--slurm" for word in self.words):
            raise UsageError(
                "the command submits nothing to SLURM",
                where=shlex.join(self.words),
                mend="Add --slurm and the options of sbatch, as you would on the cluster.",
            )
        words = [*self.with_output(output), "--dry-run", "--json"]
        done = subprocess.run(words, env=clean_environment(), capture_output=True, check=False, text=True)
        if done.returncode != 0:
            # What it warns of otherwise, it says again when it is submitted.
            sys.stderr.write(done.stderr)
            raise _failed(done.returncode, self.words)
        try:
            said = json.loads(done.stdout)
            settings = SlurmSettings.model_validate(said["settings"])
            return Asked(Plan.model_validate(said["plan"]), settings, said.get("setup", ""))
        except (ValueError, KeyError) as error:
            raise UsageError(
                "this is no command that submits a run", where=shlex.join(self.words), mend="Give fb run … --slurm …"
            ) from error

    def submit(self, output: Path, environment: Mapping[str, str]) -> None:
        """Run it, as it is but for its output; what it advises on standard output is not for a run that passes.

        Raises:
            UsageError: It fails.
            MissingPartError: It misses something around it.
        """
        words = [*self.with_output(output), "--json"]
        done = subprocess.run(words, env=dict(environment), stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise _failed(done.returncode, self.words)

    def with_output(self, output: Path) -> list[str]:
        """Return its words with another output folder, and without what only concerns how it prints."""
        kept: list[str] = []
        words = iter([*_program(self.words[0]), *self.words[1:]])
        for word in words:
            if word in OUTPUT:
                next(words, None)
            elif not word.startswith(("--output=", "-o")) and word not in {"--json", "--dry-run"}:
                kept.append(word)
        return [*kept, f"--output={output}"]


@dataclass(frozen=True)
class ExistingRun:
    """A run folder, whose plan is carried out once more from the beginning.

    Attributes:
        path: The run folder.
    """

    path: Path

    def ask(self, output: Path) -> Asked:
        """Return what the run asks for; one that did not go to SLURM is given the default profile.

        Raises:
            RunError: It is no run.
        """
        run = RunFolder.open(self.path)
        if not is_on_slurm(run):
            return Asked(run.plan, settings_of(SlurmRequest()))
        settings = read_settings(run)
        return Asked(run.plan, settings, self._setup(run).read_text(encoding="utf-8") if settings.has_setup else "")

    def submit(self, output: Path, environment: Mapping[str, str]) -> None:
        """Submit the plan again, in another folder."""
        asked = self.ask(output)
        original = RunFolder.open(self.path)
        with RunFolder.create(output, asked.plan) as run:
            begin(run, asked.settings, self._setup(original) if asked.settings.has_setup else None)
        resume(run, SlurmSubmitter())

    def _setup(self, run: RunFolder) -> Path:
        return slurm_folder(run) / SETUP


def this_program() -> list[str]:
    """Return the words that run ``fb`` as it runs now."""
    beside = Path(sys.executable).with_name("fb")
    return (
        [str(beside)]
        if os.access(beside, os.X_OK)
        else [sys.executable, "-c", "from flat_bug.cli.main import main; main()"]
    )


def _program(word: str) -> list[str]:
    if word == "fb":
        return this_program()
    if shutil.which(word) is None:
        raise UsageError("there is no such program", where=word, mend="Give the command as you would type it.")
    return [word]


def _failed(code: int, words: Sequence[str]) -> FlatBugError:
    """Return the error for a command that ended by itself; it has said why."""
    kind = MissingPartError if code == EXIT_MISSING_PART else UsageError
    return kind(f"the command itself ends with exit code {code}", where=shlex.join(words))
