"""From COCO folders to a prepared tree, whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import pyvips
import shapely
from tests.conftest import missing as lacking

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.datasets.coco import read_coco
from flat_bug.datasets.prepare import prepare
from flat_bug.errors import DatasetError, FlatBugError, OutputError, UsageError

WIDTH, HEIGHT = 64, 48
RING = [8, 8, 24, 8, 24, 24, 8, 24]


def write_image(path: Path, seed: int | str = 0, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write a picture that looks like no other seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(seed).encode()))
    pixels = rng.integers(0, 255, (6, 8, 3), np.uint8)
    picture = pyvips.Image.new_from_array(pixels).resize(width / 8, vscale=height / 6, kernel="cubic")
    picture.write_to_file(str(path))
    return path


def image_of(number: int, name: str, **values: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, **values}


def animal(number: int, image: int = 1, **values: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 1, "segmentation": [RING], "iscrowd": 0, **values}


def write_dataset(
    folder: Path,
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]] = (),
    *,
    draw: bool = True,
    **members: Any,
) -> Path:
    """Write a dataset folder; each image is drawn unless it is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in images if draw else ():
        if not (folder / entry["file_name"]).exists():
            write_image(folder / entry["file_name"], f"{folder.name}/{entry['file_name']}")
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "insect"}], **members}
    (folder / "instances_default.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "pre-pro"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "fb_yolo"


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def totals(summary: pl.DataFrame) -> dict[str, Any]:
    return summary.row(-1, named=True)


class TestTree:
    def test_what_is_made(self, source, output):
        write_dataset(source / "moths", [image_of(1, "a.jpg"), image_of(2, "b.jpg")], [animal(1), animal(2)])
        write_dataset(source / "light_traps", [image_of(9, "a.PNG")], [animal(5, 9)])
        prepared = prepare(source, output, validation=0)
        assert files_in(output) == {
            "data.yaml",
            "insects/manifest.json",
            "insects/images/train/light_traps_a.PNG",
            "insects/images/train/moths_a.jpg",
            "insects/images/train/moths_b.jpg",
            "insects/labels/train/light_traps_a.txt",
            "insects/labels/train/moths_a.txt",
            "insects/labels/train/moths_b.txt",
            "insects/labels/train/instances_default.json",
            "insects/labels/val/instances_default.json",
        }
        assert prepared.output == output
        assert prepared.summary["dataset"].to_list() == ["light_traps", "moths", "(all)"]
        assert totals(prepared.summary) == {
            "dataset": "(all)",
            **{"images": 3, "train": 3, "val": 0, "empty": 1, "animals": 3},
            **{"crowd": 0, "boxes": 0, "repaired": 0, "clipped": 0, "dropped": 0},
        }
        assert (output / "insects/labels/train/moths_b.txt").read_text() == ""
        assert (output / "insects/labels/train/light_traps_a.txt").read_text() == (
            "0 0.125 0.166666667 0.375 0.166666667 0.375 0.5 0.125 0.5\n"
        )

    def test_the_annotations_of_a_split_count_from_one_and_name_their_dataset(self, source, output):
        write_dataset(source / "light_traps", [image_of(70, "a.jpg")], [animal(50, 70), animal(40, 70)])
        write_dataset(source / "moths", [image_of(70, "a.jpg")], [animal(50, 70)])
        prepare(source, output, validation=0)
        document = json.loads((output / "insects/labels/train/instances_default.json").read_text())
        assert [entry["id"] for entry in document["images"]] == [1, 2]
        assert [entry["dataset"] for entry in document["images"]] == ["light_traps", "moths"]
        assert [entry["file_name"] for entry in document["images"]] == ["light_traps_a.jpg", "moths_a.jpg"]
        assert [(entry["id"], entry["image_id"]) for entry in document["annotations"]] == [(1, 1), (2, 1), (3, 2)]
        assert document["annotations"][0]["segmentation"] == [RING]
        assert document["annotations"][0]["area"] == 256
        assert document["annotations"][0]["bbox"] == [8, 8, 16, 16]
        assert document["categories"] == [{"id": 1, "name": "insect", "supercategory": ""}]

    def test_the_split_follows_the_bytes_of_the_images(self, source, output):
        names = [f"{number}.png" for number in range(40)]
        write_dataset(source / "moths", [image_of(number, name) for number, name in enumerate(names)])
        prepared = prepare(source, output, validation=0.3)
        for name in names:
            digest = hashlib.md5((source / "moths" / name).read_bytes(), usedforsecurity=False).hexdigest()
            split = "val" if int(digest[:4], 16) / 65535 < 0.3 else "train"
            assert (output / "insects/images" / split / f"moths_{name}").is_file()
        assert 0 < totals(prepared.summary)["val"] < 40
        assert prepared.similar == ()

    def test_all_images_can_be_held_back_and_an_empty_side_is_noted(self, source, output):
        write_dataset(source / "moths", [image_of(1, "a.jpg")], [animal(1)])
        prepared = prepare(source, output, validation=1)
        assert totals(prepared.summary)["val"] == 1
        assert prepared.notes == ("no image fell into train",)
        assert (output / "insects/images/train").is_dir()

    def test_images_are_linked_where_that_is_safe(self, source, output):
        clean, trailing = source / "moths" / "a.jpg", source / "moths" / "b.jpg"
        write_dataset(source / "moths", [image_of(1, "a.jpg"), image_of(2, "b.jpg")])
        trailing.write_bytes(trailing.read_bytes() + b"trailing bytes make ultralytics rewrite the file")
        prepare(source, output, validation=0)
        assert (output / "insects/images/train/moths_a.jpg").samefile(clean)
        assert not (output / "insects/images/train/moths_b.jpg").samefile(trailing)
        assert (output / "insects/images/train/moths_b.jpg").read_bytes() == trailing.read_bytes()

    def test_images_are_copied_from_another_file_system(self, output, tmp_path):
        other = Path("/dev/shm")  # noqa: S108 - the other file system that every Linux has
        if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
            lacking("a second file system in /dev/shm")
        source = other / f"flat-bug-{os.getpid()}"
        try:
            write_dataset(source / "moths", [image_of(1, "a.jpg")])
            prepare(source, output, validation=0)
            copied = output / "insects/images/train/moths_a.jpg"
            assert copied.read_bytes() == (source / "moths/a.jpg").read_bytes()
            assert copied.stat().st_nlink == 1
        finally:
            shutil.rmtree(source, ignore_errors=True)

    def test_the_manifest_names_every_file_with_its_digest(self, source, output):
        write_dataset(source / "moths", [image_of(1, "a.jpg")], [animal(1)], info={"source": "here"}, licenses=[1])
        prepare(source, output, validation=0)
        manifest = json.loads((output / "insects/manifest.json").read_text())
        for path, digest in manifest["digests"].items():
            assert hashlib.sha256((output / path).read_bytes()).hexdigest() == digest
        (entry,) = manifest["images"]
        image, labels = output / "insects/images/train/moths_a.jpg", output / "insects/labels/train/moths_a.txt"
        assert entry == {
            **{"file_name": "moths_a.jpg", "dataset": "moths", "source": "a.jpg", "split": "train"},
            **{"width": WIDTH, "height": HEIGHT, "instances": 1},
            "sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
            "labels_sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
        }
        assert manifest["datasets"]["moths"]["info"] == {"source": "here"}
        assert manifest["split"]["fraction"] == 0

    def test_preparing_twice_gives_the_same_bytes(self, source, tmp_path):
        for name in ("moths", "flies"):
            write_dataset(source / name, [image_of(k, f"{k}.jpg") for k in range(9)], [animal(k, k) for k in range(9)])
        trees = [prepare(source, tmp_path / name, validation=0.5).output for name in ("one", "two")]
        assert files_in(trees[0]) == files_in(trees[1])
        assert all((trees[0] / path).read_bytes() == (trees[1] / path).read_bytes() for path in files_in(trees[0]))

    @pytest.mark.slow
    @pytest.mark.train
    def test_ultralytics_reads_it_from_anywhere(self, source, output, tmp_path, monkeypatch):
        monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
        from ultralytics import data

        other = [40, 0, 64, 0, 64, 48]
        annotations = [animal(1), animal(2, segmentation=[other])]
        write_dataset(source / "moths", [image_of(1, "a.jpg"), image_of(2, "b.jpg")], annotations)
        prepare(source, output, validation=0)
        described = data.utils.check_det_dataset(str(output / "data.yaml"))
        dataset = data.YOLODataset(img_path=described["train"], data=described, task="segment")
        assert described["names"] == {0: "insect"}
        assert [len(label["segments"]) for label in dataset.labels] == [2, 0]
        assert np.allclose(dataset.labels[0]["bboxes"], [[0.25, 1 / 3, 0.25, 1 / 3], [0.8125, 0.5, 0.375, 1]])


class TestAnnotations:
    @pytest.fixture
    def prepared(self, source, output):
        """Return a function that prepares one image with these annotations: summary, label rows and annotations."""

        def prepared(*annotations: dict[str, Any], **members: Any):
            write_dataset(source / "moths", [image_of(1, "a.jpg")], annotations, **members)
            summary = totals(prepare(source, output, validation=0).summary)
            rows = (output / "insects/labels/train/moths_a.txt").read_text().splitlines()
            return summary, rows, read_coco(output / "insects/labels/train/instances_default.json").images[0]

        return prepared

    def test_crowds_and_outlines_without_area_are_no_labels_but_are_kept_to_be_ignored(self, prepared):
        line = [1, 1, 5, 5, 9, 9]
        summary, rows, image = prepared(animal(1), animal(2, iscrowd=1), animal(3, segmentation=[line]))
        assert (summary["animals"], summary["crowd"], summary["dropped"], len(rows)) == (1, 1, 1, 1)
        assert image.crowd.tolist() == [False, True, True]
        assert image.annotations[2]["segmentation"] == [line]

    def test_an_outline_that_crosses_itself_is_repaired(self, prepared):
        summary, rows, image = prepared(animal(1, segmentation=[[0, 0, 16, 16, 16, 0, 0, 16]]))
        assert (summary["repaired"], len(rows)) == (1, 1)
        assert len(image.annotations[0]["segmentation"]) == 2
        assert image.polygons[0].area == 128
        assert not image.repaired[0]

    def test_a_repair_that_rings_cannot_express_is_left_to_the_reader(self, prepared):
        pinched = [0, 0, 20, 0, 20, 20, 10, 20, 15, 10, 5, 10, 10, 20, 0, 20]
        summary, _, image = prepared(animal(1, segmentation=[pinched]))
        assert summary["repaired"] == 1
        assert image.annotations[0]["segmentation"] == [pinched]
        assert image.polygons[0].area == 350

    def test_parts_stay_apart_in_the_annotations_and_are_bridged_in_the_labels(self, prepared):
        parts = [[0, 0, 8, 0, 8, 8, 0, 8], [20, 0, 28, 0, 28, 8, 20, 8]]
        _, rows, image = prepared(animal(1, segmentation=parts))
        ring = np.array(rows[0].split()[1:], float).reshape(-1, 2) * (WIDTH, HEIGHT)
        assert image.annotations[0]["segmentation"] == parts
        assert abs(shapely.Polygon(ring).area - 128) < 1e-6

    def test_run_length_masks_are_kept_and_labelled(self, prepared):
        mask = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * 2, HEIGHT * (WIDTH - 2)]}
        _, rows, image = prepared(animal(1, segmentation=mask))
        assert image.annotations[0]["segmentation"] == mask
        assert sorted(set(rows[0].split()[1:]), key=float) == ["0", "0.03125", "1"]

    def test_a_box_without_an_outline_becomes_one_and_stays_marked(self, prepared):
        summary, rows, image = prepared(animal(1, segmentation=[], bbox=[4, 4, 8, 8]))
        assert (summary["boxes"], len(rows)) == (1, 1)
        assert image.box_only.tolist() == [True]
        assert image.polygons[0].equals(shapely.box(4, 4, 12, 12))

    def test_what_reaches_out_of_the_image_is_cut_in_the_labels_only(self, prepared):
        beyond = [-8, -8, 16, -8, 16, 12, -8, 12]
        summary, rows, image = prepared(animal(1, segmentation=[beyond]))
        values = np.array(rows[0].split()[1:], float)
        assert summary["clipped"] == 1
        assert sorted(set(values.tolist())) == [0, 0.25]
        assert image.polygons[0].bounds == (-8, -8, 16, 12)

    def test_an_outline_that_leaves_and_returns_is_cut_into_its_areas(self, prepared):
        # Beside its two areas inside, it runs along the image's border from outside.
        comb = [0, 10, 10, 10, 10, 14, 0, 14, -5, 20, 0, 25, 10, 25, 10, 30, 0, 30, -9, 20]
        summary, rows, _ = prepared(animal(1, segmentation=[comb]))
        ring = np.array(rows[0].split()[1:], float).reshape(-1, 2) * (WIDTH, HEIGHT)
        assert summary["clipped"] == 1
        assert abs(shapely.Polygon(ring).area - 90) < 1e-6

    def test_several_categories_become_one(self, source, output):
        categories = [{"id": 90, "name": "moth"}, {"id": 4, "name": "fly"}]
        annotations = [animal(1, category_id=90), animal(2, category_id=4)]
        write_dataset(source / "moths", [image_of(1, "a.jpg")], annotations, categories=categories)
        prepared = prepare(source, output, validation=0)
        (image,) = read_coco(output / "insects/labels/train/instances_default.json").images
        assert image.classes.tolist() == [1, 1]
        assert "moths: its 2 categories become one, insect" in prepared.notes

    def test_what_an_entry_holds_beyond_coco_is_kept(self, prepared):
        _, _, image = prepared(animal(1, attributes={"auto_mask": True}, bbox=[0, 0, 30, 30]))
        assert image.annotations[0]["attributes"] == {"auto_mask": True}
        assert image.boxes.tolist() == [[0, 0, 30, 30]]


class TestImages:
    def test_names_with_spaces_quotes_and_accents(self, source, output):
        names = ["Käfer 1.jpg", 'it\'s "one".JPEG', "$(touch x); 蝶.tif"]
        write_dataset(source / "Mücken & co", [image_of(k, name) for k, name in enumerate(names)])
        prepare(source, output, validation=0)
        made = {path.name for path in (output / "insects/images/train").iterdir()}
        assert made == {f"Mücken & co_{name}" for name in names}

    def test_accents_written_in_either_way_are_the_same(self, source, output):
        write_image(source / "moths" / "Ka\u0308fer.jpg")
        write_dataset(source / "moths", [image_of(1, "K\u00e4fer.jpg")], draw=False)
        assert totals(prepare(source, output).summary)["images"] == 1

    def test_images_in_folders_of_a_dataset(self, source, output):
        write_image(source / "moths/images/default/c.jpg", 3)
        entries = [image_of(1, "one/a.jpg"), image_of(2, "two/a.jpg")]
        write_dataset(source / "moths", entries)
        write_dataset(source / "moths", [*entries, image_of(3, "c.jpg")], [animal(1, 2)], draw=False)
        prepare(source, output, validation=0)
        made = {path.name for path in (output / "insects/images/train").iterdir()}
        assert made == {"moths_a.jpg", "moths_two__a.jpg", "moths_c.jpg"}
        assert (output / "insects/labels/train/moths_a.txt").read_text() == ""
        assert (output / "insects/labels/train/moths_two__a.txt").read_text() != ""

    def test_images_that_are_not_listed_are_left_out_with_a_note(self, source, output):
        write_image(source / "moths/b.jpg", 2)
        write_image(source / "moths/.thumbnails/c.jpg", 3)
        write_dataset(source / "moths", [image_of(1, "a.jpg")])
        prepared = prepare(source, output, validation=0)
        assert totals(prepared.summary)["images"] == 1
        assert "moths: 1 images are not in the annotations and left out, such as b.jpg" in prepared.notes[0]

    def test_a_dataset_without_images_has_its_row(self, source, output):
        write_dataset(source / "empty", [])
        write_dataset(source / "moths", [image_of(1, "a.jpg")])
        summary = prepare(source, output, validation=0).summary
        assert summary["images"].to_list() == [0, 1, 1]

    def test_images_of_one_scene_on_both_sides_are_named(self, source, output):
        folder = source / "clip"
        frames = [folder / f"{quality}.jpg" for quality in range(30, 90, 3)]
        original = pyvips.Image.new_from_file(str(write_image(folder / "original.png")))
        for frame in frames:
            original.jpegsave(str(frame), Q=int(frame.stem))
        (folder / "original.png").unlink()
        write_dataset(folder, [image_of(k, frame.name) for k, frame in enumerate(frames)])
        prepared = prepare(source, output, validation=0.5)
        count = totals(prepared.summary)
        assert 0 < count["train"] < len(frames)
        assert len(prepared.similar) == count["val"]
        manifest = json.loads((output / "insects/manifest.json").read_text())
        for scene, listed in zip(prepared.similar, manifest["similar"], strict=True):
            assert (output / "insects/images/train" / scene.train.replace("/", "_")).is_file()
            assert (output / "insects/images/val" / scene.val.replace("/", "_")).is_file()
            assert scene.more == count["train"] - 1
            assert listed["val"] == scene.val

    def test_the_same_file_twice_lands_on_one_side_and_is_noted(self, source, output):
        write_dataset(source / "moths", [image_of(1, "a.jpg")])
        (source / "flies").mkdir()
        shutil.copy(source / "moths/a.jpg", source / "flies/z.jpg")
        write_dataset(source / "flies", [image_of(1, "z.jpg")])
        prepared = prepare(source, output, validation=0.5)
        assert prepared.similar == ()
        assert "the same file is there 2 times: flies/z.jpg, moths/a.jpg" in prepared.notes

    def test_an_image_that_exif_turns_is_annotated_as_displayed(self, source, output):
        turned = pyvips.Image.black(HEIGHT, WIDTH, bands=3).copy()
        turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
        (source / "moths").mkdir(parents=True)
        turned.jpegsave(str(source / "moths/a.jpg"))
        write_dataset(source / "moths", [image_of(1, "a.jpg")])
        assert totals(prepare(source, output).summary)["images"] == 1
        write_dataset(source / "moths", [image_of(1, "a.jpg", width=HEIGHT, height=WIDTH)])
        with pytest.raises(DatasetError, match="annotated as stored, 48 x 64 pixels, but its EXIF orientation turns"):
            prepare(source, output, force=True)


def zero_bytes(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"")


def truncated(folder: Path) -> None:
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-400])


def a_document(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"%PDF-1.4 not an image")


def missing(folder: Path) -> None:
    (folder / "a.jpg").unlink()


def another_size(folder: Path) -> None:
    write_image(folder / "a.jpg", width=WIDTH * 2)


def lists(*images: dict[str, Any], annotations: Sequence[dict[str, Any]] = ()):
    def change(folder: Path) -> None:
        write_dataset(folder, images, annotations, draw=False)

    return change


def ambiguous(folder: Path) -> None:
    write_image(folder / "one/b.jpg")
    write_image(folder / "two/b.jpg")
    write_dataset(folder, [image_of(1, "b.jpg")], draw=False)


def no_annotations(folder: Path) -> None:
    (folder / "instances_default.json").unlink()


def two_annotations(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        shutil.copy(folder / "instances_default.json", folder / name)
    no_annotations(folder)


OUTSIDE = animal(7, segmentation=[[100, 100, 120, 100, 120, 120]])


@pytest.mark.parametrize(
    ("damage", "what", "where"),
    [
        (zero_bytes, "empty", "a.jpg"),
        (truncated, "broken", "a.jpg"),
        (a_document, "not in a known format", "a.jpg"),
        (missing, "'a.jpg' is listed, but not in the folder", "instances_default.json"),
        (another_size, "'a.jpg' has 128 x 48 pixels, its annotations say 64 x 48", "a.jpg"),
        (lists(image_of(1, "../../x.jpg")), r"'../../x.jpg' leads out", "instances_default.json"),
        (lists(image_of(1, "/etc/x.jpg")), r"'/etc/x.jpg' leads out", "instances_default.json"),
        (lists(image_of(1, "a\0.jpg")), "leads out", "instances_default.json"),
        (lists(image_of(1, "a" * 300 + ".jpg")), "longer than any file", "instances_default.json"),
        (lists(image_of(1, "a.gif")), "'a.gif' is not of a known format", "instances_default.json"),
        (lists(image_of(1, "a.jpg"), image_of(2, "./a.jpg")), "images 1 and 2 are both", "instances_default.json"),
        (lists(image_of(1, "a.jpg"), annotations=[OUTSIDE]), "annotation 7 lies outside", "instances_default.json"),
        (ambiguous, "'b.jpg' could be any of 2 images", "instances_default.json"),
        (no_annotations, "has no instances_default.json", "moths"),
        (two_annotations, "has 2 files instances_default.json", "moths"),
    ],
)
def test_a_broken_dataset_is_named_and_nothing_is_written(source, output, damage, what, where):
    write_dataset(source / "flies", [image_of(1, "fine.jpg")], [animal(1)])
    write_dataset(source / "moths", [image_of(1, "a.jpg")], [animal(1)])
    damage(source / "moths")
    with pytest.raises(DatasetError, match=what) as caught:
        prepare(source, output)
    assert Path(caught.value.where).name == where
    assert [path.name for path in output.parent.iterdir()] == ["pre-pro"]


def test_several_broken_images_are_one_error_that_names_them(source, output):
    names = [f"{number}.jpg" for number in range(8)]
    write_dataset(source / "moths", [image_of(k, name) for k, name in enumerate(names)])
    for name in names[1:]:
        (source / "moths" / name).write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        prepare(source, output)
    assert caught.value.where.endswith("1.jpg")
    assert "6 in all" in caught.value.mend
    assert "2.jpg" in caught.value.mend


class TestWhatIsRefused:
    @pytest.fixture(autouse=True)
    def dataset(self, source):
        write_dataset(source / "moths", [image_of(1, "a.jpg")], [animal(1)])

    @pytest.mark.parametrize("fraction", [-0.1, 1.01, float("nan")])
    def test_a_fraction_out_of_range(self, source, output, fraction):
        with pytest.raises(UsageError, match="not from 0 to 1"):
            prepare(source, output, validation=fraction)

    @pytest.mark.parametrize("place", [".", "moths", "moths/new", ".."])
    def test_an_output_in_the_input_or_around_it(self, source, place):
        before = files_in(source)
        with pytest.raises(UsageError, match="lie in each other"):
            prepare(source, source / place, force=True)
        assert files_in(source) == before

    def test_an_existing_output_without_force(self, source, output):
        prepare(source, output)
        with pytest.raises(OutputError, match="exists") as caught:
            prepare(source, output)
        assert "-f" in caught.value.mend

    def test_an_empty_output_is_as_good_as_none(self, source, output):
        output.mkdir()
        prepare(source, output)
        assert (output / "data.yaml").is_file()

    def test_force_replaces_a_tree(self, source, output):
        prepare(source, output)
        (output / "insects/images/train/old.jpg").touch()
        prepare(source, output, force=True)
        assert not (output / "insects/images/train/old.jpg").exists()
        assert sorted(path.name for path in output.parent.iterdir()) == ["fb_yolo", "pre-pro"]

    def test_force_replaces_nothing_that_is_not_a_tree(self, source, output):
        thesis = output / "thesis.tex"
        output.mkdir()
        thesis.touch()
        with pytest.raises(OutputError, match=r"has no data\.yaml"):
            prepare(source, output, force=True)
        (output / "insects").mkdir()
        (output / "data.yaml").touch()
        with pytest.raises(OutputError, match=r"also holds 'thesis\.tex'"):
            prepare(source, output, force=True)
        assert thesis.exists()

    def test_a_file_as_output(self, source, output):
        output.touch()
        with pytest.raises(OutputError, match="is a file"):
            prepare(source, output, force=True)

    def test_the_old_tree_stays_when_the_new_one_cannot_be_made(self, source, output):
        prepare(source, output)
        before = files_in(output)
        (source / "moths/a.jpg").write_bytes(b"")
        with pytest.raises(DatasetError):
            prepare(source, output, force=True)
        assert files_in(output) == before

    def test_an_output_folder_that_cannot_be_written(self, source, tmp_path):
        blocker = tmp_path / "file"
        blocker.touch()
        with pytest.raises(OutputError) as caught:
            prepare(source, blocker / "fb_yolo")
        assert caught.value.where == str(blocker / "fb_yolo")
        assert blocker.is_file()

    def test_an_input_that_is_absent_empty_or_a_single_dataset(self, source, output, tmp_path):
        (tmp_path / "nothing").mkdir()
        for wrong in (tmp_path / "none", tmp_path / "nothing", source / "moths"):
            with pytest.raises(DatasetError) as caught:
                prepare(wrong, output)
            assert caught.value.where == str(wrong)


class TestCommand:
    def fb(self, *words: str | Path) -> int:
        return run(build_app(), ["data", "prepare", *map(str, words)])

    def test_the_table_names_every_dataset_and_where_the_tree_is(self, source, output, capsys):
        write_dataset(source / "light_traps", [image_of(1, "a.jpg")], [animal(1)])
        write_image(source / "light_traps/b.jpg")
        assert self.fb("-i", source, "-o", output, "-p", "0") == 0
        printed = capsys.readouterr()
        assert "light_traps" in printed.out
        assert str(output / "data.yaml") in printed.out
        assert "b.jpg" in printed.err

    def test_json_is_one_object(self, source, output, capsys):
        write_dataset(source / "light_traps", [image_of(1, "a.jpg")], [animal(1)])
        assert self.fb("--input", source, "--output", output, "--validation", "1", "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["datasets"][0]["dataset"] == "light_traps"
        assert printed["datasets"][0]["val"] == 1
        assert printed["notes"] == ["no image fell into train"]

    def test_the_long_options_of_flat_bug_1x(self, source, output):
        write_dataset(source / "moths", [image_of(1, "a.jpg")])
        assert self.fb("--input-data", source, "--output-dir", output, "--validation-proportion", "0.5") == 0
        assert self.fb("-i", source, "-o", output) == OutputError.exit_code
        assert self.fb("-i", source, "-o", output, "--force") == 0

    def test_an_error_has_three_lines_and_nothing_else(self, source, output, capfd):
        write_image(source / "moths/a.png", width=500, height=400)
        write_dataset(source / "moths", [image_of(1, "a.png", width=500, height=400)])
        path = source / "moths/a.png"
        path.write_bytes(path.read_bytes()[:3000])
        assert self.fb("-i", source, "-o", output) == FlatBugError.exit_code
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 3
        assert str(path) in lines[1]


@pytest.mark.real
@pytest.mark.real
def test_the_real_datasets(real_data, tmp_path, output):
    source = tmp_path / "some"
    source.mkdir()
    # The largest one takes longer than all others together and shows nothing that they do not.
    for folder in real_data.iterdir():
        if folder.name != "spohf-yellow-sticky":
            (source / folder.name).symlink_to(folder)
    prepared = prepare(source, output)
    documents = {path.parent.name: json.loads(path.read_text()) for path in source.glob("*/instances_default.json")}
    per_dataset = {row["dataset"]: row for row in prepared.summary.iter_rows(named=True)}
    for name, document in documents.items():
        assert per_dataset[name]["images"] == len(document["images"])
        assert per_dataset[name]["animals"] == len(document["annotations"])
    assert per_dataset["(all)"]["repaired"] == per_dataset["(all)"]["dropped"] == 0
    assert {scene.train.split("/")[0] for scene in prepared.similar} == {"bumblebees", "ami-moth-sheets"}
