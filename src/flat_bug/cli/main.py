"""The command ``fb``, and the commands of existing flat-bug under the names that people know.

Commands are registered by import path, so that ``fb --help`` imports none of them.
"""

import sys
from collections.abc import Sequence

from cyclopts import App, Parameter

import flat_bug
from flat_bug.cli._support import run

GROUPS = {
    "data": "Pull, check, prepare, pack, stage and synthesize datasets.",
    "run": "Run an experiment, here or on a cluster.",
    "env": "Build and check the environment that jobs run in on a cluster.",
    "cluster": "What clusters are like: profiles, and probing for one.",
}

COMMANDS = {
    "predict": ("predict:predict", "Find and outline every arthropod in images."),
    "export": ("export:export", "Write results for other programs."),
    "evaluate": ("evaluate:evaluate", "Score predictions against ground truth."),
    "train": ("train:train", "Train a segmentation model on a prepared tree."),
    "status": ("status:status", "Show the state of every task of a run."),
    "resume": ("status:resume", "Run what is missing or stale in a run."),
    "cancel": ("status:cancel", "Cancel the jobs of a run on SLURM."),
    "logs": ("logs:logs", "Show what tasks and their jobs have printed."),
    "report": ("status:report", "Write the report of a run again."),
    "rehearse": ("rehearse:rehearse", "Carry out a run on a throw-away Slurm on this machine."),
    "data prepare": ("data:prepare", "COCO folders to a tree for training."),
    "data synth": ("data:synth", "Make small arthropod-like datasets."),
    "data pull": ("pull:pull", "A bucket to a folder: what is missing, checked."),
    "data pack": ("archive:pack", "A prepared tree to one archive, with digests."),
    "data stage": ("archive:stage", "An archive, or the parts that a task reads, to a folder."),
    "env build": ("env:build", "Build the environment of jobs, for nodes without the Internet."),
    "env check": ("env:check", "Prove that an environment is whole and closes offline."),
    "cluster probe": ("cluster:probe", "Write a profile of the cluster that you are logged in to."),
    "cluster profiles": ("cluster:profiles", "List the profiles of clusters, or print one."),
    "doctor": ("doctor:doctor", "Look at all that a run on SLURM needs."),
    "run compare-models": ("compare_models:compare_models", "Score every model on the same ground truth."),
}
"""Words of a command → where its function is, and its line in the list of commands."""


def build_app(tokens: Sequence[str] = ()) -> App:
    """Return the command line with all its commands; ``tokens`` are the words that it will be asked to run."""
    app = App(
        name="fb",
        help="Find, outline and measure every arthropod in images of any size.",
        version=lambda: flat_bug.__version__,
        suppress_keyboard_interrupt=False,  # `run` says what to do
        help_format="plaintext",  # importing a Markdown renderer takes longer than everything else together
        # No `--no-x` beside each `--x`. The descriptions name the defaults that matter: None says nothing to a person.
        default_parameter=Parameter(negative=(), show_default=False),
    )
    groups = {name: App(name=name, help=text) for name, text in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for words, (place, summary) in COMMANDS.items():
        *parent, name = words.split()
        # A summary given here would replace the docstring, with its example, in the command's own help.
        asked_for = list(tokens[: len(parent) + 1]) == [*parent, name]
        owner = groups[parent[0]] if parent else app
        owner.command(f"flat_bug.cli.{place}", name=name, help=None if asked_for else summary)
    return app


def main(tokens: list[str] | None = None) -> None:
    """Run ``fb`` and leave with its exit code."""
    words = sys.argv[1:] if tokens is None else tokens
    sys.exit(run(build_app(words), words))


def prepare_data() -> None:
    """Run ``fb_prepare_data``."""
    main(["data", "prepare", *sys.argv[1:]])


def predict() -> None:
    """Run ``fb_predict``."""
    main(["predict", *sys.argv[1:]])


def evaluate() -> None:
    """Run ``fb_evaluate``."""
    main(["evaluate", *sys.argv[1:]])


def train() -> None:
    """Run ``fb_train``."""
    main(["train", *sys.argv[1:]])
