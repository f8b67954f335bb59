"""A large image that can only be decoded from its start is laid out on the disk, once, unseen and without a trace."""

import gc
import shutil
import tempfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
import tifffile
from PIL import Image

from flat_bug.errors import ImageError
from flat_bug.imaging import LazyImage, limits, open_image

Pixels = npt.NDArray[np.uint8]
SELF = Path("/proc/self/fd")
PHOTO = np.random.default_rng(0).integers(0, 256, (90, 140, 3)).astype(np.uint8)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PHOTO).save(path, exif=exif)


def with_profile(path: Path) -> None:
    picture = pyvips.Image.new_from_array(PHOTO).copy(interpretation="srgb")
    picture.icc_export(output_profile="p3").pngsave(str(path))


WRITERS: dict[str, Callable[[Path], object]] = {
    "jpeg.jpg": Image.fromarray(PHOTO).save,
    "turned.jpg": turned,
    "cmyk.jpg": Image.fromarray(PHOTO).convert("CMYK").save,
    "grey.png": Image.fromarray(PHOTO[..., 0]).save,
    "see-through.png": Image.fromarray(np.dstack([PHOTO, PHOTO[..., 0]])).save,
    "profile.png": with_profile,
    "strips.tif": lambda path: tifffile.imwrite(path, PHOTO, photometric="rgb", rowsperstrip=7),
    "16 bit.tif": lambda path: tifffile.imwrite(path, PHOTO.astype(np.uint16) * 257, photometric="rgb"),
    "float.tif": lambda path: tifffile.imwrite(path, PHOTO / np.float32(255), photometric="rgb"),
    "tiles.tif": lambda path: tifffile.imwrite(path, PHOTO, photometric="rgb", tile=(32, 48)),
    "loss-free.webp": lambda path: Image.fromarray(PHOTO).save(path, lossless=True),
}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is that for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def unpacked(path: Path, page: int | None = None) -> LazyImage:
    """Open an image as if it were too large for the memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "IN_MEMORY", 0)
        return open_image(path, page=page)


def everything(image: LazyImage) -> Pixels:
    return image.read(0, 0, image.width, image.height)


@pytest.mark.parametrize("name", WRITERS)
def test_pixels_are_those_of_an_image_that_is_kept_in_memory(name: str, tmp_path: Path, temporary: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    kept, laid_out = open_image(path), unpacked(path)
    assert (laid_out.width, laid_out.height) == (kept.width, kept.height)
    np.testing.assert_array_equal(everything(laid_out), everything(kept))
    np.testing.assert_array_equal(laid_out.read(3, 5, 20, 20, (70, 45)), kept.read(3, 5, 20, 20, (70, 45)))
    assert list(temporary.iterdir()) == []


def test_only_what_cannot_be_read_in_place_is_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder for temporary files, a tiled TIFF can be read all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr("flat_bug.imaging.opening.check_room", lambda *_: None)
    for name in ("tiles.tif", "strips.tif"):
        WRITERS[name](tmp_path / name)
    np.testing.assert_array_equal(everything(unpacked(tmp_path / "tiles.tif")), PHOTO)
    with pytest.raises(ImageError, match="temporary files"):
        everything(unpacked(tmp_path / "strips.tif"))


def test_a_page_of_several(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([PHOTO, 255 - PHOTO]), photometric="rgb")
    np.testing.assert_array_equal(everything(unpacked(tmp_path / "pages.tif", page=2)), 255 - PHOTO)


@pytest.mark.parametrize("name", ["jpeg.jpg", "grey.png", "strips.tif", "loss-free.webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_an_error_and_leaves_nothing(
    name: str, share: float, tmp_path: Path, temporary: Path
) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ImageError) as caught:
        everything(unpacked(path))
    assert caught.value.where == str(path)
    assert list(temporary.iterdir()) == []


def test_an_image_for_which_there_is_no_room_is_refused_before_it_is_decoded(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS["strips.tif"](tmp_path / "strips.tif")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 100, 100))
    with pytest.raises(ImageError, match="temporary files") as caught:
        unpacked(tmp_path / "strips.tif")
    assert str(temporary) in str(caught.value)
    assert "TMPDIR" in str(caught.value.mend)


def open_files(folder: Path) -> int:
    """Return how many files of a folder this process has open, those without a name included."""
    return sum(path.is_symlink() and str(path.readlink()).startswith(str(folder)) for path in SELF.iterdir())


def test_the_file_is_given_back_with_the_image(tmp_path: Path, temporary: Path) -> None:
    WRITERS["strips.tif"](tmp_path / "strips.tif")
    image = unpacked(tmp_path / "strips.tif")
    everything(image)
    assert open_files(temporary) == 1
    del image
    gc.collect()
    assert open_files(temporary) == 0


def test_tiles_that_cannot_be_written_are_no_fault_of_the_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS["jpeg.jpg"](tmp_path / "jpeg.jpg")
    image = open_image(tmp_path / "jpeg.jpg")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("this folder is read-only")

    monkeypatch.setattr("flat_bug.imaging.lazy.save_deep_zoom", refuse)
    with pytest.raises(PermissionError):
        image.save_tiles(tmp_path / "tiles", side=256, overlap=1)
    assert everything(image).shape == PHOTO.shape
