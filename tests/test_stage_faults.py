"""What may happen while an archive is staged: no room, kill -9, and others who stage at the same time."""

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.archives import NEWER, PREPARED, everything, files_of, part_of, write_tree
from tests.conftest import missing

from flat_bug.datasets.archive import pack
from flat_bug.datasets.stage import LOCK, UNFINISHED, stage
from flat_bug.datasets.staged_folder import RECEIPT
from flat_bug.datasets.zip_records import central_entry, end_records, local_header
from flat_bug.errors import MissingPartError, OutputError
from flat_bug.locks import hold_when_free

VAL = ["images/val", "labels/val"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(write_tree(tmp_path / "login" / "fb_yolo")).archive


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return pack(write_tree(tmp_path / "later" / "fb_yolo", NEWER)).archive


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return tmp_path / "node"


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Have a file system of its own at a folder."""
    mount, umount = shutil.which("mount") or missing("mount"), shutil.which("umount") or missing("umount")
    command = [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        missing("the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run([umount, str(folder)], check=True)


class TestRoom:
    def test_too_little_space_is_told_before_anything_is_written(self, node, tmp_path):
        # Most of this archive is a hole: it says truly that it holds more than the disk has free.
        size = shutil.disk_usage(tmp_path).free + (1 << 20)
        archive = tmp_path / "huge.zip"
        head = local_header(b"t/a.tif", size, 0)
        entry = central_entry(b"t/a.tif", size, 0, 0)
        with archive.open("wb") as stream:
            stream.write(head)
            stream.seek(len(head) + size)
            stream.write(entry + end_records(1, len(head) + size, len(entry)))
        with pytest.raises(MissingPartError, match=r"not enough space: .* GB needed, .* GB free") as raised:
            stage(archive, node)
        assert raised.value.exit_code == 3
        assert everything(node).keys() <= {LOCK}

    def test_too_few_inodes_are_told_too(self, archive, node):
        node.mkdir()
        # Two of these are the folder itself and the lock.
        with small_disk(node, "size=10m,nr_inodes=14"):
            with pytest.raises(MissingPartError, match=r"not enough inodes: \d+ files and folders to write, 12 more"):
                stage(archive, node)
            assert everything(node).keys() == {LOCK}

    def test_a_file_system_that_makes_inodes_as_it_needs_them(self, archive, node):
        node.mkdir()
        with small_disk(node, "size=10m,nr_inodes=0"):
            assert os.statvfs(node).f_files == 0
            assert files_of(stage(archive, node).root) == PREPARED

    @pytest.mark.parametrize("earlier", [None, "same", "newer"])
    def test_a_disk_that_fills_up_meanwhile_changes_nothing(self, earlier, archive, newer, node):
        if earlier:
            stage(archive if earlier == "same" else newer, node, VAL)
        before = everything(node)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        try:
            with pytest.raises(OutputError, match="cannot write"):
                stage(archive, node)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert everything(node).keys() - {LOCK} == before.keys() - {LOCK}
        assert files_of(stage(archive, node).root) == PREPARED

    def test_a_file_system_that_is_truly_full(self, archive, tmp_path, monkeypatch):
        small = tmp_path / "small"
        small.mkdir()
        with small_disk(small, "size=2m"):
            with pytest.raises(MissingPartError, match="not enough space"):
                stage(archive, small)
            # Others may write after we have asked.
            monkeypatch.setattr("flat_bug.datasets.stage.require_space", lambda *_: None)
            with pytest.raises(OutputError, match="No space left") as raised:
                stage(archive, small)
            assert "Free some space" in raised.value.mend
            assert everything(small).keys() == {LOCK}
            assert files_of(stage(archive, small, VAL).root) == part_of(PREPARED, "/val/")


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do the work in another process, killed at its n-th touch of the file system; return whether it was."""
    child = os.fork()
    if not child:
        left = step

        def count(event: str, _: object) -> None:
            nonlocal left
            if event.startswith(("os.", "open", "shutil.", "fcntl.")):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


class TestKilled:
    @pytest.mark.parametrize("earlier", ["nothing", "a part", "another archive", "a damaged file"])
    def test_at_any_moment_nothing_is_half_written_and_the_next_one_ends_it(self, earlier, archive, newer, tmp_path):
        step = 0
        again = True
        while again:
            step += 1
            node = tmp_path / f"node{step}"
            if earlier == "a part":
                stage(archive, node, VAL)
            elif earlier == "another archive":
                stage(newer, node)
            elif earlier == "a damaged file":
                stage(archive, node)
                (node / "fb_yolo/data.yaml").unlink()
            again = killed_at(step, lambda node=node: stage(archive, node, jobs=2))
            known = [PREPARED, NEWER] if earlier == "another archive" else [PREPARED]
            found = files_of(node / "fb_yolo") if (node / "fb_yolo").exists() else {}
            assert all(any(files.get(name) == content for files in known) for name, content in found.items())
            assert files_of(stage(archive, node).root) == PREPARED
            assert {path.name for path in node.iterdir()} == {LOCK, "fb_yolo"}
            shutil.rmtree(node)
        assert step > 10

    def test_what_was_left_is_removed_even_by_another_part(self, archive, newer, node):
        stage(archive, node)
        # Just after the receipt says what comes, before anything else.
        step = 1
        while (
            killed_at(step, lambda: stage(newer, node))
            and b'"outdated": ["' not in (node / "fb_yolo" / RECEIPT).read_bytes()
        ):
            step += 1
        assert files_of(stage(newer, node, VAL).root) == part_of(NEWER, "/val/")


class TestTogether:
    def together(self, archive: Path, node: Path, parts: Sequence[str]) -> list[bool]:
        """Stage in as many processes, let go at once; return which of them found everything there."""
        script = "from flat_bug.cli.main import main; main()"
        node.mkdir()
        with (node / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            started = [
                subprocess.Popen(
                    [sys.executable, "-c", script, "data", "stage", archive, node, "--only", part, "--json"],
                    stdout=subprocess.PIPE,
                )
                for part in parts
            ]
            waiting = f":{(node / LOCK).stat().st_ino} 0 EOF"
            while Path("/proc/locks").read_text().count(waiting) <= len(parts):
                assert all(process.poll() is None for process in started)
                time.sleep(0.05)
        return [json.loads(process.communicate(timeout=60)[0])["was_there"] for process in started]

    def test_one_writes_and_the_others_find_it_there(self, archive, node):
        assert sorted(self.together(archive, node, [",".join(VAL)] * 4)) == [False, True, True, True]
        assert files_of(node / "fb_yolo") == part_of(PREPARED, "/val/")

    def test_those_who_want_other_parts_do_not_disturb_each_other(self, archive, node):
        parts = ["images/val", "labels/val", "images/train", "labels/train"]
        assert self.together(archive, node, parts) == [False] * 4
        assert files_of(node / "fb_yolo") == PREPARED

    def test_who_is_waited_for_is_said(self, archive, node):
        node.mkdir()
        command = ["-c", "from flat_bug.cli.main import main; main()", "data", "stage", archive, node]
        with hold_when_free(node / LOCK, "the test") as held:
            assert held
            process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
            said = process.stderr.readline()
        assert said.startswith(f"Waiting for the folder {node}, which is in use by process {os.getpid()} on ")
        assert process.wait(60) == 0
        assert files_of(node / "fb_yolo") == PREPARED

    def test_a_link_in_the_place_of_the_lock_is_not_followed(self, archive, node, tmp_path):
        node.mkdir()
        (node / LOCK).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match="cannot write"):
            stage(archive, node)
        assert not (tmp_path / "elsewhere").exists()


FLOCK = {"x86_64": 73, "aarch64": 32}
"""Numbers of the system call."""


def without_locks() -> None:
    """Have this process and its children find no file system with locks, as on Lustre mounted with ``noflock``."""
    rules = [
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, FLOCK[platform.machine()]),  # if it is this one
        (0x06, 0, 0, 0x0005_0000 | errno.ENOSYS),  # the answer is an error
        (0x06, 0, 0, 0x7FFF_0000),  # all others are allowed
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HP", len(rules), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(38, 1, 0, 0, 0) or prctl(22, 2, program):
        raise OSError(ctypes.get_errno(), "seccomp")


@pytest.mark.skipif(platform.machine() not in FLOCK, reason="the number of flock is not known here")
class TestWithoutLocks:
    def start(self, archive: Path, node: Path, only: str) -> subprocess.Popen[bytes]:
        command = ["-c", "from flat_bug.cli.main import main; main()", "data", "stage", archive, node, "--only", only]
        return subprocess.Popen([sys.executable, *command], preexec_fn=without_locks)  # noqa: PLW1509 - it makes system calls only

    def test_what_another_process_stages_is_left_alone(self, archive, node):
        others = write_tree(node / UNFINISHED, {"fb_yolo/data.yaml": b"half of"})
        assert self.start(archive, node, "val").wait(60) == 0
        assert files_of(node / "fb_yolo") == part_of(PREPARED, "/val/")
        assert files_of(others) == {"fb_yolo/data.yaml": b"half of"}
        assert {path.name for path in node.iterdir()} == {LOCK, "fb_yolo", UNFINISHED}

    def test_those_who_stage_at_the_same_time_all_get_what_they_want(self, archive, node):
        parts = ["images/val", "labels/val", "images/train", "labels/train"]
        started = [self.start(archive, node, part) for part in parts]
        assert [process.wait(60) for process in started] == [0] * 4
        assert files_of(node / "fb_yolo") == PREPARED
