"""Pages of a file: which are images of their own, what they are called, and what is said of those left out."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
from tests.spots import fb, spots

from flat_bug.config import PredictSettings
from flat_bug.files import sha256_of
from flat_bug.imaging.pages import pages_of
from flat_bug.instances.metadata import read_metadata
from flat_bug.predict import Predictor
from flat_bug.prediction_run import InputImage, OutputSettings, find_images
from flat_bug.prediction_run.layout import Layout
from flat_bug.prediction_run.parts import WHOLE, Part
from flat_bug.prediction_run.results import ResultsWriter

CARDS = [spots(300, 200, [(60, 60)]), spots(300, 200, [(60, 60), (200, 100)]), spots(240, 160, [])]


def write_pages(path: Path, *pages: np.ndarray, big: bool = False) -> Path:
    with tifffile.TiffWriter(path, bigtiff=big) as file:
        for page in pages:
            file.write(page, photometric="rgb", metadata=None)
    return path


@pytest.mark.parametrize("big", [False, True])
def test_each_page_of_a_document_is_an_image(tmp_path: Path, big: bool) -> None:
    assert pages_of(write_pages(tmp_path / "a.tif", *CARDS, big=big)).own == (1, 2, 3)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("is_marked", [True, False])
def test_smaller_copies_of_the_first_page_are_no_images(tmp_path: Path, byteorder: str, is_marked: bool) -> None:
    card = spots(301, 203, [(60, 60)])
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=byteorder) as file:
        for step in (1, 2, 4):
            kind = 1 if is_marked and step > 1 else 0
            file.write(card[::step, ::step].copy(), photometric="rgb", tile=(64, 64), subfiletype=kind, metadata=None)
        file.write(CARDS[1], photometric="rgb", metadata=None)
    assert pages_of(tmp_path / "a.tif").own == (1, 4)


def test_a_marked_thumbnail_of_any_size_is_no_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(CARDS[0], photometric="rgb", metadata=None)
        file.write(CARDS[0][::3, ::3].copy(), photometric="rgb", subfiletype=1, metadata=None)
    assert pages_of(tmp_path / "a.tif").own == (1,)


def test_levels_that_ome_keeps_below_a_page_are_no_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(CARDS[0], photometric="rgb", tile=(64, 64), subifds=1)
        file.write(CARDS[0][::2, ::2].copy(), photometric="rgb", tile=(64, 64), subfiletype=1)
    assert pages_of(tmp_path / "a.ome.tif").own == (1,)


def test_of_a_slide_only_the_scan_is_an_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.svs") as file:
        description = "Aperio Image Library v12\r\n300x200"
        file.write(CARDS[0], photometric="rgb", tile=(64, 64), description=description, metadata=None)
        for size in (150, 77, 90):
            file.write(CARDS[1][:size, :size].copy(), photometric="rgb", metadata=None)
    assert pages_of(tmp_path / "a.svs").own == (1,)


def test_damaged_directories_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", *CARDS)
    content = bytearray(path.read_bytes())
    first = int.from_bytes(content[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
    content[after : after + 4] = (len(content) - 3).to_bytes(4, "little")
    path.write_bytes(content)
    assert pages_of(path).own == (1,)


def test_a_directory_further_on_than_any_file_is_long_is_damage_too(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", *CARDS, big=True)
    content = bytearray(path.read_bytes())
    at = [int.from_bytes(content[8:16], "little")]
    for _ in range(2):
        after = at[-1] + 8 + 20 * int.from_bytes(content[at[-1] : at[-1] + 8], "little")
        at.append(int.from_bytes(content[after : after + 8], "little"))
    content[after : after + 8] = (2**63).to_bytes(8, "little")
    path.write_bytes(content)
    assert pages_of(path).own[0] == 1


def test_pages_have_names_that_no_file_has(tmp_path: Path) -> None:
    write_pages(tmp_path / "a.tif", *CARDS[:2])
    write_pages(tmp_path / "a_p2.tif", *CARDS[:2])
    write_pages(tmp_path / "one.tif", CARDS[0])
    found = find_images([tmp_path], page="all")
    assert [(image.file_name, image.name, image.part.page) for image in found] == [
        ("a.tif", "a", 1),
        ("a.tif_p2.tif", "a.tif_p2", 2),
        ("a_p2.tif", "a_p2", 1),
        ("a_p2_p2.tif", "a_p2_p2", 2),
        ("one.tif", "one", None),
    ]
    assert [image.source for image in found[:2]] == ["a.tif", "a.tif"]


def predict(network: Path, images: Path, output: Path, *words: str) -> dict[str, object]:
    code = fb("predict", "-i", images, "-o", output, "-w", network, "--single-scale", *words)
    rows = pl.read_csv(output / "summary.csv", infer_schema_length=None).to_dicts()
    return {"code": code, **{row["image"]: row for row in rows}}


def test_all_pages_are_predicted_and_each_says_which_it_is(spots_network: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_pages(tmp_path / "in" / "card.tif", *CARDS)
    found = predict(spots_network, tmp_path / "in", tmp_path / "out", "--page", "all")
    counts = {name: row["instances"] for name, row in found.items() if name != "code"}
    assert counts == {"card.tif": 1, "card_p2.tif": 2, "card_p3.tif": 0}
    assert found["code"] == 0
    assert found["card_p2.tif"]["file"] == "card.tif"
    (written,) = (tmp_path / "out" / "card_p2").glob("metadata_card_p2_*.json")
    assert json.loads(written.read_text())["page"] == 2
    coco = json.loads((tmp_path / "out" / "coco_instances.json").read_text())
    assert [(image["file_name"], image["page"]) for image in coco["images"]] == [
        ("card.tif", 1),
        ("card_p2.tif", 2),
        ("card_p3.tif", 3),
    ]
    again = predict(spots_network, tmp_path / "in", tmp_path / "out", "--page", "all")
    assert {row["status"] for name, row in again.items() if name != "code"} == {"skipped"}


def test_the_first_page_alone_is_predicted_with_a_note_that_there_are_more(
    spots_network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = write_pages(tmp_path / "card.tif", *CARDS)
    found = predict(spots_network, card, tmp_path / "out")
    assert (found["card.tif"]["instances"], found["card.tif"]["pages"]) == (1, 3)
    assert "only the first was looked at (--page all): card.tif (3)" in capsys.readouterr().err
    # What is known of the first page is not worked out again for all of them.
    found = predict(spots_network, card, tmp_path / "out", "--page", "all")
    assert [row["instances"] for name, row in found.items() if name != "code"] == [1, 2, 0]
    assert "--page all" not in capsys.readouterr().err


def test_one_page_is_wanted_and_a_file_without_it_is_a_row_that_failed(spots_network: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_pages(tmp_path / "in" / "card.tif", *CARDS)
    write_pages(tmp_path / "in" / "one.tif", CARDS[0])
    found = predict(spots_network, tmp_path / "in", tmp_path / "out", "--page", "2")
    assert found["code"] == 1
    assert found["card_p2.tif"]["instances"] == 2
    assert found["one_p2.tif"]["reason"] == "there is no page 2: the image has 1"


@pytest.mark.parametrize("part", [WHOLE, Part(page=2, suffix="_p2")])
def test_results_of_a_file_that_is_replaced_meanwhile_are_those_of_the_former_one(
    spots_network: Path, tmp_path: Path, part: Part
) -> None:
    card, other = (write_pages(tmp_path / name, *pages) for name, pages in [("a.tif", CARDS), ("b.tif", CARDS[::-1])])
    digest = sha256_of(card)
    predictor = Predictor(spots_network, PredictSettings(single_scale=True))
    writer = ResultsWriter(predictor, Layout(tmp_path / "out", long_format=False), OutputSettings(), tmp_path)

    def replace_it(done: int, count: int) -> None:
        if other.exists():
            other.replace(card)

    written = writer.predict(InputImage(card, "a.tif", "a", part=part), replace_it)
    assert not other.exists()
    assert written.metadata is not None
    assert read_metadata(written.metadata).instances.provenance.image_sha256 == digest


@pytest.mark.parametrize("words", ["0", "-1", "first"])
def test_what_is_no_page_is_refused(tmp_path: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fb("predict", "-i", tmp_path, "-o", tmp_path / "out", f"--page={words}") == 2
    assert "--page" in capsys.readouterr().err
