"""Staging an archive: only what is asked for, whole or not at all, once, whoever else is there."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from tests.archives import NEWER, PREPARED, everything, files_of, part_of, write_tree
from tests.conftest import missing

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.datasets.archive import pack, read_manifest
from flat_bug.datasets.archive_parts import select
from flat_bug.datasets.stage import LOCK, stage
from flat_bug.datasets.staged_folder import RECEIPT
from flat_bug.errors import OutputError, UsageError

VAL = ["images/val", "labels/val"]


HOLLOW = '{"format": 1, "identity": "", "archive": "", "parts": [], "files": [], "outdated": []}'


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(write_tree(tmp_path / "login" / "fb_yolo")).archive


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return pack(write_tree(tmp_path / "later" / "fb_yolo", NEWER)).archive


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return tmp_path / "node"


def zipped(tree: Path, *options: str) -> Path:
    """Make an archive as the guide does."""
    tool = shutil.which("zip") or missing("zip")
    subprocess.run([tool, "-qr", *options, f"{tree.name}.zip", tree.name], cwd=tree.parent, check=True)
    return tree.with_name(f"{tree.name}.zip")


class TestWhole:
    def test_the_tree_comes_back(self, archive, node):
        staged = stage(archive, node)
        assert staged.root == node / "fb_yolo"
        assert files_of(staged.root) == PREPARED
        assert (staged.files, staged.bytes) == (10, sum(map(len, PREPARED.values())))
        assert not staged.was_there
        assert sorted(path.name for path in node.iterdir()) == [LOCK, "fb_yolo"]

    def test_the_second_time_nothing_is_written(self, archive, node):
        stage(archive, node)
        before = {path: path.lstat().st_ino for path in node.rglob("*")}
        again = stage(archive, node)
        assert again.was_there
        assert (again.files, again.written_files, again.written_bytes) == (10, 0, 0)
        assert {path: path.lstat().st_ino for path in node.rglob("*")} == before

    @pytest.mark.parametrize("options", [(), ("-0",), ("-9",), ("-fd",)])
    def test_an_archive_of_zip_works_too(self, options, node, tmp_path):
        files = {**PREPARED, "insects/images/val/été 日本.jpg": b"named by zip in no declared encoding"}
        archive = zipped(write_tree(tmp_path / "fb_yolo", files), *options)
        assert files_of(stage(archive, node, VAL).root) == part_of(files, "/val/")
        staged = stage(archive, node)
        assert files_of(staged.root) == files
        assert staged.verified == "crc32"
        assert stage(archive, node).was_there

    def test_what_was_unzipped_and_zipped_again_is_still_verified(self, archive, node, tmp_path):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(tmp_path)
        again = zipped(tmp_path / "fb_yolo")
        assert stage(again, node).verified == "sha256"
        assert stage(archive, node).was_there

    def test_a_pickle_in_an_archive_of_zip_is_left_in_it(self, node, tmp_path):
        files = {**PREPARED, "insects/labels/val.cache": b"cos\nsystem\n", "insects/.hidden/x": b"", ".DS_Store": b""}
        assert files_of(stage(zipped(write_tree(tmp_path / "fb_yolo", files)), node).root) == PREPARED

    def test_one_empty_file_and_an_empty_folder(self, node, tmp_path):
        tree = write_tree(tmp_path / "t", {"a.txt": b""})
        (tree / "images" / "val").mkdir(parents=True)
        archive = pack(tree).archive
        assert everything(stage(archive, node, ["images/val"]).root).keys() == {
            "a.txt",
            "images",
            "images/val",
            RECEIPT,
        }
        shutil.rmtree(node / "t" / "images")
        stage(archive, node)
        assert (node / "t" / "images" / "val").is_dir()


class TestParts:
    def test_only_what_was_asked_for_is_written(self, archive, node):
        staged = stage(archive, node, VAL)
        assert files_of(staged.root) == part_of(PREPARED, "/val/")
        assert staged.written_bytes == sum(map(len, part_of(PREPARED, "/val/").values()))

    def test_only_what_was_asked_for_is_read(self, archive, node):
        # A picture for training is broken, and nobody notices who does not ask for it.
        content = bytearray(archive.read_bytes())
        content[content.index(PREPARED["insects/images/train/moths_b.jpg"])] ^= 1
        archive.write_bytes(content)
        assert files_of(stage(archive, node, VAL).root) == part_of(PREPARED, "/val/")

    @pytest.mark.parametrize("only", [["images/val", "labels/val"], ["/images/val/", "labels/val/"], ["val"]])
    def test_parts_are_given_in_any_of_these_ways(self, only, archive, node):
        assert files_of(stage(archive, node, only).root) == part_of(PREPARED, "/val/")

    @pytest.mark.parametrize("part", ["images/va,l", " images", "images ", "a, b"])
    def test_a_part_is_named_as_it_is(self, part, node, tmp_path):
        files = {f"{part}/a.jpg": b"a", "val/b.jpg": b"b"}
        archive = pack(write_tree(tmp_path / "t", files)).archive
        assert set(files_of(stage(archive, node, [part]).root)) == {f"{part}/a.jpg"}

    @pytest.mark.parametrize("part", ["insects/labels", "labels"])
    def test_a_part_is_a_folder_with_all_in_it(self, part, archive, node):
        assert files_of(stage(archive, node, [part]).root) == part_of(PREPARED, "/labels/")

    def test_a_part_that_is_a_file_brings_no_neighbours(self, archive, node):
        staged = stage(archive, node, ["images/train/moths_a.jpg"])
        assert set(files_of(staged.root)) == {"data.yaml", "insects/images/train/moths_a.jpg"}

    @pytest.mark.parametrize("part", ["images/vla", "mages/val", "images/va", "..", "val/images", "IMAGES/val"])
    def test_an_unknown_part_is_an_error_that_names_those_there_are(self, part, archive, node):
        with pytest.raises(UsageError, match="no part") as raised:
            stage(archive, node, ["labels/val", part])
        assert raised.value.mend == (
            "There are: insects, insects/images/train, insects/images/val, insects/labels/train, insects/labels/val."
        )
        assert not node.exists()

    @pytest.mark.parametrize("only", [[""], ["images/val", ""], ["/"]])
    def test_a_part_without_a_name_is_not_everything(self, only, archive, node):
        with pytest.raises(UsageError, match="no name"):
            stage(archive, node, only)

    def test_another_part_later_is_added(self, archive, node):
        stage(archive, node, VAL)
        first = (node / "fb_yolo/insects/images/val/moths_c.jpg").stat()
        added = stage(archive, node, ["images/train", "labels/train"])
        assert files_of(added.root) == PREPARED
        assert added.written_files == 5
        assert (node / "fb_yolo/insects/images/val/moths_c.jpg").stat() == first
        assert stage(archive, node, VAL).was_there
        assert stage(archive, node).was_there
        assert json.loads((added.root / RECEIPT).read_text())["parts"] == [
            *("images/train", "images/val", "labels/train", "labels/val")
        ]

    def test_what_would_be_written_is_known_before(self, archive, node):
        for number, only in enumerate(([], VAL, ["images/train"])):
            known = select(read_manifest(archive), only)
            staged = stage(archive, node / str(number), only)
            assert (len(known.members), known.bytes) == (staged.written_files, staged.written_bytes)


class TestRepair:
    @pytest.mark.parametrize("how", ["cut", "grown", "changed", "absent", "link", "folder gone"])
    def test_a_damaged_file_is_written_again_and_no_other(self, how, archive, node, tmp_path):
        root = stage(archive, node).root
        victim = root / "insects/images/val/moths_c.jpg"
        content = victim.read_bytes()
        if how == "folder gone":
            shutil.rmtree(victim.parent)
        else:
            victim.unlink()
        if how == "cut":
            victim.write_bytes(content[:-1])
        elif how == "grown":
            victim.write_bytes(content + b"x")
        elif how == "changed":
            victim.write_bytes(content[::-1])
        elif how == "link":
            (tmp_path / "elsewhere").write_bytes(content)
            victim.symlink_to(tmp_path / "elsewhere")
        staged = stage(archive, node)
        assert files_of(root) == PREPARED
        assert not victim.is_symlink()
        assert staged.written_files == 1

    def test_files_of_others_in_the_folder_stay(self, archive, newer, node):
        root = stage(archive, node).root
        (root / "insects/labels/val.cache").write_bytes(b"by ultralytics")
        stage(newer, node)
        assert (root / "insects/labels/val.cache").read_bytes() == b"by ultralytics"


class TestAnotherArchive:
    def test_it_takes_the_place_of_the_earlier_one(self, archive, newer, node):
        stage(archive, node)
        staged = stage(newer, node)
        assert files_of(staged.root) == NEWER
        assert staged.written_files == len(NEWER)
        assert stage(newer, node).was_there

    def test_nothing_of_the_earlier_one_stays_beside_a_part(self, archive, newer, node):
        stage(archive, node)
        assert files_of(stage(newer, node, VAL).root) == part_of(NEWER, "/val/")
        assert not (node / "fb_yolo/insects/images/train").exists()

    def test_a_file_becomes_a_folder_and_back(self, node, tmp_path):
        one = pack(write_tree(tmp_path / "1" / "t", {"a": b"1", "b/c": b"2"})).archive
        two = pack(write_tree(tmp_path / "2" / "t", {"a/x/y": b"3", "b": b"4"})).archive
        for archive, files in [(one, {"a": b"1", "b/c": b"2"}), (two, {"a/x/y": b"3", "b": b"4"})] * 2:
            assert files_of(stage(archive, node).root) == files

    def test_the_same_tree_packed_again_is_no_other_one(self, archive, node, tmp_path):
        stage(archive, node)
        again = pack(write_tree(tmp_path / "copy" / "fb_yolo")).archive
        assert stage(again, node).was_there

    def test_archives_of_two_trees_stand_side_by_side(self, archive, node, tmp_path):
        other = pack(write_tree(tmp_path / "other", {"a.txt": b"a"})).archive
        stage(archive, node)
        stage(other, node)
        assert stage(archive, node).was_there
        assert stage(other, node).was_there


class TestInTheWay:
    def test_a_folder_that_was_not_staged_is_left_alone(self, archive, node):
        write_tree(node / "fb_yolo", {"data.yaml": b"mine"})
        with pytest.raises(OutputError, match="not made by fb data stage"):
            stage(archive, node)
        assert files_of(node / "fb_yolo") == {"data.yaml": b"mine"}

    def test_an_empty_folder_is_used(self, archive, node):
        (node / "fb_yolo").mkdir(parents=True)
        assert files_of(stage(archive, node).root) == PREPARED

    @pytest.mark.parametrize("receipt", ["", "{", "[]", "3", "[" * 100_000, '{"format": 2}', '{"format": 1}', HOLLOW])
    def test_a_broken_receipt_is_none(self, receipt, archive, node):
        write_tree(node / "fb_yolo", {RECEIPT: receipt.encode(), "data.yaml": b"mine"})
        with pytest.raises(OutputError, match="not made by fb data stage"):
            stage(archive, node)

    @pytest.mark.parametrize("name", ["../../victim", "/victim", "a/../../../victim"])
    @pytest.mark.parametrize("key", ["files", "outdated"])
    def test_a_receipt_that_names_files_elsewhere_removes_none(self, key, name, archive, node, tmp_path):
        (tmp_path / "victim").write_bytes(b"precious")
        root = stage(archive, node).root
        receipt = json.loads((root / RECEIPT).read_text())
        receipt["identity"] = "0" * 64
        receipt[key] = {name: [8, 1]} if key == "files" else [name]
        (root / RECEIPT).write_text(json.dumps(receipt))
        with pytest.raises(OutputError, match="not made by fb data stage"):
            stage(archive, node)
        assert (tmp_path / "victim").read_bytes() == b"precious"

    @pytest.mark.parametrize("link", ["fb_yolo", "fb_yolo/insects", "fb_yolo/insects/images/val"])
    @pytest.mark.parametrize("which", ["archive", "newer"])
    def test_nothing_is_written_or_removed_through_a_link(self, link, which, node, tmp_path, request):
        stage(request.getfixturevalue("archive"), node)
        other = request.getfixturevalue(which)
        (node / link).rename(tmp_path / "moved")
        (node / link).symlink_to(tmp_path / "moved")
        before = everything(tmp_path)
        with pytest.raises(OutputError, match="no folder"):
            stage(other, node)
        assert everything(tmp_path) == before

    def test_the_hidden_folder_is_not_followed_either(self, archive, node, tmp_path):
        write_tree(tmp_path / "precious", {"a": b"a"})
        node.mkdir()
        (node / ".tmp-flat-bug-stage").symlink_to(tmp_path / "precious")
        with pytest.raises(OutputError):
            stage(archive, node)
        assert files_of(tmp_path / "precious") == {"a": b"a"}

    def test_a_destination_that_is_a_file(self, archive, node):
        node.write_bytes(b"")
        with pytest.raises(OutputError, match="cannot write"):
            stage(archive, node)


class TestCommand:
    def fb(self, *tokens: object) -> int:
        words = ["data", "stage", *map(str, tokens)]
        return run(build_app(words), words)

    def test_it_says_what_was_written_and_then_that_it_is_there(self, archive, node, capsys):
        assert self.fb(archive, node, "--only", "images/val", "--only", "labels/val") == 0
        said = capsys.readouterr().out
        assert f"Staged: {node / 'fb_yolo'}" in said
        assert "5 files, 80.44 kB" in said
        assert "verified by SHA-256" in said
        assert self.fb(archive, node, "--only", " images/val/ , labels/val") == 0
        assert f"There already: {node / 'fb_yolo'}" in capsys.readouterr().out

    def test_json_is_one_object(self, archive, node, capsys):
        assert self.fb(archive, node, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert said["root"] == str(node / "fb_yolo")
        assert (said["files"], said["written_files"], said["was_there"]) == (10, 10, False)

    def test_a_comma_too_many_is_not_everything(self, archive, node, capsys):
        assert self.fb(archive, node, "--only", "images/val,") == 2
        assert "a part has no name" in capsys.readouterr().err

    @pytest.mark.parametrize("value", ["", " "])
    def test_a_variable_that_is_not_set_is_not_the_working_folder(self, value, archive, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert self.fb(archive, value) == 2
        empty = "the destination" if value else "a word of the command"
        assert f"{empty} is empty" in capsys.readouterr().err
        assert not (tmp_path / "fb_yolo").exists()

    @pytest.mark.parametrize(
        "name", ["$(touch pwned)", "`touch pwned`", ";touch pwned", "a'b\"c", "line\nbreak", "--x"]
    )
    def test_no_name_is_more_than_a_name(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        archive = pack(write_tree(tmp_path / "login" / "t", {"data.yaml": b""}), tmp_path / f"{name}.zip").archive
        assert stage(archive, tmp_path / name).root == tmp_path / name / "t"
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"{name}.zip", name, "login"])
