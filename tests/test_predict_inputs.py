"""Which images are meant, and that each gets a name of its own."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flat_bug.errors import UsageError
from flat_bug.prediction_run import find_images
from flat_bug.prediction_run.inputs import LONGEST_NAME


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files at two levels."""
    hidden = (".hidden.jpg", "._a.png", ".tmp-1/new.png")
    for name in ("b.JPG", "a.png", "notes.csv", *hidden, "sub/a.png", "sub/deeper/c.tif"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def names_of(*given: str | Path, **options: object) -> list[str]:
    return [image.file_name for image in find_images(given, **options)]  # type: ignore[arg-type]


def test_a_folder_means_the_images_in_it(folder: Path) -> None:
    assert names_of(folder) == ["a.png", "b.JPG"]


def test_recursive_means_those_below_as_well(folder: Path) -> None:
    assert names_of(folder, recursive=True) == ["a.png", "b.JPG", "sub/a.png", "sub/deeper/c.tif"]


def test_the_pattern_is_searched_in_the_name_in_any_case(folder: Path) -> None:
    assert names_of(folder, pattern=r"\.jpg$") == ["b.JPG"]
    assert names_of(folder, pattern="^a", recursive=True) == ["a.png", "sub/a.png"]


def test_a_limit_takes_the_first_and_changes_no_names(folder: Path) -> None:
    every = find_images([folder], recursive=True)
    assert find_images([folder], recursive=True, limit=3) == every[:3]


def test_a_named_file_is_meant_whatever_its_name(folder: Path) -> None:
    assert names_of(folder / "notes.csv") == ["notes.csv"]
    assert names_of(folder / ".hidden.jpg") == [".hidden.jpg"]


def test_several_inputs_are_named_from_the_nearest_common_folder(folder: Path) -> None:
    assert names_of(folder / "sub", folder / "b.JPG", folder / "b.JPG") == ["b.JPG", "sub/a.png"]


def test_a_pattern_of_paths_means_the_files_that_fit(folder: Path) -> None:
    assert names_of(str(folder / "*" / "*.png")) == ["a.png"]
    assert names_of(str(folder / "**" / "*.*")) == ["a.png", "b.JPG", "notes.csv", "sub/a.png", "sub/deeper/c.tif"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "a[1]*.png").touch()
    assert names_of(folder / "a[1]*.png") == ["a[1]*.png"]


def test_a_list_names_images_from_where_it_lies(folder: Path) -> None:
    listed = folder / "some.txt"
    listed.write_text(f"b.JPG\n\n  sub/a.png  \nmissing.png\n{folder / 'sub' / 'deeper' / 'c.tif'}\n")
    assert names_of(listed) == ["b.JPG", "missing.png", "sub/a.png", "sub/deeper/c.tif"]


def test_a_list_may_have_notes_and_come_from_windows(folder: Path) -> None:
    listed = folder / "some.txt"
    listed.write_bytes("\ufeff# the first tray\r\nb.JPG\r\n\r\n  # sub/a.png\r\n./#1.png\r\n".encode())
    assert names_of(listed) == ["#1.png", "b.JPG"]


def test_a_list_may_come_from_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("b.JPG\n# no more\nsub/a.png\n"))
    assert names_of("-") == ["b.JPG", "sub/a.png"]


def test_links_to_folders_are_followed_once(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "d.png").touch()
    (folder / "there").symlink_to(folder.parent / "elsewhere")
    assert names_of(folder, recursive=True) == ["a.png", "b.JPG", "sub/a.png", "sub/deeper/c.tif", "there/d.png"]


def test_results_of_a_former_run_are_not_images(folder: Path) -> None:
    (folder / "out" / "a").mkdir(parents=True)
    (folder / "out" / "a" / "overview_a_UUID_1.jpg").touch()
    assert "out" not in " ".join(names_of(folder, recursive=True, exclude=folder / "out"))


def test_images_may_lie_in_the_output_and_its_results_are_none_of_them(folder: Path) -> None:
    for name in (
        "a/overview_a_UUID_1.jpg",
        "a/crops/crop_a_CROPNUMBER_0_UUID_1.png",
        "viewer/a/1.jpg",
        "yolo/images/a.png",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert names_of(folder, exclude=folder) == ["a.png", "b.JPG"]
    assert names_of(folder, exclude=folder, recursive=True) == ["a.png", "b.JPG", "sub/a.png", "sub/deeper/c.tif"]
    assert names_of(folder / "sub", exclude=folder) == ["a.png"]
    (folder.parent / "link").symlink_to(folder)
    assert names_of(folder, exclude=folder.parent / "link", recursive=True) == names_of(
        folder, exclude=folder, recursive=True
    )


def names_for(tmp_path: Path, *files: str) -> dict[str, str]:
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return {image.file_name: image.name for image in find_images([tmp_path], recursive=True, pattern="")}


def test_one_stem_in_several_folders(tmp_path: Path) -> None:
    assert names_for(tmp_path, "asub/a.jpg", "sub/a.jpg", "a.jpg", "a.png", "b/other.png") == {
        "a.jpg": "a",
        "a.png": "a__png",
        "asub/a.jpg": "asub__a",
        "b/other.png": "other",
        "sub/a.jpg": "sub__a",
    }


def test_names_that_some_file_systems_hold_for_one(tmp_path: Path) -> None:
    names = names_for(tmp_path, "x/Ä.jpg", "y/A\u0308.jpg", "z/ä.jpg")
    assert sorted(names.values()) == ["y__A\u0308", "z__ä", "Ä"]


def test_names_that_are_made_on_purpose_to_meet(tmp_path: Path) -> None:
    names = names_for(tmp_path, "a/b.jpg", "a__b.jpg", "b.jpg", "a__b.png", "a/b.png")
    assert len(set(names.values())) == 5


def test_names_that_would_leave_the_output_or_hide_its_files(tmp_path: Path) -> None:
    files = ["coco_instances.json.jpg", "summary.csv.jpg", "...jpg", "..jpg"]
    for name in files:
        (tmp_path / name).touch()
    names = [image.name for image in find_images([tmp_path / name for name in files])]
    assert not {".", "..", "coco_instances.json", "summary.csv"} & set(names)
    assert not any("/" in name for name in names)


def test_long_names_stay_apart(tmp_path: Path) -> None:
    names = names_for(tmp_path, "ü" * 110 + "1.jpg", "ü" * 110 + "2.jpg")
    assert len(set(names.values())) == 2
    assert all(len(name.encode()) <= LONGEST_NAME for name in names.values())


@given(st.sets(st.from_regex(r"(a/|b/|a__)?[aA](__a)?\.(a|b)", fullmatch=True), max_size=8))
@settings(max_examples=40)
def test_names_are_always_unique(tmp_path_factory: pytest.TempPathFactory, files: set[str]) -> None:
    if files:
        names = names_for(tmp_path_factory.mktemp("files"), *files)
        assert len({name.casefold() for name in names.values()}) == len(files)


def test_a_folder_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="no such file or folder") as caught:
        find_images(["nowhere"])
    assert caught.value.where == "nowhere"
