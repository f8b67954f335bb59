"""Where a node finds what it takes from an archive, and which parts of it are staged for that."""

from pathlib import Path

import pytest
from tests.archives import PREPARED, write_tree

from flat_bug.datasets.archive import pack
from flat_bug.datasets.stage import stage
from flat_bug.errors import UsageError
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.staged import staged_inputs, staged_tree


def archive_of(folder: Path) -> str:
    return str(NodePath.literal(pack(write_tree(folder)).archive))


def test_of_a_prepared_tree_validation_images_and_labels_are_staged(tmp_path: Path) -> None:
    found = staged_inputs(archive_of(tmp_path / "fb"), None, None)
    assert found.images == "$SLURM_TMPDIR/fb/insects/images/val"
    assert found.stage[0].only == ("insects/images/val", "insects/labels/val")


def test_who_names_the_whole_tree_gets_all_of_it(tmp_path: Path) -> None:
    found = staged_inputs(archive_of(tmp_path / "fb"), "$SLURM_TMPDIR/fb", None)
    assert found.stage[0].only == ()
    staged = stage(NodePath(found.stage[0].archive).resolve(), tmp_path / "node", found.stage[0].only)
    assert staged.files == len(PREPARED)


@pytest.mark.parametrize("name", ["d$USER", "$SLURM_TMPDIR", "${HOME}", "a${$}b", "~"])
def test_a_folder_in_the_archive_may_be_called_like_a_variable(tmp_path: Path, name: str) -> None:
    archive = archive_of(tmp_path / name)
    node = tmp_path / "node"
    environment = {"SLURM_TMPDIR": str(node), "USER": "me", "HOME": "/home/me"}
    inputs = staged_inputs(archive, None, None)
    tree, wanted = staged_tree(archive, None)
    for stage_of_it in (*inputs.stage, wanted):
        stage(NodePath(stage_of_it.archive).resolve(), node, stage_of_it.only)
    assert NodePath(inputs.images).resolve(environment) == node / name / "insects/images/val"
    assert NodePath(inputs.ground_truth).resolve(environment).is_file()
    assert NodePath(tree).resolve(environment) == node / name
    # What is given by default can be given by hand.
    assert staged_inputs(archive, inputs.images, inputs.ground_truth) == inputs
    assert staged_tree(archive, tree) == (tree, wanted)


def test_a_path_with_another_variable_is_in_no_archive(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "d$USER")
    with pytest.raises(UsageError, match="does not hold") as caught:
        staged_inputs(archive, "$SLURM_TMPDIR/d$USER/insects/images/val", None)
    assert caught.value.mend == r'A path in it begins with "\$SLURM_TMPDIR/d\${\$}USER/".'
