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
    path = NodePath(tree)
    path.check_not_emptied()
    path = path.anchored()
    truth = ground_truth_path(Path(str(path)), "train")
    if not staged and path.is_known_here() and not NodePath(str(truth)).resolve().is_file():
        raise DatasetError("not a prepared tree", where=path.resolve(), mend="Run fb data prepare first.")
    for file in settings.weight_files():
        check_trusted(file, None, trust_weights=trust_weights)
    values = _with_whole_paths(settings.to_mapping())
    weights = next((NodePath.literal(file) for file in settings.weight_files()), None)
    args = TrainModel(
        tree=str(path),
        ground_truth=str(truth),
        weights=None if weights is None else str(weights),
        settings=values,
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


def _with_whole_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which files that are here are named from the root: a task starts in another folder."""
    files = {name: Path(values[name]).absolute() for name in FILES if isinstance(values.get(name), str)}
    return {**values, **{name: str(file) for name, file in files.items() if file.is_file()}}


def _digests(task: Task) -> dict[str, str]:
    paths = [NodePath(text) for text in task.input_paths().values()]
    here = [path.resolve() for path in paths if path.is_known_here()]
    return {str(path): digest_of(path).sha256 for path in here if path.is_file()}
