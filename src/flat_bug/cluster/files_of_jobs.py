"""The files that jobs of a run read before flat-bug is there: ``bootstrap.sh``, and what makes the environment."""

import sys
from importlib import resources
from pathlib import Path

from flat_bug.cluster.bootstrap import BOOTSTRAP, bootstrap_script
from flat_bug.cluster.options import SlurmRequest
from flat_bug.cluster.profile import load_profile
from flat_bug.cluster.submission import (
    DEFAULT_RETRIES,
    SETUP,
    SlurmSettings,
    slurm_folder,
    write_settings,
)
from flat_bug.errors import UsageError
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.files import write_json, write_text

SCRIPT = "node_environment.py"


def settings_of(request: SlurmRequest) -> SlurmSettings:
    """Return how a run is to be submitted.

    Raises:
        ConfigError: The profile is absent or broken.
        UsageError: The folder of the environment is absent.
    """
    profile = load_profile(request.profile)
    environment = None if request.setup else request.environment or profile.environment
    # It is written down, since resuming and the jobs themselves may have other variables.
    account = None if profile.accounts else profile.default_account()
    return SlurmSettings(
        profile=profile,
        options=request.over({"account": account} if account else {}),
        without=tuple(sorted(request.without)),
        environment=None if environment is None else str(_folder(environment)),
        python=sys.executable,
        has_setup=request.setup is not None,
        max_parallel=request.max_parallel,
        tasks_per_job=request.tasks_per_job or 1,
        retries=DEFAULT_RETRIES if request.retries is None else request.retries,
    )


def begin(run: RunFolder, settings: SlurmSettings, setup: Path | None) -> None:
    """Write what resuming and the jobs of a new run will read.

    Args:
        run: The run.
        settings: How it is submitted.
        setup: The user's own script.
    """
    if setup is not None:
        write_text(slurm_folder(run) / SETUP, setup.read_text(encoding="utf-8"))
    write_files_of_jobs(run, settings)
    # Last, since its presence says that the run is one of SLURM.
    write_settings(run, settings)


def check_name(run: Path) -> None:
    """Check that Slurm can write logs into a folder, before a run is made there.

    Raises:
        UsageError: Its path has characters that mean something else there; Slurm has no way to quote them.
    """
    path = str(run.resolve())
    if "%" in path or "\\" in path:
        raise UsageError(
            "Slurm replaces % and \\ in the names of its logs, so a run cannot lie there",
            where=path,
            mend="Choose a folder without these characters (-o).",
        )


def changed_settings(before: SlurmSettings, request: SlurmRequest) -> SlurmSettings:
    """Return how a run is submitted from now on, with options that replace those it had.

    Raises:
        UsageError: Something cannot change any more.
    """
    if request.setup is not None or request.profile is not None:
        raise UsageError("profile and slurm_setup cannot change when a run goes on", where="--slurm")
    changes = {
        "options": request.over(before.options),
        "without": tuple(sorted({*before.without, *request.without} - request.options.keys())),
        "environment": before.environment if request.environment is None else str(_folder(request.environment)),
        "max_parallel": request.max_parallel or before.max_parallel,
        "tasks_per_job": request.tasks_per_job or before.tasks_per_job,
        "retries": before.retries if request.retries is None else request.retries,
    }
    return before.model_copy(update=changes)


def write_files_of_jobs(run: RunFolder, settings: SlurmSettings) -> None:
    """Write the files that jobs read first; they follow the settings."""
    folder = slurm_folder(run)
    write_text(run.path / BOOTSTRAP, bootstrap_script(settings.profile, has_setup=settings.has_setup))
    write_text(folder / SCRIPT, (resources.files("flat_bug.cluster") / SCRIPT).read_text(encoding="utf-8"))
    how = {"dist": settings.environment, "python": settings.python, "method": "auto"}
    # What a step of srun mounts is gone when the step ends, so several nodes need files.
    write_json(folder / "environment-one.json", {**how, "persistent": False})
    write_json(folder / "environment-several.json", {**how, "persistent": True})
    write_json(folder / "submitting.json", {**how, "dist": None, "persistent": True})


def _folder(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise UsageError("there is no such environment", where=text, mend="Make it: fb env build -o dist")
    return path
