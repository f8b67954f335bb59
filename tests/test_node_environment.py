"""The environment on a node: the fastest way that works, or a clear end."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import missing
from tests.environments import (
    SCRIPT,
    describe,
    flip_a_byte,
    run_script,
    write_flat_bug,
    write_installers,
    write_wheel,
)

from flat_bug.cluster.environment.manifest import MANIFEST_NAME

WAYS = ("squashfs", "tar", "uv", "pip")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with everything in it; tests that damage one take a copy."""
    for program in ("mksquashfs", "squashfuse", "fusermount3"):
        if shutil.which(program) is None:
            missing(program)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        missing("/dev/fuse")
    dist = tmp_path_factory.mktemp("whole") / "dist"
    write_flat_bug(dist)
    write_wheel(dist, "legs")
    write_installers(dist)
    describe(dist)
    return dist


@pytest.fixture
def dist(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "dist"))


class Node:
    """A folder that stands for the local disk of a node."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.settings = target.parent / "settings.json"

    def make(
        self, dist: Path | None, method: str = "auto", *, variables: dict[str, str] | None = None, **others: Any
    ) -> "subprocess.CompletedProcess[str]":
        values = {"dist": str(dist) if dist else None, "python": sys.executable, "method": method, "persistent": False}
        self.settings.write_text(json.dumps({**values, **others}))
        return run_script(self.settings, self.target, variables=variables)

    def is_mounted(self) -> bool:
        return str(self.target.resolve()).replace(" ", "\\040") in Path("/proc/self/mounts").read_text()


@pytest.fixture
def node(tmp_path: Path) -> Any:
    node = Node(tmp_path / "node")
    yield node
    run_script("--clean", node.target)
    assert not node.is_mounted()


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stderr.splitlines()[-1]


def test_the_fastest_way_is_a_mount_of_the_image_where_it_lies(whole: Path, node: Node) -> None:
    done = node.make(whole)
    assert done.returncode == 0, done.stderr
    assert node.is_mounted()
    assert "environment: squashfs, ready in" in last_line(done)
    assert "because it is the fastest way" in last_line(done)


@pytest.mark.parametrize("method", WAYS)
def test_each_way_ends_with_an_interpreter_that_has_flat_bug_and_its_scripts(
    method: str, whole: Path, node: Node
) -> None:
    done = node.make(whole, method)
    assert done.returncode == 0, done.stderr
    python = Path(done.stdout.removesuffix("\n"))
    assert python.is_absolute()
    assert python.is_relative_to(node.target)
    code = "import flat_bug, legs, sys; print(flat_bug.__file__, sys.prefix, sep='\\n')"
    place, prefix = subprocess.check_output([python, "-c", code], text=True, cwd="/").splitlines()
    assert place.startswith(str(node.target))
    assert prefix == str(python.parent.parent)
    assert subprocess.check_output([python, "-m", "flat_bug"], text=True, cwd="/") == "it runs\n"
    assert subprocess.check_output([python.parent / "fb-tiny"], text=True, cwd="/") == "it runs\n"
    assert subprocess.check_output([python.parent / "uv", "--version"], text=True).startswith("uv ")
    assert f"environment: {method}, ready in" in last_line(done)


@pytest.mark.parametrize("method", ["uv", "pip"])
def test_no_index_and_no_configuration_is_ever_asked(method: str, whole: Path, node: Node, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/simple"
    for name in ("pip.conf", "uv.toml"):
        (tmp_path / name).write_text("this is no configuration [")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('packages of a module')")
    hostile = {
        "PIP_INDEX_URL": nowhere,
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_NO_BINARY": ":all:",
        "UV_INDEX_URL": nowhere,
        "UV_DEFAULT_INDEX": nowhere,
        "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
        "UV_NO_BINARY": "1",
        "PYTHONPATH": str(tmp_path),
        "HOME": "/nonexistent",
    }
    done = node.make(whole, method, variables=hostile)
    assert done.returncode == 0, done.stderr


def test_a_second_call_returns_what_is_there(whole: Path, node: Node) -> None:
    first = node.make(whole)
    record = node.target / "environment" / "made.json"
    before = record.stat().st_mtime_ns
    second = node.make(whole)
    assert second.stdout == first.stdout
    assert "made before" in last_line(second)
    assert record.stat().st_mtime_ns == before


def test_processes_that_start_together_make_one_environment(whole: Path, node: Node) -> None:
    node.make(whole)  # writes the settings
    run_script("--clean", node.target)
    with ThreadPoolExecutor(4) as pool:
        all_done = list(pool.map(lambda _: run_script(node.settings, node.target), range(4)))
    assert {done.returncode for done in all_done} == {0}
    assert len({done.stdout for done in all_done}) == 1
    assert sum("ready in" in done.stderr for done in all_done) == 1


def test_cleaning_unmounts_and_removes_and_may_be_repeated(whole: Path, node: Node) -> None:
    node.make(whole)
    assert node.is_mounted()
    for _ in range(2):
        assert run_script("--clean", node.target).returncode == 0
        assert not node.is_mounted()
        assert list(node.target.iterdir()) == []


def test_a_mount_whose_daemon_was_killed_is_made_again(whole: Path, node: Node) -> None:
    node.make(whole)
    mount = str(node.target / "environment" / "mount")
    for process in Path("/proc").glob("[0-9]*"):
        words = (process / "cmdline").read_bytes() if (process / "cmdline").exists() else b""
        if b"squashfuse" in words and mount.encode() in words:
            os.kill(int(process.name), signal.SIGKILL)
    again = node.make(whole)
    assert again.returncode == 0, again.stderr
    assert "squashfs, ready in" in last_line(again)


def test_what_was_left_by_a_call_that_was_killed_does_not_disturb(whole: Path, node: Node) -> None:
    rubbish = node.target / "environment" / "env" / "bin"
    rubbish.mkdir(parents=True)
    (rubbish / "python").write_text("half")
    assert node.make(whole, "tar").returncode == 0


def test_an_environment_for_several_steps_is_not_mounted(whole: Path, node: Node) -> None:
    done = node.make(whole, persistent=True)
    assert done.returncode == 0
    assert not node.is_mounted()
    assert "environment: tar, ready" in last_line(done)
    assert "a mount would end with the step" in last_line(done)


def test_without_squashfuse_the_tar_is_unpacked_and_the_log_says_why(whole: Path, node: Node, tmp_path: Path) -> None:
    few = tmp_path / "bin"
    few.mkdir()
    (few / "tar").symlink_to(shutil.which("tar") or "")
    done = node.make(whole, variables={"PATH": str(few)})
    assert done.returncode == 0
    assert "environment: tar, ready" in last_line(done)
    assert "squashfuse is not on this node" in last_line(done)


def test_without_tar_either_the_wheels_are_installed(whole: Path, node: Node, tmp_path: Path) -> None:
    done = node.make(whole, variables={"PATH": str(tmp_path)})
    assert done.returncode == 0
    assert "environment: uv, ready" in last_line(done)


@pytest.mark.parametrize(("form", "next_way"), [("squashfs", "tar"), ("tar", "uv")])
@pytest.mark.parametrize("damage", ["a flipped byte", "cut short", "gone"])
def test_a_damaged_form_is_named_and_the_next_way_taken(
    form: str, next_way: str, damage: str, dist: Path, node: Node
) -> None:
    file = dist / f"environment.{form}"
    if damage == "a flipped byte":
        flip_a_byte(file)
    elif damage == "cut short":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.unlink()
    done = node.make(dist, persistent=form == "tar")
    assert done.returncode == 0, done.stderr
    assert f"environment: {next_way}, ready" in last_line(done)
    assert str(file) in done.stderr
    assert not node.is_mounted()


@pytest.mark.parametrize("method", ["uv", "pip"])
def test_a_missing_wheel_is_named(method: str, dist: Path, node: Node) -> None:
    next(dist.glob("legs-*.whl")).unlink()
    done = node.make(dist, method)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "legs" in last_line(done)
    assert "Mend it on the login node: fb env check" in last_line(done)


@pytest.mark.parametrize("method", ["uv", "pip"])
def test_a_wheel_that_is_not_the_locked_one_is_refused(method: str, dist: Path, node: Node) -> None:
    write_wheel(dist, "legs", files={"legs/__init__.py": b"raise SystemExit('another')"})
    done = node.make(dist, method)
    assert done.returncode == 1
    assert "hash" in last_line(done).lower()


def test_a_lock_that_was_edited_is_refused(dist: Path, node: Node) -> None:
    (dist / "requirements.lock").write_text("legs==1.0\n")
    assert "requirements.lock is damaged" in last_line(node.make(dist, "uv"))


def test_when_no_way_works_each_has_its_reason_and_nothing_is_left(dist: Path, node: Node) -> None:
    for path in dist.iterdir():
        if path.name != MANIFEST_NAME:
            path.unlink()
    done = node.make(dist)
    assert done.returncode == 1
    for way in WAYS:
        assert f"{way}: " in last_line(done)
    assert [path.name for path in (node.target / "environment").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python_version": "3.7"}, "the environment is for Python 3.7"),
        ({"machine": "vax"}, "the environment is for vax"),
        ({"glibc": "2.99"}, "the environment is for 2.99"),
    ],
)
def test_a_node_that_the_environment_is_not_for_is_told_so(
    change: dict[str, str], message: str, dist: Path, node: Node
) -> None:
    manifest = json.loads((dist / MANIFEST_NAME).read_text())
    (dist / MANIFEST_NAME).write_text(json.dumps({**manifest, **change}))
    done = node.make(dist)
    assert done.returncode == 1
    assert message in last_line(done)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"lock": 1}'])
def test_a_damaged_manifest_is_named(content: str, dist: Path, node: Node) -> None:
    (dist / MANIFEST_NAME).write_text(content)
    done = node.make(dist)
    assert done.returncode == 1
    assert MANIFEST_NAME in last_line(done)
    assert len(done.stderr.splitlines()) == 1


def test_a_packed_form_without_flat_bug_is_not_taken_for_whole(tmp_path: Path, node: Node) -> None:
    dist = tmp_path / "poor"
    write_wheel(dist, "legs")
    describe(dist)
    done = node.make(dist, "tar")
    assert done.returncode == 1
    assert "cannot import flat_bug" in last_line(done)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Return the folder of a file system of 2 MB."""
    if os.geteuid() != 0:
        missing("root, to mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["/bin/umount", str(folder)], check=True)


def test_a_mount_needs_no_room_on_a_full_disk(whole: Path, small_disk: Path) -> None:
    node = Node(small_disk / "node")
    node.target.mkdir()
    done = node.make(whole)
    assert done.returncode == 0, done.stderr
    assert "squashfs, ready" in last_line(done)
    run_script("--clean", node.target)


def test_a_disk_that_is_too_small_is_not_filled_first(whole: Path, small_disk: Path) -> None:
    node = Node(small_disk / "node")
    node.target.mkdir()
    done = node.make(whole, persistent=True)
    assert done.returncode == 1
    for way in ("tar", "uv", "pip"):
        assert f"{way}: {node.target}/environment has 1 MB free" in last_line(done)


def test_the_submitting_interpreter_is_used_when_no_environment_is_named(node: Node) -> None:
    done = node.make(None)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{sys.executable}\n"
    assert "submitting-python, because no environment is named" in last_line(done)


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_a_submitting_interpreter_that_is_not_on_the_node_is_named(python: str, node: Node) -> None:
    done = node.make(None, python=python)
    assert done.returncode == 1
    assert done.stdout == ""
    assert python in last_line(done)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"dist": null, "method": "magic"}', '{"dist": null, "method": "tar"}', '{"dist": 7}']
)
def test_settings_that_make_no_sense_end_with_one_line(content: str, node: Node) -> None:
    node.settings.write_text(content)
    done = run_script(node.settings, node.target)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["$(touch pwned)", "a b", "`id`;'\"", "new\nline", "-rf", "ä\\040"])
def test_the_name_of_a_folder_is_only_a_name(name: str, whole: Path, tmp_path: Path) -> None:
    node = Node(tmp_path / name)
    linked = tmp_path / f"dist {name}"
    linked.symlink_to(whole)
    for method in ("squashfs", "tar"):
        done = node.make(linked, method)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{node.target}/environment/env/bin/python\n"
        run_script("--clean", node.target)
    assert not list(tmp_path.rglob("pwned"))


def test_an_old_interpreter_can_read_the_script_and_it_needs_nothing_else() -> None:
    # 3.6 is what the system's python3 is on clusters with Enterprise Linux 8: it must reach the line that says so.
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {name.name for node in imported if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module or "" for node in imported if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names
