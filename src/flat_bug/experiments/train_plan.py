"""The experiment ``train``: one model, trained by a task that goes on where its job ran out of time."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flat_bug.errors import DatasetError, UsageError
from flat_bug.experiments.digests import digest_of
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Plan, Resources, Stage, Task, plain_id
from flat_bug.experiments.record import current_versions
from flat_bug.experiments.staged import staged_tree
from flat_bug.experiments.train_task import CALL, TrainModel
from flat_bug.training.checkpoints import check_trusted
from flat_bug.training.cutting import ground_truth_path
from flat_bug.training.settings import TrainSettings

EXPERIMENT = "train"
FILES = ("model", "pretrained", "distill_model")
"""Settings that may name a file."""


def plan_training(
    tree: str | None,
    settings: TrainSettings,
    *,
    archive: str | None = None,
    trust_weights: bool = False,
    command: Sequence[str] = (),
) -> Plan:
    """Return a plan with one task.

    Args:
        tree: Prepared tree; may hold variables of the node.
        settings: How to train.
        archive: Archive that nodes take the tree from; it is then in ``$SLURM_TMPDIR``.
        trust_weights: Open the ``.pt`` files that the settings name; they can run any code.
        command: The command line that asks for it.

    Raises:
        UsageError: There is no tree, or its path was emptied by the shell.
        DatasetError: The tree is not a prepared one, or the archive is broken.
        WeightsError: A weight file is absent or not trusted.
    """
    staged: tuple[Stage, ...] = ()
    if archive is not None:
        tree, stage = staged_tree(archive, tree)
        staged = (stage,)
    if tree is None:
        raise UsageError("there is nothing to train on", where="--data", mend="Give a prepared tree, or --archive.")
    path = _checked_tree(tree, is_staged=bool(staged))
    weights = _checked_weights(settings, trust_weights=trust_weights)
    args = TrainModel(
        tree=str(path),
        ground_truth=str(ground_truth_path(Path(str(path)), "train")),
        weights=None if weights is None else str(weights),
        settings=_with_whole_paths(settings.to_mapping()),
        trust_weights=trust_weights,
        command=shlex.join(command),
    )
    inputs = [name for name in ("ground_truth", "weights") if getattr(args, name) is not None]
    task = Task(
        id=plain_id(settings.name),
        call=CALL,
        args=args.model_dump(mode="json"),
        inputs=tuple(inputs),
        resources=Resources(gpus=0 if settings.device == "cpu" else 1),
        stage=staged,
        goes_on=True,
    )
    return Plan(
        experiment=EXPERIMENT,
        command=tuple(command),
        versions=current_versions(),
        digests=_digests(task),
        tasks=(task,),
    )


def _checked_tree(tree: str, *, is_staged: bool) -> NodePath:
    """Return the tree, which is a prepared one as far as that can be seen from here."""
    path = NodePath(tree)
    path.check_not_emptied()
    path = path.anchored()
    if not is_staged and path.is_known_here() and not ground_truth_path(path.resolve(), "train").is_file():
        raise DatasetError("not a prepared tree", where=path.resolve(), mend="Run fb data prepare first.")
    return path


def _checked_weights(settings: TrainSettings, *, trust_weights: bool) -> NodePath | None:
    """Return the weight file that the training begins with, if it does; all that it would open are trusted."""
    files = settings.weight_files()
    for file in files:
        check_trusted(file, None, trust_weights=trust_weights)
    return NodePath.literal(files[0]) if files else None


def _with_whole_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which files that are here are named from the root: a task starts in another folder."""
    files = {name: Path(values[name]).absolute() for name in FILES if isinstance(values.get(name), str)}
    return {**values, **{name: str(file) for name, file in files.items() if file.is_file()}}


def _digests(task: Task) -> dict[str, str]:
    paths = [NodePath(text) for text in task.input_paths().values()]
    here = [path.resolve() for path in paths if path.is_known_here()]
    return {str(path): digest_of(path).sha256 for path in here if path.is_file()}
