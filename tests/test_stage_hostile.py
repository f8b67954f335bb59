"""Archives that are broken, or that somebody made to do harm: nothing outside of the folder changes, ever."""

import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.archives import PREPARED, everything, files_of, raw_zip, write_tree, zip_of

from flat_bug.datasets.archive import pack, read_manifest
from flat_bug.datasets.stage import LOCK, stage
from flat_bug.errors import DatasetError, FlatBugError

SMALL = {"data.yaml": b"val: images/val\n", "images/val/a.jpg": b"picture " * 40, "images/val/b.jpg": b"\x00\xff" * 90}
CENTRAL = b"PK\x01\x02"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return tmp_path / "outer" / "node"


def refused(archive: Path, node: Path, match: str) -> DatasetError:
    """Stage an archive that is to be refused, and return why; nothing may be there after it."""
    with pytest.raises(DatasetError, match=match) as raised:
        stage(archive, node)
    assert everything(node.parent).keys() <= {node.name, f"{node.name}/{LOCK}"}
    return raised.value


def edited(archive: Path, edit: Callable[[bytearray], object]) -> Path:
    content = bytearray(archive.read_bytes())
    edit(content)
    archive.write_bytes(content)
    return archive


def member(name: str, mode: int = 0, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = method
    return info


class TestNames:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("../evil", "leads out"),
            ("t/../../evil", "leads out"),
            ("t/..", "leads out"),
            ("/etc/evil", "absolute"),
            ("//host/evil", "absolute"),
            ("C:/evil", "absolute"),
            ("c:evil", "absolute"),
            ("t\\..\\..\\evil", "backslash"),
            ("t/a\0.jpg", "NUL"),
            ("t/a\nb.jpg", "control character"),
            ("t/\x1b[2J", "control character"),
            ("t/\x9bm", "control character"),
            ("t//a", "empty part"),
            ("t/./a", "empty part"),
            ("./t/a", "empty part"),
            ("t/a//", "empty part"),
            ("", "empty part"),
            ("/", "empty part"),
            (f"t/{'a' * 256}", "too long"),
            (f"t/{'é' * 128}", "too long"),
            ("t/" + "a/" * 1600 + "a", "too long"),
        ],
    )
    def test_a_name_that_would_land_elsewhere(self, name, reason, node, tmp_path):
        refused(zip_of(tmp_path / "a.zip", [("t/data.yaml", b""), (name, b"evil")]), node, reason)

    @pytest.mark.parametrize("declared", [True, False])
    def test_a_name_that_is_not_utf8(self, declared, node, tmp_path):
        archive = raw_zip(tmp_path / "a.zip", [(b"t/\xff.jpg", b"")])
        if not declared:
            edited(archive, lambda content: struct.pack_into("<H", content, content.index(CENTRAL) + 8, 0))
        error = refused(archive, node, "(?i)utf-8")
        str(error).encode()

    @pytest.mark.parametrize(
        "names",
        [
            ("t/a", "t/a"),
            ("t/a.jpg", "t/A.JPG"),
            ("t/A/x", "t/a/y"),
            ("t/a", "t/a/b"),
            ("t/a", "t/A/"),
            ("t/ß", "t/SS"),
            ("t/ß\u0323", "t/ss\u0323"),
        ],
    )
    def test_two_members_that_are_one_file_somewhere(self, names, node, tmp_path):
        refused(zip_of(tmp_path / "a.zip", [(name, b"") for name in names]), node, "clashes with")

    @pytest.mark.parametrize("names", [("t/a", "u/a"), ("t/a", "data.yaml"), ("data.yaml",)])
    def test_an_archive_that_does_not_hold_one_folder(self, names, node, tmp_path):
        refused(zip_of(tmp_path / "a.zip", [(name, b"") for name in names]), node, "one folder")

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR])
    def test_a_member_that_is_no_file(self, kind, node, tmp_path):
        archive = zip_of(tmp_path / "a.zip", [("t/a", b""), (member("t/b", kind | 0o777), b"../../victim")])
        refused(archive, node, "symbolic link|neither a file nor a folder")

    def test_a_link_as_a_folder_for_the_next_member(self, node, tmp_path):
        link = (member("t/images", stat.S_IFLNK | 0o777), b"/etc")
        refused(zip_of(tmp_path / "a.zip", [link, ("t/images/passwd", b"evil")]), node, "link|clashes")

    def test_shell_words_are_letters_like_others(self, node, tmp_path):
        names = ["t/$(touch x)", "t/`id`", "t/;reboot", "t/'\"", "t/*", "t/-rf", "t/a|b", "t/~"]
        staged = stage(zip_of(tmp_path / "a.zip", [(name, name.encode()) for name in names]), node)
        assert files_of(staged.root) == {name[2:]: name.encode() for name in names}


PARTS = st.one_of(
    st.sampled_from(["..", ".", "", "/", "a", "A", "C:", "~", "\\", "\0", "t", ".flat-bug-staged.json"]),
    st.text(max_size=4).filter(lambda text: max(text, default="") < "\ud800" or max(text) > "\udfff"),
)


@given(names=st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=4), top=st.booleans())
@settings(max_examples=150)
def test_whatever_the_names_nothing_outside_changes(names, top):
    with tempfile.TemporaryDirectory() as folder:
        outer = Path(folder)
        outside = write_tree(outer / "outside", {"victim": b"precious", "node/t2/x": b""})
        members = [(f"t/{name}" if top else name, b"evil") for name in names]
        archive = zip_of(outer / "a.zip", members)
        before = everything(outside)
        try:
            staged = stage(archive, outside / "node")
        except FlatBugError:
            after = everything(outside)
            after.pop(f"node/{LOCK}", None)
            assert after == before
        else:
            inside = f"node/{staged.root.name}"
            after = {
                name: content for name, content in everything(outside).items() if not name.startswith(inside + "/")
            }
            assert after.pop(f"node/{LOCK}") is not None
            assert after == {**before, inside: None}


class TestStructure:
    def test_an_encrypted_member(self, node, tmp_path):
        archive = zip_of(tmp_path / "a.zip", [("t/a", b"secret")])

        def encrypt(content: bytearray) -> None:
            content[6] |= 1
            content[content.index(CENTRAL) + 8] |= 1

        refused(edited(archive, encrypt), node, "encrypted")

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_another_compression(self, method, node, tmp_path):
        refused(zip_of(tmp_path / "a.zip", [(member("t/a", method=method), b"x" * 99)]), node, "method")

    def test_members_that_share_their_bytes(self, node, tmp_path):
        archive = raw_zip(tmp_path / "a.zip", [(b"t/a", b"x" * 1000), (b"t/b", b"y" * 1000)])

        def point_the_second_at_the_first(content: bytearray) -> None:
            second = content.index(CENTRAL, content.index(CENTRAL) + 1)
            struct.pack_into("<I", content, second + 42, 0)

        refused(edited(archive, point_the_second_at_the_first), node, "overlaps")

    def test_a_member_that_reaches_into_the_next_by_its_local_extra_field(self, node, tmp_path):
        archive = raw_zip(tmp_path / "a.zip", [(b"t/a", b"x" * 1000), (b"t/b", b"y" * 1000)])
        refused(edited(archive, lambda content: struct.pack_into("<H", content, 28, 40)), node, "contradicts")

    @pytest.mark.parametrize(("place", "value"), [(14, 1), (18, 7), (22, 7), (26, 2), (8, 8), (6, 1), (0, 0)])
    def test_a_local_header_that_says_something_else(self, place, value, node, tmp_path):
        archive = raw_zip(tmp_path / "a.zip", [(b"t/a", b"x" * 1000)])
        refused(edited(archive, lambda content: struct.pack_into("<H", content, place, value)), node, "contradicts")

    @pytest.mark.parametrize("size", [5, 0, 1_000_000_000])
    def test_a_stored_member_that_lies_about_its_size(self, size, node, tmp_path):
        archive = raw_zip(tmp_path / "a.zip", [(b"t/a", b"x" * 1000)])

        def lie(content: bytearray) -> None:
            for place in (22, content.index(CENTRAL) + 24):
                struct.pack_into("<I", content, place, size)

        refused(edited(archive, lie), node, "sizes contradict")

    @pytest.mark.parametrize(
        ("size", "reason"), [(10, "longer"), (110_000, "not what was packed"), (4_000_000_000, "sizes contradict")]
    )
    def test_a_deflated_member_that_lies_about_its_size(self, size, reason, node, tmp_path):
        archive = zip_of(tmp_path / "a.zip", [("t/a", b"x" * 100_000)], deflate=True)

        def lie(content: bytearray) -> None:
            for place in (22, content.index(CENTRAL) + 24):
                struct.pack_into("<I", content, place, size)

        refused(edited(archive, lie), node, reason)

    def test_a_folder_with_content(self, node, tmp_path):
        refused(raw_zip(tmp_path / "a.zip", [(b"t/a", b""), (b"t/b/", b"hidden")]), node, "folder with content")

    def test_what_is_refused_in_one_part_is_refused_for_every_other(self, tmp_path, node):
        archive = zip_of(tmp_path / "a.zip", [("t/images/val/a", b""), ("t/labels/val/../../../x", b"")])
        with pytest.raises(DatasetError, match="leads out"):
            stage(archive, node, ["images/val"])

    @pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file" * 100, b"PK\x05\x06" + b"\0" * 18])
    def test_what_is_no_archive_or_holds_nothing(self, content, node, tmp_path):
        (tmp_path / "a.zip").write_bytes(content)
        refused(tmp_path / "a.zip", node, "no zip archive|holds no files")

    @pytest.mark.parametrize("path", ["absent.zip", "."])
    def test_an_archive_that_cannot_be_opened(self, path, node, tmp_path):
        refused(tmp_path / path, node, "cannot be read")


class TestDigests:
    @pytest.mark.parametrize("at", [0, 0.5, 0.9999])
    def test_a_flipped_byte_in_a_large_member_is_named(self, at, node, tmp_path):
        archive = pack(write_tree(tmp_path / "fb_yolo")).archive
        picture = PREPARED["insects/images/train/moths_b.jpg"]

        def flip(content: bytearray) -> None:
            content[content.index(picture) + int(at * len(picture))] ^= 1

        error = refused(edited(archive, flip), node, "damaged at 'fb_yolo/insects/images/train/moths_b.jpg'")
        assert "again" in error.mend

    def test_content_of_the_same_checksum_is_told_by_its_digest(self, node, tmp_path):
        # Another picture, under the CRC that belongs to it, in an archive whose manifest is of the first one.
        first = pack(write_tree(tmp_path / "t", SMALL)).archive
        with zipfile.ZipFile(first) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        changed = [(name, content.replace(b"picture", b"forgery")) for name, content in members]
        refused(zip_of(tmp_path / "b.zip", changed), node, "not what was packed")

    @pytest.mark.parametrize("change", ["one more", "one less", "another name", "no text", "twice"])
    def test_a_manifest_that_names_something_else(self, change, node, tmp_path):
        with zipfile.ZipFile(pack(write_tree(tmp_path / "t", SMALL)).archive) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        *_, manifest = members
        if change == "one more":
            members["t/more"] = b""
        elif change == "one less":
            del members["t/data.yaml"]
        elif change == "another name":
            members[manifest] = members[manifest].replace(b"a.jpg", b"z.jpg")
        elif change == "no text":
            members[manifest] = b"\xff" * len(members[manifest])
        else:
            members[manifest] = members[manifest].replace(b"a.jpg", b"b.jpg")
        refused(zip_of(tmp_path / "b.zip", members.items()), node, "manifest does not name")

    def test_a_manifest_that_would_fill_the_memory(self, node, tmp_path):
        members = [("t/a", b""), ("t/.flat-bug-archive.sha256", b"\0" * 50_000_000)]
        refused(zip_of(tmp_path / "a.zip", members, deflate=True), node, "manifest does not name")


@pytest.fixture(scope="module")
def small_archives(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return an archive of ours, and one as zip makes them: with folders, and deflated."""
    folder = tmp_path_factory.mktemp("small")
    ours = pack(write_tree(folder / "t", SMALL)).archive
    members = [("t/", b""), ("t/images/", b""), *((f"t/{name}", content) for name, content in SMALL.items())]
    return [ours.read_bytes(), zip_of(folder / "zip.zip", members, deflate=True).read_bytes()]


@given(which=st.sampled_from([0, 1]), place=st.integers(0, 10_000), value=st.integers(1, 255))
@settings(max_examples=200)
def test_any_byte_may_flip_and_what_is_staged_is_right_or_nothing_is(small_archives, which, place, value):
    content = bytearray(small_archives[which])
    content[place % len(content)] ^= value
    check_right_or_nothing(content)


@given(which=st.sampled_from([0, 1]), keep=st.integers(0, 10_000))
def test_an_archive_that_is_cut_off_is_refused(small_archives, which, keep):
    content = small_archives[which]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "a.zip"
        archive.write_bytes(content[: keep % len(content)])
        with pytest.raises(DatasetError):
            stage(archive, Path(folder) / "node")


@given(which=st.sampled_from([0, 1]), place=st.integers(0, 10_000), noise=st.binary(min_size=1, max_size=60))
@settings(max_examples=150)
def test_nor_does_noise_in_its_middle(small_archives, which, place, noise):
    content = bytearray(small_archives[which])
    place %= len(content)
    content[place : place + len(noise)] = noise
    check_right_or_nothing(content)


def check_right_or_nothing(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive, node = Path(folder) / "a.zip", Path(folder) / "node"
        archive.write_bytes(content)
        try:
            staged = stage(archive, node)
        except FlatBugError as error:
            str(error).encode()
            assert everything(node).keys() <= {LOCK}
        else:
            files = files_of(staged.root)
            # Which of its files a damaged directory lists is all that may differ, and only where no manifest says.
            assert files == SMALL or (not read_manifest(archive).has_digests and files.items() <= SMALL.items())
