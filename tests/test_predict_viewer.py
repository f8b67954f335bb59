"""``fb predict --viewer`` and ``fb export --viewer``: a folder that is opened in a browser."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.spots import fb, spots, write_network


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    Image.fromarray(spots(200, 120, [(50, 60), (150, 60)])).save(folder / "card.png")
    Image.fromarray(spots(120, 90, [])).save(folder / "viewer.png")  # named like the folder of the viewer
    return folder


def listed(viewer: Path) -> list[dict[str, object]]:
    text = (viewer / "images.js").read_text(encoding="ascii")
    return list(json.loads(json.loads(text[text.index("(", text.index("JSON")) + 1 : text.rindex("))")]))["images"])


def test_a_run_ends_with_a_page_and_a_second_one_leaves_it_alone(images: Path, tmp_path: Path) -> None:
    output, network = tmp_path / "out", write_network(tmp_path / "spots.onnx")
    command = ["predict", "-i", images, "-o", output, "-w", network, "--viewer"]
    assert fb(*command) == 0
    page = output / "viewer" / "index.html"
    assert page.is_file()
    assert [(image["title"], image["count"]) for image in listed(output / "viewer")] == [
        ("card.png", 2),
        ("viewer.png", 0),
    ]
    tiles = sorted((output / "viewer").rglob("*_*.jpg"))
    stamps = [tile.stat().st_mtime_ns for tile in tiles]
    assert fb(*command) == 0
    assert [tile.stat().st_mtime_ns for tile in tiles] == stamps
    assert len(list(output.rglob("metadata_*.json"))) == 2


@pytest.mark.parametrize("left_out", [["--only-overviews"], ["--no-metadata", "-C", "--no-measurements"]])
def test_the_page_shows_the_images_whatever_else_is_left_out(images: Path, tmp_path: Path, left_out: list[str]) -> None:
    output, network = tmp_path / "out", write_network(tmp_path / "spots.onnx")
    assert fb("predict", "-i", images, "-o", output, "-w", network, "--viewer", *left_out) == 0
    assert [image["title"] for image in listed(output / "viewer")] == ["card.png", "viewer.png"]


def test_a_viewer_that_no_longer_shows_the_results_is_told_of(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "-i", images, "-o", tmp_path / "out", "-w", write_network(tmp_path / "spots.onnx")]
    for options, is_old in ((["--viewer"], False), ([], False), (["--score-threshold", "0.6"], True)):
        assert fb(*command, *options) == 0
        assert ("the viewer shows what an earlier command has found" in capsys.readouterr().err) == is_old


def test_results_that_are_there_already_are_viewed(images: Path, tmp_path: Path) -> None:
    output, network = tmp_path / "out", write_network(tmp_path / "spots.onnx")
    assert fb("predict", "-i", images, "-o", output, "-w", network, "--no-crops") == 0
    assert fb("export", output, "--viewer") == 0
    assert (output / "viewer" / "index.html").is_file()


def test_the_viewer_is_one_of_the_formats_that_can_be_named(images: Path, tmp_path: Path) -> None:
    output, network = tmp_path / "out", write_network(tmp_path / "spots.onnx")
    command = ["predict", "-i", images, "-o", output, "-w", network, "--no-crops"]
    assert fb(*command, "--formats", "Viewer,geojson") == 0
    assert (output / "viewer" / "index.html").is_file()
    assert (output / "geojson" / "card.geojson").is_file()
    assert fb("export", output, "-o", tmp_path / "later", "--formats", "viewer") == 0
    assert [path.name for path in (tmp_path / "later").iterdir()] == ["viewer"]


def test_a_misspelt_viewer_is_told_its_name(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fb("predict", "-i", images, "-o", tmp_path / "out", "--formats", "veiwer") == 2
    assert "did you mean viewer?" in capsys.readouterr().err


def test_an_image_that_is_gone_is_named_and_the_others_are_viewed(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, network = tmp_path / "out", write_network(tmp_path / "spots.onnx")
    assert fb("predict", "-i", images, "-o", output, "-w", network, "--no-crops") == 0
    (images / "card.png").unlink()
    assert fb("export", output, "--viewer") == 1
    assert "card.png" in capsys.readouterr().err
    assert [image["title"] for image in listed(output / "viewer")] == ["viewer.png"]
