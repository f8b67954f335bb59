"""The command ``fb``, and the commands of existing flat-bug under the names that people know.

Commands are registered by import path, so that ``fb --help`` imports none of them.
"""

import sys

from cyclopts import App

import flat_bug
from flat_bug.cli._support import run


def build_app() -> App:
    """Return the command line with all its commands."""
    app = App(
        name="fb",
        help="Find, outline and measure every arthropod in images of any size.",
        version=lambda: flat_bug.__version__,
        help_format="plaintext",  # importing a Markdown renderer takes longer than everything else together
    )
    command = app.command
    command("flat_bug.cli.predict:predict", name="predict", help="Find and outline every arthropod in images.")
    command("flat_bug.cli.evaluate:evaluate", name="evaluate", help="Score predictions against ground truth.")
    command("flat_bug.cli.train:train", name="train", help="Train a segmentation model on a prepared tree.")
    command("flat_bug.cli.status:status", name="status", help="Show the state of every task of a run.")
    command("flat_bug.cli.status:resume", name="resume", help="Run what is missing or stale in a run.")
    command("flat_bug.cli.status:report", name="report", help="Write the report of a run again.")

    data = App(name="data", help="Check, prepare and synthesize datasets.")
    data.command("flat_bug.cli.data:prepare", name="prepare", help="COCO folders to a tree for training.")
    data.command("flat_bug.cli.data:synth", name="synth", help="Make small arthropod-like datasets.")
    app.command(data)

    experiments = App(name="run", help="Run an experiment, here or on a cluster.")
    experiments.command(
        "flat_bug.cli.compare_models:compare_models",
        name="compare-models",
        help="Score every model on the same ground truth.",
    )
    app.command(experiments)
    return app


def main(tokens: list[str] | None = None) -> None:
    """Run ``fb`` and leave with its exit code."""
    sys.exit(run(build_app(), sys.argv[1:] if tokens is None else tokens))


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
