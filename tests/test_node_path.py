"""Paths that only exist on a node: a few variables are resolved there, and everything else is a file name."""

import os
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flat_bug.errors import UsageError
from flat_bug.experiments.node_path import VARIABLES, NodePath

NODE = {"SLURM_TMPDIR": "/local/job.7", "SLURM_JOB_ID": "7", "HOME": "/home/ann", "USER": "ann", "TMPDIR": "/local/x"}
HOSTILE = ["$(touch pwned)", "`touch pwned`", "; reboot", "a b", "'\"", "a\nb", "*?[x]", "--wrap=x", "\\$HOME", "ñ🦋"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("$SLURM_TMPDIR/fb_yolo", "/local/job.7/fb_yolo"),
        ("${SLURM_TMPDIR}/fb_yolo", "/local/job.7/fb_yolo"),
        ("/runs/$USER/$SLURM_JOB_ID-a", "/runs/ann/7-a"),
        ("/runs/${USER}s", "/runs/anns"),
        ("~/scratch", "/home/ann/scratch"),
        ("~", "/home/ann"),
        ("/a/~/b", "/a/~/b"),
        ("~bob/a", "~bob/a"),
    ],
)
def test_variables_of_the_node_are_resolved(text: str, path: str) -> None:
    assert NodePath(text).resolve(NODE) == Path(path)


@pytest.mark.parametrize("text", ["/a/$PATH", "/a/$USERS", "/a/${PATH}", "/a/${USER", "/a/${USER:-x}", "/a/$", "/a/$$"])
def test_everything_else_that_looks_like_a_variable_is_literal(text: str) -> None:
    assert NodePath(text).resolve({**NODE, "PATH": "/bin", "USERS": "x"}) == Path(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_a_file_name(text: str) -> None:
    literal = text.replace("$HOME", NODE["HOME"])
    assert NodePath(f"/data/{text}/x").resolve(NODE) == Path(f"/data/{literal}/x")
    assert NodePath("$HOME/x").resolve({"HOME": f"/home/{text}"}) == Path(f"/home/{text}/x")


printable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@given(printable)
def test_text_without_variables_stays_as_it_is(text: str) -> None:
    assume("$" not in text and not text.startswith("~"))
    assert NodePath(text).resolve({}) == Path(text)


@settings(deadline=None)
@given(printable, st.dictionaries(st.sampled_from(VARIABLES), printable))
def test_the_path_of_something_found_here_never_changes(name: str, environment: dict[str, str]) -> None:
    path = Path("/found") / name.replace("/", "_")
    assert NodePath.literal(path).resolve(environment) == path


@settings(deadline=None)
@given(printable, printable)
def test_the_value_of_a_variable_is_not_looked_into(before: str, value: str) -> None:
    assume("$" not in before and "~" not in before)
    assert NodePath(f"{before}/$SCRATCH").resolve({"SCRATCH": value, "HOME": "/h"}) == Path(f"{before}/{value}")


@pytest.mark.parametrize("environment", [{}, {"SLURM_TMPDIR": ""}])
def test_a_variable_that_is_not_set_is_named(environment: dict[str, str]) -> None:
    path = NodePath("$SLURM_TMPDIR/fb_yolo")
    assert not path.is_known_here(environment)
    with pytest.raises(UsageError, match="the variable SLURM_TMPDIR is not set here"):
        path.resolve(environment)


@pytest.mark.parametrize("text", ["/fb_yolo_of_nobody/insects", "//fb_yolo_of_nobody", "/fb_yolo_of_nobody"])
def test_a_path_that_the_login_shell_emptied_is_recognised(text: str) -> None:
    with pytest.raises(UsageError, match=r'(?s)no folder /fb_yolo_of_nobody.*Escape the variable: "\\\$SLURM_TMPDIR/'):
        NodePath(text).check_not_emptied()


@pytest.mark.parametrize(
    "text", ["/./only_on_nodes/x", "$SLURM_TMPDIR/fb_yolo", "relative/x", "~/x", "/", str(Path.cwd())]
)
def test_a_path_that_can_be_meant_passes(text: str) -> None:
    NodePath(text).check_not_emptied()


@pytest.mark.parametrize("text", ["", "a\0b", os.fsdecode(b"a\xff")])
def test_what_cannot_be_the_text_of_a_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        NodePath(text)


@pytest.mark.parametrize("text", ["/a/b", "~/a", "$SLURM_TMPDIR/a", "${HOME}/a"])
def test_a_path_from_a_root_stays(text: str) -> None:
    assert NodePath(text).anchored() == NodePath(text)


def test_a_relative_path_is_that_of_today_wherever_a_task_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "$HOME"
    odd.mkdir()
    monkeypatch.chdir(odd)
    anchored = NodePath("$USER/images").anchored()
    monkeypatch.chdir(tmp_path)
    assert anchored.resolve(NODE) == odd / "ann" / "images"
