"""From a prepared tree to one archive that unzip opens."""

import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.archives import PREPARED, files_of, write_tree
from tests.conftest import missing

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.datasets import zip_records
from flat_bug.datasets.archive import pack, read_manifest
from flat_bug.datasets.archive_index import MANIFEST
from flat_bug.datasets.stage import stage
from flat_bug.errors import DatasetError, OutputError, UsageError

UTF8 = {**os.environ, "LC_ALL": "C.UTF-8"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "fb_yolo")


@pytest.fixture(scope="session")
def unzip() -> str:
    return shutil.which("unzip") or missing("unzip")


def unzipped(unzip: str, archive: Path, folder: Path) -> Path:
    # Without names of patterns in the list of members, nothing is matched: every name is taken as it is.
    subprocess.run([unzip, "-q", str(archive), "-d", str(folder)], check=True, env=UTF8, stdin=subprocess.DEVNULL)
    return folder


class TestArchive:
    def test_plain_unzip_makes_the_same_tree(self, unzip, tree, tmp_path):
        packed = pack(tree)
        assert packed.archive == tmp_path / "fb_yolo.zip"
        assert subprocess.run([unzip, "-tq", str(packed.archive)], check=False).returncode == 0
        assert files_of(unzipped(unzip, packed.archive, tmp_path / "node") / "fb_yolo") == PREPARED

    def test_sha256sum_checks_what_unzip_made(self, unzip, tree, tmp_path):
        folder = unzipped(unzip, pack(tree).archive, tmp_path / "node") / "fb_yolo"
        check = ["sha256sum", "--check", "--strict", "--quiet", MANIFEST]
        assert subprocess.run(check, cwd=folder, check=False).returncode == 0
        (folder / "insects/labels/train/moths_a.txt").write_bytes(b"0 0.1 0.1 0.2 0.2 0.1 0.4\n")
        assert subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 1

    def test_nothing_is_compressed_and_the_manifest_comes_last(self, tree):
        with zipfile.ZipFile(pack(tree).archive) as archive:
            assert archive.testzip() is None
            assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
            names = archive.namelist()
        assert names == [f"fb_yolo/{name}" for name in [*sorted(PREPARED), MANIFEST]]

    def test_what_is_told_about_it(self, tree):
        packed = pack(tree)
        manifest = read_manifest(packed.archive)
        assert (packed.files, packed.bytes, packed.left_out) == (10, packed.archive.stat().st_size, 0)
        assert (manifest.identity, manifest.top, manifest.has_digests) == (packed.sha256, "fb_yolo", True)
        assert {member.name: (member.size, member.sha256) for member in manifest.members} == {
            f"fb_yolo/{name}": (len(content), hashlib.sha256(content).hexdigest()) for name, content in PREPARED.items()
        }

    def test_the_same_tree_gives_the_same_bytes_and_another_one_another_identity(self, tree, tmp_path):
        first = pack(tree, jobs=1)
        copy = shutil.copytree(tree, tmp_path / "elsewhere" / "fb_yolo", copy_function=shutil.copyfile)
        (copy / "data.yaml").chmod(0o755)
        os.utime(copy / "data.yaml", (1, 1))
        second = pack(copy, jobs=7)
        assert first.archive.read_bytes() == second.archive.read_bytes()
        (copy / "data.yaml").write_bytes(b"train: insects/images/trail\n")
        assert pack(copy, force=True).sha256 != first.sha256

    def test_a_single_empty_file_and_an_empty_folder(self, unzip, tmp_path):
        tree = write_tree(tmp_path / "t", {"a.txt": b""})
        (tree / "images" / "val").mkdir(parents=True)
        packed = pack(tree)
        assert packed.files == 1
        folder = unzipped(unzip, packed.archive, tmp_path / "node") / "t"
        assert files_of(folder) == {"a.txt": b""}
        assert (folder / "images" / "val").is_dir()

    @pytest.mark.parametrize("name", ["", "images"])
    def test_a_tree_without_files_is_refused(self, name, tmp_path):
        (tmp_path / "t" / name).mkdir(parents=True)
        with pytest.raises(DatasetError, match="holds no files"):
            pack(tmp_path / "t")

    def test_leftovers_and_caches_are_left_out(self, tree):
        for name in (
            ".tmp-x/new.jpg",
            ".DS_Store",
            "insects/labels/train.cache",
            "insects/images/val/.nfs01",
            MANIFEST,
        ):
            write_tree(tree, {name: b"x"})
        packed = pack(tree)
        assert packed.left_out == 5
        assert {member.name for member in read_manifest(packed.archive).members} == {f"fb_yolo/{n}" for n in PREPARED}

    def test_names_begin_with_the_folder_however_it_is_given(self, tree, tmp_path, monkeypatch):
        monkeypatch.chdir(tree)
        assert read_manifest(pack(Path(), tmp_path / "a.zip").archive).top == "fb_yolo"
        assert read_manifest(pack(Path("../fb_yolo/"), tmp_path / "b.zip").archive).top == "fb_yolo"
        (tmp_path / "latest").symlink_to(tree)
        assert read_manifest(pack(tmp_path / "latest", tmp_path / "c.zip").archive).top == "latest"


class TestZip64:
    @pytest.mark.slow
    def test_more_members_than_old_zip_files_can_count(self, unzip, tmp_path):
        count = 66_000
        write_tree(tmp_path / "t", {f"{number}.txt": b"" for number in range(count)})
        packed = pack(tmp_path / "t")
        assert packed.files == count
        assert subprocess.run([unzip, "-tqq", str(packed.archive)], check=False).returncode == 0
        assert len(read_manifest(packed.archive).members) == count

    @pytest.mark.parametrize("limit", [1, 1000, 100_000, 2_500_000])
    def test_the_records_for_sizes_and_places_beyond_the_limit(self, limit, unzip, tree, tmp_path, monkeypatch):
        # Readers take these records at any size, so the tree need not be over 4 GiB.
        monkeypatch.setattr(zip_records, "_SIZE_LIMIT", limit)
        packed = pack(tree)
        with zipfile.ZipFile(packed.archive) as archive:
            assert archive.testzip() is None
            assert any(info.extra for info in archive.infolist())
        assert files_of(unzipped(unzip, packed.archive, tmp_path / "unzipped") / "fb_yolo") == PREPARED
        assert files_of(stage(packed.archive, tmp_path / "staged").root) == PREPARED

    @pytest.mark.slow
    def test_a_file_over_four_gigabytes(self, unzip, tmp_path):
        tree = write_tree(tmp_path / "t", {"b.txt": b"behind"})
        with (tree / "a.tif").open("wb") as stream:
            stream.truncate((4 << 30) + 5)
        packed = pack(tree)
        (tree / "a.tif").unlink()
        with zipfile.ZipFile(packed.archive) as archive:
            assert archive.getinfo("t/a.tif").file_size == (4 << 30) + 5
            assert archive.read("t/b.txt") == b"behind"
        assert subprocess.run([unzip, "-tqq", str(packed.archive)], check=False).returncode == 0
        assert stage(packed.archive, tmp_path / "node", ["b.txt"]).written_bytes == 6
        packed.archive.unlink()


class TestRefused:
    def test_the_output_is_not_replaced_unasked(self, tree):
        pack(tree)
        (tree / "more.txt").write_bytes(b"more")
        with pytest.raises(OutputError, match="exists"):
            pack(tree)
        assert pack(tree, force=True).files == 11

    def test_an_output_in_the_tree_or_that_is_a_folder(self, tree, tmp_path):
        with pytest.raises(UsageError, match="would lie in the tree"):
            pack(tree, tree / "insects" / "fb_yolo.zip")
        with pytest.raises(OutputError, match="is a folder"):
            pack(tree, tmp_path)

    @pytest.mark.parametrize("name", ["absent", "a file"])
    def test_what_is_no_folder(self, name, tmp_path):
        (tmp_path / "a file").write_bytes(b"")
        with pytest.raises(DatasetError, match=r"no (such )?folder"):
            pack(tmp_path / name)

    def test_a_link_is_refused_with_its_target_and_followed_on_request(self, tree, tmp_path):
        (tmp_path / "secret.txt").write_bytes(b"secret")
        (tree / "insects" / "link.txt").symlink_to(tmp_path / "secret.txt")
        with pytest.raises(DatasetError, match=r"secret\.txt") as raised:
            pack(tree)
        assert raised.value.where.endswith("link.txt")
        packed = pack(tree, follow_links=True)
        with zipfile.ZipFile(packed.archive) as archive:
            assert archive.read("fb_yolo/insects/link.txt") == b"secret"

    @pytest.mark.parametrize("target", ["insects", "absent", "../fb_yolo"])
    def test_a_link_to_a_folder_or_to_nothing_is_never_followed(self, target, tree):
        (tree / "link").symlink_to(target)
        with pytest.raises(DatasetError, match="which is no file"):
            pack(tree, follow_links=True)

    def test_a_link_that_leads_to_itself(self, tree):
        (tree / "link").symlink_to("link")
        with pytest.raises(DatasetError, match="cannot be read: Too many levels of symbolic links") as raised:
            pack(tree, follow_links=True)
        assert raised.value.where.endswith("link")

    def test_a_pipe_or_a_socket_is_not_waited_for(self, tree):
        os.mkfifo(tree / "pipe")
        with pytest.raises(DatasetError, match="neither a file nor a folder"):
            pack(tree)
        (tree / "pipe").unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(tree / "socket"))
            with pytest.raises(DatasetError, match="neither a file nor a folder"):
                pack(tree)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            (b"a\xff.jpg", "not UTF-8"),
            (b"a\\b.jpg", "backslash"),
            (b"a\nb.jpg", "control character"),
            (b"a.jpg;1", "version number"),
        ],
    )
    def test_a_name_that_unzip_would_change_or_a_node_refuse(self, name, reason, tree):
        Path(os.fsdecode(bytes(tree) + b"/insects/" + name)).write_bytes(b"x")
        with pytest.raises(DatasetError, match=reason) as raised:
            pack(tree)
        assert "\n" not in raised.value.where.replace("a\nb", "")
        str(raised.value).encode()

    @pytest.mark.parametrize("names", [("a/x.jpg", "a/X.JPG"), ("a/x", "A/y"), ("\u00e9.jpg", "e\u0301.jpg")])
    def test_names_that_are_one_where_case_or_accents_are_not_told_apart(self, names, tmp_path):
        with pytest.raises(DatasetError, match="one file"):
            pack(write_tree(tmp_path / "t", dict.fromkeys(names, b"")))

    def test_a_file_that_cannot_be_read(self, tree, tmp_path):
        # Root may open everything, but even root gets an error when reading this one.
        (tree / "insects" / "broken.jpg").symlink_to("/proc/self/mem")
        with pytest.raises(DatasetError, match="cannot be read: Input/output error") as raised:
            pack(tree, follow_links=True)
        assert raised.value.where.endswith("broken.jpg")
        assert [path.name for path in tmp_path.iterdir()] == ["fb_yolo"]

    @pytest.mark.parametrize("size", [2_400_000, 2_600_000])
    def test_a_file_that_shrinks_or_grows_meanwhile(self, size, tree, tmp_path, monkeypatch):
        victim = tree / "insects/images/train/moths_b.jpg"
        # Between looking and reading there is one moment: when room is asked for.
        monkeypatch.setattr("flat_bug.datasets.archive.require_space", lambda *_: os.truncate(victim, size))
        with pytest.raises(DatasetError, match="changed while it was packed"):
            pack(tree)
        assert [path.name for path in tmp_path.iterdir()] == ["fb_yolo"]

    def test_a_full_disk_leaves_nothing(self, tree, tmp_path):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(OutputError, match="cannot write"):
                pack(tree)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [path.name for path in tmp_path.iterdir()] == ["fb_yolo"]


PART = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\;"), min_size=1, max_size=12
).filter(lambda part: not part.startswith(".") and not part.endswith(".cache") and len(part.encode()) < 200)
FILES = st.dictionaries(
    st.lists(PART, min_size=1, max_size=4).map("/".join), st.binary(max_size=300), min_size=1, max_size=6
)


@given(files=FILES)
@settings(max_examples=60)
def test_any_tree_comes_back_by_stage_and_by_unzip(unzip, tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("any")
    try:
        tree = write_tree(folder / "t", files)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return  # a name is that of a file and of a folder
    try:
        archive = pack(tree).archive
    except DatasetError as error:
        if "one file" in error.what:
            return
        raise
    assert files_of(stage(archive, folder / "staged").root) == files
    assert files_of(unzipped(unzip, archive, folder / "unzipped") / "t") == files
    shutil.rmtree(folder)


class TestCommand:
    def fb(self, *tokens: object) -> int:
        words = ["data", "pack", *map(str, tokens)]
        return run(build_app(words), words)

    def test_it_says_where_and_what_to_do_next(self, tree, tmp_path, capsys):
        assert self.fb(tree, "-o", tmp_path / "my data.zip") == 0
        said = capsys.readouterr().out
        assert f"Packed: {tmp_path / 'my data.zip'}" in said
        assert "10 files, 2.59 MB" in said
        assert f"fb data stage '{tmp_path / 'my data.zip'}' $SLURM_TMPDIR --only images/val,labels/val" in said

    def test_json_is_one_object(self, tree, capsys):
        assert self.fb(tree, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert said["archive"] == f"{tree}.zip"
        assert said["sha256"] == read_manifest(Path(f"{tree}.zip")).identity

    def test_errors_are_three_lines(self, tree, tmp_path, capsys):
        assert self.fb(tmp_path / "absent") == 2
        assert self.fb(tree, "--jobs", 0) == 2
        assert capsys.readouterr().err.splitlines() == [
            "fb: there is no such folder",
            f"    {tmp_path / 'absent'}",
            "    Give the folder that fb data prepare made.",
            "fb: the number of threads is not positive",
            "    --jobs 0",
            "    Give 1 or more.",
        ]
