"""An array is an image whatever its strides; one of another layout or type is an error that says how to mend it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flat_bug.errors import ImageError
from flat_bug.imaging import open_image

PHOTO = np.random.default_rng(3).integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = np.dstack([PHOTO[..., 0]] * 3)


def read(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    image = open_image(array)
    return image.read(0, 0, image.width, image.height)


@pytest.mark.parametrize(
    ("array", "seen"),
    [
        (PHOTO, PHOTO),
        (PHOTO[::-1, ::-1], PHOTO[::-1, ::-1]),
        (np.asfortranarray(PHOTO), PHOTO),
        (np.repeat(PHOTO, 2, axis=1)[:, ::2], PHOTO),
        (PHOTO[..., 0], GREY),
        (PHOTO[..., :1], GREY),
        (PHOTO.astype(np.uint16) * 256, PHOTO),
        (PHOTO.astype(">u2") * 256, PHOTO),
        (PHOTO[..., 0].astype(np.uint16) * 256, GREY),
        (PHOTO / 255, PHOTO),
        (PHOTO.astype(np.float32) / 255, PHOTO),
        (PHOTO[..., 0].astype(np.float16) / 255, GREY),
        (np.broadcast_to(np.uint8(7), (4, 5, 3)), np.full((4, 5, 3), 7, np.uint8)),
        (np.ma.masked_array(PHOTO, PHOTO > 9), PHOTO),
    ],
)
def test_arrays_are_images(array: npt.NDArray[Any], seen: npt.NDArray[np.uint8]) -> None:
    before = array.copy()
    np.testing.assert_array_equal(read(array), seen)
    np.testing.assert_array_equal(array, before)


def test_transparent_arrays_lie_over_white() -> None:
    clear = np.dstack([PHOTO, np.where(PHOTO[..., :1] > 99, 255, 0).astype(np.uint8)])
    np.testing.assert_array_equal(read(clear), np.where(PHOTO[..., :1] > 99, PHOTO, 255))


@pytest.mark.parametrize(
    ("array", "mend"),
    [
        (PHOTO.transpose(2, 0, 1), "array.transpose(1, 2, 0)"),
        (PHOTO[None], "array[0]"),
        (np.stack([PHOTO, PHOTO]), "one image at a time"),
        (np.zeros((9, 9, 5), np.uint8), "array[..., [0, 1, 2]]"),
        (PHOTO[..., :2], "array[..., 0]"),
        (PHOTO[:0], "pixels"),
        (PHOTO.ravel(), "(h, w, 3)"),
        (np.asarray(np.uint8(3)), "(h, w, 3)"),
        (PHOTO > 99, "array.astype(np.uint8) * 255"),
        (PHOTO.astype(np.int64), "array.astype(np.uint8)"),
        (PHOTO.astype(np.int32) * 9, "array.astype(np.uint16)"),
        (PHOTO.astype(np.int32) * 999, "scale them to 0–255"),
        (PHOTO.astype(np.int32) - 9, "scale them to 0–255"),
        (PHOTO.astype(np.float64), "between 0 and 1"),
        (PHOTO / 255 - 0.5, "between 0 and 1"),
        (np.full((4, 4), np.nan), "nan_to_num"),
        (np.full((4, 4), np.inf), "between 0 and 1"),
        (PHOTO.astype(object), "numbers"),
        (np.array([["a", "b"]]), "np.uint8"),
        (PHOTO.astype(complex), "np.uint8"),
        (np.zeros((3, 3), "datetime64[s]"), "np.uint8"),
    ],
)
def test_other_arrays_are_refused_and_it_is_said_how_to_mend_them(array: npt.NDArray[Any], mend: str) -> None:
    with pytest.raises(ImageError, match="is not an image") as caught:
        open_image(array)
    assert mend in caught.value.mend
    assert str(array.shape) in caught.value.what


@given(
    hnp.arrays(
        st.one_of(hnp.scalar_dtypes(), st.just(np.dtype(object))),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_any_array_is_an_image_or_an_error_of_ours(array: npt.NDArray[Any]) -> None:
    try:
        seen = read(array)
    except ImageError as error:
        assert error.mend  # noqa: PT017  # an image is as good
    else:
        assert seen.shape == (*array.shape[:2], 3)


@pytest.mark.parametrize("thing", [None, 3, [[1, 2]], b"bytes"])
def test_what_is_neither_a_path_nor_an_array(thing: Any) -> None:
    with pytest.raises(ImageError, match="is not an image") as caught:
        open_image(thing)
    assert "np.asarray" in caught.value.mend
