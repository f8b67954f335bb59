"""How far a run over many images is: an image that takes long shows how far it is itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.spots import spots

from flat_bug import progress
from flat_bug.predict import Predictor
from flat_bug.prediction_run import Crew, Recipe, find_images, pace, predict_images
from flat_bug.prediction_run.one_image import Finished
from flat_bug.prediction_run.pace import MANY_TILES, showing
from flat_bug.prediction_run.summary import ImageRow
from flat_bug.progress import Pace

LARGE = "large.png"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a large image among small ones."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(spots(600, 600, [(25, 30)])).save(folder / LARGE)
    for number in range(3):
        Image.fromarray(spots(64, 64, [(30, 30)])).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def _without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(pace, "SECONDS_BETWEEN_SHOWS", 0.0)


@pytest.mark.usefixtures("_without_delay")
def test_a_large_image_among_others_shows_its_tiles(
    images: Path, spots_network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict_images(find_images([images]), Predictor(spots_network), None)
    lines = capsys.readouterr().err.splitlines()
    within = [line for line in lines if "tiles at hand" in line]
    assert len(within) > 3
    assert all(line.startswith("Predicting: 3 of 4") for line in within), "small ones do not flicker"


@pytest.mark.slow
@pytest.mark.usefixtures("_without_delay")
def test_so_it_does_in_a_process_of_its_own(
    images: Path,
    spots_network: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    often = "import sys\nif 'spawn_main' in ' '.join(sys.orig_argv):\n"
    often += "    import flat_bug.prediction_run.worker as worker\n    worker.SECONDS_BETWEEN_TILES = 0.0\n"
    (tmp_path / "sitecustomize.py").write_text(often)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    run = predict_images(find_images([images]), Crew(Recipe(spots_network), ["cpu"] * 2), None)
    assert [row.status for row in run.rows] == ["done"] * 4
    assert "tiles at hand" in capsys.readouterr().err


def test_what_is_done_of_an_image_counts_for_the_rate_and_the_time_left(images: Path) -> None:
    found = find_images([images])
    position = [image.file_name for image in found].index(LARGE)
    shown: list[Pace] = []
    sizes = pace._Sizes(found)
    with sizes:
        tell = pace.Progress(sizes, shown.append)
        tell.looked(position, 1, MANY_TILES)
        while not all(size > 0 for size in sizes._megapixels):  # the headers are read in the background
            time.sleep(0.01)
        tell.looked(position, MANY_TILES // 2, MANY_TILES)
        half = sizes.now()
        tell.finished(position, Finished(ImageRow(LARGE, "done", megapixels=0.36)))
        whole = sizes.now()
    assert half.size_done == half.size_worked == pytest.approx(0.18)
    assert half.within == (MANY_TILES // 2, MANY_TILES)
    assert whole.size_done == whole.size_worked == pytest.approx(0.36)
    assert whole.within is None
    assert half.size_done + (half.size_left or 0) == pytest.approx(whole.size_done + (whole.size_left or 0))


def test_thousands_of_images_are_not_added_up_for_each_of_them(images: Path) -> None:
    found = find_images([images])
    shown: list[Pace] = []
    with showing(found) as tell:
        tell._show = shown.append
        for _ in range(1000):
            tell.finished(0, Finished(ImageRow("0.png", "skipped", megapixels=1.0)))
    assert len(shown) < 1000


def test_the_work_goes_on_where_nobody_reads_how_far_it_is(images: Path, spots_network: Path, tmp_path: Path) -> None:
    code = (
        "from flat_bug import progress; from flat_bug.prediction_run import pace\n"
        "progress.SECONDS_BETWEEN_LINES = pace.SECONDS_BETWEEN_SHOWS = 0.0\n"
        "from flat_bug.cli.main import main; main()"
    )
    reader, writer = os.pipe()
    os.close(reader)
    words = ["predict", "-i", images, "-w", spots_network, "-o", tmp_path / "out", "--score-threshold", "0.5"]
    done = subprocess.run([sys.executable, "-c", code, *words], stderr=writer, stdout=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "out" / "summary.csv").read_text().count(",done,") == 4
